"""No read scans a large table, with any plan that the server settles on for all parameters."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import date, timedelta
from functools import partial
from typing import Final

import asyncpg
import pytest

from booking_service.domain.booking import RefundState, State
from booking_service.reads.bookings import BookingFilter, BookingQueries
from booking_service.reads.packages import PackageFilter, PackageOrder, PackageQueries
from booking_service.reads.payments import PaymentQueries
from booking_service.reads.profiles import ProfileQueries
from booking_service.reads.refunds import RefundFilter, RefundQueries
from booking_service.reads.reports import ReportQueries
from booking_service.reads.reviews import ReviewFilter, ReviewQueries
from booking_service.storage.clock import SetClock
from booking_service.storage.database import Database
from tests.booking.plans.explained import DAY, LARGE, LEAST, NOW, explain, seeded_id

# The first of them fills the database.
pytestmark = pytest.mark.timeout(180)

PACKAGE, BOOKING, VENDOR = seeded_id("package17"), seeded_id("booking22"), seeded_id("vendor7")

# Beyond the five plans after which the server may settle on one for all parameters.
TIMES = 8

# A twentieth of the bookings: newest first by date may step over some of other dates.
MANY_ROWS = 10_000

_REQUESTED: Final = frozenset({RefundState.REQUESTED})
OWED: Final = [
    RefundFilter(),
    RefundFilter(states=_REQUESTED),
    RefundFilter(states=_REQUESTED, created_until=NOW - timedelta(7)),
    RefundFilter(vendor_id=VENDOR),
    RefundFilter(vendor_id=VENDOR, states=_REQUESTED),
    RefundFilter(booking_id=BOOKING),
]


async def test_no_read_scans_a_large_table_however_often_and_mixed(
    seeded_dsn: str,
) -> None:
    database = Database(seeded_dsn, pool_size=1, clock=SetClock(NOW))
    await database.open()
    packages, bookings = PackageQueries(database), BookingQueries(database)
    payments, refunds = PaymentQueries(database), RefundQueries(database)
    reviews = ReviewQueries(database)
    profiles, reports = ProfileQueries(database), ReportQueries(database)
    leave, month = DAY + timedelta(3), DAY + timedelta(30)
    lists = [
        BookingFilter(),
        BookingFilter(states=frozenset({State.CONFIRMED})),
        BookingFilter(user_id="user 77"),
        BookingFilter(user_id="user 77", start_date=DAY),
        BookingFilter(user_id="user 77", package_id=PACKAGE),
        BookingFilter(package_id=PACKAGE),
        BookingFilter(package_id=PACKAGE, start_date=DAY, end_date=month),
        BookingFilter(start_date=DAY, end_date=leave),
        BookingFilter(end_date=date(2025, 3, 3)),
    ]
    searches = [
        PackageFilter(),
        PackageFilter(location="place 7"),
        PackageFilter(location="place 7", start_date=DAY, end_date=leave),
        PackageFilter(start_date=DAY, end_date=leave, quantity=4),
        PackageFilter(type="type 3", currency="EUR", max_price_minor=2000),
    ]
    reads: list[Callable[[], Awaitable[object]]] = [
        *(partial(bookings.list, wanted, after=None, limit=20) for wanted in lists),
        *(
            partial(packages.search, wanted, order, after=None, limit=20)
            for wanted in searches
            for order in PackageOrder
        ),
        partial(packages.check_availability, PACKAGE, DAY, month),
        partial(packages.get_details, PACKAGE),
        partial(packages.list_by_vendor, VENDOR, frozenset(), after=None, limit=20),
        partial(bookings.get, BOOKING),
        partial(reports.list_events, BOOKING, after=None, limit=20),
        partial(reports.revenue, None, NOW - timedelta(1), NOW),
        partial(payments.list, BOOKING, after=None, limit=20),
        partial(payments.list_failed, after=None, limit=20),
        partial(payments.find_due, 20),
        *(partial(refunds.list, wanted, after=None, limit=20) for wanted in OWED),
        partial(refunds.find_due, 20),
        partial(reviews.list, ReviewFilter(package_id=PACKAGE), after=None, limit=20),
        partial(reviews.list, ReviewFilter(user_id="user 77"), after=None, limit=20),
        partial(profiles.get, "user 77"),
    ]
    too_many = {}
    for _ in range(TIMES):
        for number, read in enumerate(reads):
            before = await _rows_read(database)
            await read()
            rows = await _rows_read(database) - before
            if rows > MANY_ROWS:
                too_many[number] = rows
    await database.close()
    assert too_many == {}


async def test_a_page_of_a_search_reads_the_days_of_few_packages(
    connection: asyncpg.Connection[asyncpg.Record],
) -> None:
    leave = DAY + timedelta(3)
    plan = await explain(
        connection,
        "packages.search",
        *(None, None, DAY, leave, 1, None, None, None, None, NOW, "PRICE_ASC", -(2**63), LEAST, 5),
        options="ANALYZE, FORMAT JSON",
    )
    loops = [
        node["Actual Loops"] for node in plan.nodes if node.get("Relation Name") == "package_days"
    ]
    # Every package has room, so five are found among the first five.
    assert loops == [5]


async def _rows_read(database: Database) -> int:
    async with database.connection() as connection:
        await connection.execute("SELECT pg_stat_force_next_flush()")
        rows: int = await connection.fetchval(
            "SELECT sum(seq_tup_read + coalesce(idx_tup_fetch, 0))::bigint"
            " FROM pg_stat_user_tables WHERE relname = ANY($1)",
            sorted(LARGE),
        )
    return rows
