"""Which index each read is served by, with the planner's own costs, and that no large table is
scanned whichever plan the server settles on.
"""

import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from datetime import UTC, date, datetime, timedelta
from functools import partial
from hashlib import md5
from pathlib import Path
from typing import Any
from uuid import UUID

import asyncpg
import pytest

from booking_service import indexes
from booking_service.database import Database, SetClock
from booking_service.domain.booking import State
from booking_service.queries import (
    BookingFilter,
    BookingQueries,
    PackageFilter,
    PackageOrder,
    PackageQueries,
)
from booking_service.sql import QUERIES
from servicekit.postgres import PostgresServer

SEED = Path(__file__).parent / "catalogue_seed.sql"
NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
DAY = date(2026, 5, 20)
FIRST, LAST = date(1, 1, 1), date(9999, 12, 31)
END = datetime(9999, 12, 31, tzinfo=UTC)
PACKAGE = UUID(md5(b"package17", usedforsecurity=False).hexdigest())
LEAST, GREATEST = UUID(int=0), UUID(int=2**128 - 1)

LARGE = {"bookings", "package_days", "payments"}

# Beyond the five plans after which the server may settle on one for all parameters.
TIMES = 8

# A fifth of the bookings: newest first by date may step over some of other dates.
MANY_ROWS = 10_000


def search(location: str | None, type: str | None, start: date | None) -> tuple[object, ...]:
    end = start + timedelta(3) if start else None
    position = ("PRICE_ASC", -(2**63), LEAST, 51)
    return (location, type, start, end, 1, None, None, None, None, NOW, *position)


def listing(start: date, end: date, *found_by: object) -> tuple[object, ...]:
    earliest = max(start.toordinal() - 365, 1)
    return ([], start, end, date.fromordinal(earliest), END, GREATEST, 51, *found_by)


PLANS: list[tuple[str, str, tuple[object, ...], set[str]]] = [
    ("packages.get_details", "by id", (PACKAGE,), {"packages_pkey"}),
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
        "packages.check_availability",
        "of a week",
        (PACKAGE, DAY, DAY + timedelta(7), NOW),
        {"package_days_pkey", "bookings_live_holds"},
    ),
    ("bookings.get", "by id", (PACKAGE,), {"bookings_pkey"}),
    (
        "bookings.get_user_bookings",
        "from a date on",
        listing(DAY, LAST, "user 77"),
        {"idx_bookings_user_date"},
    ),
    (
        "bookings.get_user_package_bookings",
        "all",
        listing(FIRST, LAST, "user 77", PACKAGE),
        {"idx_bookings_user_package_status"},
    ),
    (
        "bookings.list_by_package",
        "of a month",
        listing(DAY, DAY + timedelta(30), PACKAGE),
        {"idx_bookings_package_date"},
    ),
    (
        "bookings.list_by_dates",
        "of the first day",
        listing(date(2025, 3, 1), date(2025, 3, 2)),
        {"idx_bookings_date_range"},
    ),
    ("bookings.list_recent", "all", ([], END, GREATEST, 51), {"idx_bookings_created_desc"}),
    (
        "payments.load",
        "of a booking",
        ([PACKAGE], [], []),
        {"idx_payments_booking_status", "payments_provider_key"},
    ),
    ("sweeper.lapsed_packages", "now", (NOW, 200), {"bookings_lapsed"}),
]


@pytest.fixture(scope="module")
def seeded_dsn(postgres: PostgresServer, booking_template: str) -> Iterator[str]:
    postgres.create_database("plans", template=booking_template)
    postgres.psql("plans", SEED.read_text())
    yield postgres.dsn("plans")
    postgres.drop_database("plans")


@pytest.fixture
async def connection(
    seeded_dsn: str,
) -> AsyncIterator["asyncpg.Connection[asyncpg.Record]"]:
    connection = await asyncpg.connect(seeded_dsn)
    yield connection
    await connection.close()


@pytest.mark.parametrize(
    ("name", "args", "expected"),
    [pytest.param(name, args, used, id=f"{name} {what}") for name, what, args, used in PLANS],
)
async def test_read_is_served_by_its_index(
    connection: "asyncpg.Connection[asyncpg.Record]",
    name: str,
    args: tuple[object, ...],
    expected: set[str],
) -> None:
    text = await connection.fetchval(f"EXPLAIN (FORMAT JSON) {QUERIES[name].sql}", *args)
    used, scanned = _access(json.loads(text)[0]["Plan"])
    assert used == expected
    assert scanned & LARGE == set()


async def test_every_index_that_serves_a_statement_has_its_plan(
    connection: "asyncpg.Connection[asyncpg.Record]", seeded_dsn: str
) -> None:
    planned = {index for *_, used in PLANS for index in used}
    for state in await indexes.states(Database(seeded_dsn)):
        statement = state.serves.partition(":")[0]
        assert (state.name in planned) == (statement in QUERIES)


async def test_no_read_goes_through_a_large_table_however_often_and_mixed(
    seeded_dsn: str,
) -> None:
    database = Database(seeded_dsn, pool_size=1, clock=SetClock(NOW))
    await database.open()
    packages, bookings = PackageQueries(database), BookingQueries(database)
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
        partial(bookings.get, PACKAGE),
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


async def test_page_of_a_search_looks_at_the_days_of_few_packages(
    connection: "asyncpg.Connection[asyncpg.Record]",
) -> None:
    text = await connection.fetchval(
        f"EXPLAIN (ANALYZE, FORMAT JSON) {QUERIES['packages.search'].sql}",
        *search(None, None, DAY)[:-1],
        5,
    )
    looks = [
        node["Actual Loops"]
        for node in _nodes(json.loads(text)[0]["Plan"])
        if node.get("Relation Name") == "package_days"
    ]
    # Every package has room, so five are found among the first five.
    assert looks == [5]


async def _rows_read(database: Database) -> int:
    async with database.connection() as connection:
        await connection.execute("SELECT pg_stat_force_next_flush()")
        rows: int = await connection.fetchval(
            "SELECT sum(seq_tup_read + coalesce(idx_tup_fetch, 0))::bigint"
            " FROM pg_stat_user_tables WHERE relname = ANY($1)",
            sorted(LARGE),
        )
    return rows


def _access(plan: dict[str, Any]) -> tuple[set[str], set[str]]:
    """The indexes that a plan uses, and the tables that it scans from end to end."""
    nodes = list(_nodes(plan))
    used = {node["Index Name"] for node in nodes if "Index Name" in node}
    return used, {node["Relation Name"] for node in nodes if node["Node Type"] == "Seq Scan"}


def _nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for child in plan.get("Plans", []):
        yield from _nodes(child)
