"""Which index each read is served by, with the planner's own costs."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

import asyncpg
import pytest

from booking_service.cli import indexes
from booking_service.storage.database import Database
from tests.booking.plans.explained import DAY, GREATEST, LARGE, LEAST, NOW, explain, seeded_id

# The first of them fills the database.
pytestmark = pytest.mark.timeout(180)

FIRST, LAST = date(1, 1, 1), date(9999, 12, 31)
BEGINNING, END = datetime(1, 1, 2, tzinfo=UTC), datetime(9999, 12, 31, tzinfo=UTC)
PACKAGE, BOOKING, VENDOR = seeded_id("package17"), seeded_id("booking22"), seeded_id("vendor7")
USER = "user 77"
REFUND = seeded_id("refund1")
BOTH = ["COMPLETED", "REQUESTED"]
MONTH = timedelta(30)


def search(location: str | None, type: str | None, start: date | None) -> tuple[object, ...]:
    end = start + timedelta(3) if start else None
    position = ("PRICE_ASC", -(2**63), LEAST, 51)
    return (location, type, start, end, 1, None, None, None, None, NOW, *position)


def by_rating(type: str) -> tuple[object, ...]:
    filters = search(None, type, None)
    return (*filters[:10], "RATING", *filters[11:])


def listing(start: date, end: date, *found_by: object) -> tuple[object, ...]:
    earliest = max(start.toordinal() - 365, 1)
    last_seen = (END, GREATEST, 51)
    return ([], start, end, date.fromordinal(earliest), *last_seen, BEGINNING, None, *found_by)


def of_vendor() -> tuple[object, ...]:
    return (*listing(FIRST, LAST)[:-1], VENDOR)


def refunds(states: list[str], *of: object) -> tuple[object, ...]:
    return (states, BEGINNING, END, BEGINNING, LEAST, 51, *of)


PLANS: list[tuple[str, str, tuple[object, ...], set[str]]] = [
    ("packages.get_details", "by id", (PACKAGE,), {"packages_pkey"}),
    ("packages.read", "by ids", ([PACKAGE, BOOKING],), {"packages_pkey"}),
    (
        "packages.search",
        "by place and dates",
        search("place 7", None, DAY),
        {"idx_packages_location_dates", "package_days_pkey", "bookings_live_holds"},
    ),
    (
        "packages.search",
        "by dates alone",
        search(None, None, DAY),
        {"idx_packages_availability", "package_days_pkey", "bookings_live_holds"},
    ),
    ("packages.search", "by type", search(None, "type 3", None), {"idx_packages_popularity"}),
    (
        "packages.list_by_vendor",
        "all",
        (VENDOR, [], END, GREATEST, 51),
        {"idx_packages_vendor"},
    ),
    (
        "packages.list_by_vendor",
        "on sale",
        (VENDOR, ["ACTIVE"], END, GREATEST, 51),
        {"idx_packages_vendor"},
    ),
    (
        "catalog_events.list_by_package",
        "newest",
        (PACKAGE, 2**63 - 1, 51),
        {"catalog_events_package"},
    ),
    (
        "catalog_events.list_by_vendor",
        "newest",
        (VENDOR, 2**63 - 1, 51),
        {"catalog_events_vendor"},
    ),
    (
        "packages.check_availability",
        "of a week",
        (PACKAGE, DAY, DAY + timedelta(7), NOW),
        {"package_days_pkey", "bookings_live_holds"},
    ),
    ("packages.search", "by type and rating", by_rating("type 3"), {"idx_packages_popularity"}),
    (
        "sweeper.scores",
        "of a hundred",
        (LEAST, 100, NOW - MONTH),
        {"packages_pkey", "idx_reviews_package_rating", "bookings_package_confirmed"},
    ),
    ("bookings.get", "by id", (BOOKING,), {"bookings_pkey"}),
    ("bookings.list_events", "first page", (BOOKING, 0, 51), {"booking_events_pkey"}),
    (
        "bookings.get_user_bookings",
        "from a date on",
        listing(DAY, LAST, USER),
        {"idx_bookings_user_date"},
    ),
    (
        "bookings.get_user_package_bookings",
        "all",
        listing(FIRST, LAST, USER, PACKAGE),
        {"idx_bookings_user_package_status"},
    ),
    (
        "bookings.list_by_package",
        "of a month",
        listing(DAY, DAY + MONTH, PACKAGE),
        {"idx_bookings_package_date"},
    ),
    (
        "bookings.list_by_dates",
        "of the first day",
        listing(date(2025, 3, 1), date(2025, 3, 2)),
        {"idx_bookings_date_range"},
    ),
    ("bookings.list_by_vendor", "all", of_vendor(), {"bookings_vendor_created"}),
    (
        "bookings.list_by_payment",
        "all",
        listing(FIRST, LAST, "stripe", "payment 7", None, None),
        {"payments_provider_key", "bookings_pkey"},
    ),
    (
        "bookings.list_recent",
        "all",
        ([], END, GREATEST, 51, BEGINNING),
        {"idx_bookings_created_desc"},
    ),
    (
        "bookings.list_recent",
        "of a month",
        ([], NOW, LEAST, 51, NOW - MONTH),
        {"idx_bookings_created_desc"},
    ),
    ("bookings.revenue", "of a month", (NOW - MONTH, NOW, None), {"idx_bookings_revenue"}),
    (
        "bookings.revenue",
        "of a vendor in a year",
        (NOW - timedelta(365), NOW, VENDOR),
        {"idx_bookings_revenue"},
    ),
    (
        "payments.list_by_booking",
        "first page",
        (BOOKING, BEGINNING, LEAST, 51),
        {"idx_payments_booking_status"},
    ),
    ("payments.booking_of", "by id", (seeded_id("failed3"),), {"payments_pkey"}),
    ("payments.list_failed", "first page", (BEGINNING, LEAST, 51), {"idx_payments_failed"}),
    ("payments.list_failed", "a later page", (NOW, LEAST, 51), {"idx_payments_failed"}),
    ("payments.find_due", "now", (NOW, 100), {"idx_payments_failed", "bookings_pkey"}),
    ("refunds.get", "by id", (REFUND,), {"refunds_pkey"}),
    ("refunds.list", "all", refunds(BOTH), {"refunds_state"}),
    ("refunds.list", "owed", refunds(["REQUESTED"]), {"refunds_state"}),
    ("refunds.list_by_vendor", "all", refunds(BOTH, VENDOR), {"refunds_vendor"}),
    ("refunds.list_by_vendor", "owed", refunds(["REQUESTED"], VENDOR), {"refunds_vendor"}),
    ("refunds.list_by_booking", "all", refunds(BOTH, BOOKING, None), {"refunds_booking"}),
    ("refunds.find_due", "now", (NOW, 100), {"refunds_due", "bookings_pkey"}),
    (
        "reviews.list_by_package",
        "all",
        (PACKAGE, END, GREATEST, 51, 0),
        {"idx_reviews_package_rating"},
    ),
    (
        "reviews.list_by_package",
        "good ones",
        (PACKAGE, END, GREATEST, 51, 4),
        {"idx_reviews_package_rating"},
    ),
    ("reviews.list_by_user", "all", (USER, END, GREATEST, 51), {"idx_reviews_user_created"}),
    ("profiles.get", "by user", (USER,), {"idx_user_profiles_user"}),
]
MANY_VENDORS = """
INSERT INTO vendors (id, name, version, create_time, update_time)
SELECT gen_random_uuid(), 'Vendor', 1, '2025-02-01'::timestamptz + n * interval '1 s', now()
FROM generate_series(1, 20000) AS n
"""
# Read from the index alone: it holds all they answer.
COVERED = {"bookings.revenue", "profiles.get"}


@pytest.mark.parametrize(
    ("name", "args", "expected"),
    [pytest.param(name, args, used, id=f"{name} {what}") for name, what, args, used in PLANS],
)
async def test_read_is_served_by_its_index(
    connection: asyncpg.Connection[asyncpg.Record],
    name: str,
    args: tuple[object, ...],
    expected: set[str],
) -> None:
    plan = await explain(connection, name, *args)
    assert plan.indexes == expected
    assert plan.scanned & LARGE == set()
    if name in COVERED:
        assert plan.index_only == expected


async def test_each_of_the_fifteen_serves_the_statement_that_its_comment_names(
    seeded_dsn: str,
) -> None:
    serving = {(index, name) for name, _, _, used in PLANS for index in used}
    states = await indexes.states(Database(seeded_dsn))
    assert len(states) == 15
    assert {(state.name, state.serves.partition(":")[0]) for state in states} <= serving


async def test_vendors_are_listed_by_an_index_once_there_are_many(
    connection: asyncpg.Connection[asyncpg.Record],
) -> None:
    transaction = connection.transaction()
    await transaction.start()
    await connection.execute(MANY_VENDORS)
    await connection.execute("ANALYZE vendors")
    plan = await explain(connection, "vendors.list", END, GREATEST, 51)
    await transaction.rollback()
    assert (plan.indexes, plan.scanned) == ({"vendors_created"}, set())


async def test_a_table_that_is_scanned_is_seen(
    connection: asyncpg.Connection[asyncpg.Record],
) -> None:
    transaction = connection.transaction()
    await transaction.start()
    await connection.execute("DROP INDEX idx_reviews_user_created")
    plan = await explain(connection, "reviews.list_by_user", USER, END, GREATEST, 51)
    await transaction.rollback()
    assert plan.scanned & LARGE == {"reviews"}
