"""The query that each of the fifteen indexes serves, with parameters drawn from the data, and how
these queries are timed and explained.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence
from datetime import UTC, date, datetime, timedelta
from statistics import median, quantiles
from typing import Any, Final, NamedTuple
from uuid import UUID

from booking_service.storage.connection import OwnConnection
from booking_service.storage.sql import QUERIES
from tests.booking.plans.explained import DAY, GREATEST, LEAST, NOW, Plan, explain

FIRST, LAST = date(1, 1, 1), date(9999, 12, 31)
BEGINNING: Final = datetime(1, 1, 2, tzinfo=UTC)
END: Final = datetime(9999, 12, 31, tzinfo=UTC)
LIMIT: Final = 21
"""A page of twenty, and one row that shows whether there are more."""

PLANS: Final = 5
"""Parameters for which each query is explained; their median is printed."""


class Samples(NamedTuple):
    """Values of the data, drawn in proportion to the rows that have them."""

    bookings: Sequence[tuple[str, UUID, date, datetime]]
    payments: Sequence[UUID]
    reviews: Sequence[tuple[UUID, str]]
    retries: Sequence[datetime]
    places: Sequence[str]
    vendors: Sequence[UUID]


class Case(NamedTuple):
    """An index, the named statement that it serves, the reported gain in per cent (least and most;
    None if none was reported), and how parameters are drawn.
    """

    name: str
    query: str
    what: str
    reported: tuple[int, int] | None
    args: Callable[[Samples, random.Random], tuple[object, ...]]


class Timed(NamedTuple):
    """Latencies in milliseconds."""

    samples: int
    median_ms: float
    p95_ms: float


class Explained(NamedTuple):
    """The plan of the first parameters on one line, how many plans used the index of the case, and
    the median of the buffers read.
    """

    plan: str
    uses: int
    buffers: int


async def draw(connection: OwnConnection, count: int = 500) -> Samples:
    """Draw the same rows of the same data, regardless of the indexes."""

    async def rows(columns: str, table: str) -> list[Any]:
        # Ids are digests, so their order is random.
        return list(
            await connection.fetch(f"SELECT {columns} FROM {table} ORDER BY id LIMIT {count}")
        )

    bookings = await rows("user_id, package_id, start_date, create_time", "bookings")
    payments = await rows("booking_id", "payments")
    reviews = await rows("package_id, user_id", "reviews")
    retries = await rows(
        "next_retry_time", "payments WHERE state = 'FAILED' AND next_retry_time IS NOT NULL"
    )
    packages = await rows("location, vendor_id", "packages")
    return Samples(
        [tuple(row) for row in bookings],
        [row["booking_id"] for row in payments],
        [tuple(row) for row in reviews],
        [row["next_retry_time"] for row in retries],
        [row["location"] for row in packages],
        [row["vendor_id"] for row in packages],
    )


def stay(dice: random.Random) -> tuple[date, date]:
    """Draw three nights among the days on sale."""
    start = DAY + timedelta(dice.randrange(20))
    return start, start + timedelta(3)


def _listing(start: date, end: date, *found_by: object) -> tuple[object, ...]:
    earliest = date.fromordinal(max(start.toordinal() - 365, 1))
    return ([], start, end, earliest, END, GREATEST, LIMIT, BEGINNING, None, *found_by)


def _search(
    location: str | None, type: str | None, dates: tuple[date, date] | None
) -> tuple[object, ...]:
    start, end = dates or (None, None)
    position = ("PRICE_ASC", -(2**63), LEAST, LIMIT)
    return (location, type, start, end, 1, None, None, None, None, NOW, *position)


def _by_dates(data: Samples, dice: random.Random) -> tuple[object, ...]:
    start = dice.choice(data.bookings)[2]
    return _listing(start, start + timedelta(3))


def _calendar(data: Samples, dice: random.Random) -> tuple[object, ...]:
    _, package_id, start, _ = dice.choice(data.bookings)
    return _listing(start, start + timedelta(30), package_id)


def _upcoming(data: Samples, dice: random.Random) -> tuple[object, ...]:
    user_id, _, start, _ = dice.choice(data.bookings)
    return _listing(start, LAST, user_id)


def _user_and_package(data: Samples, dice: random.Random) -> tuple[object, ...]:
    user_id, package_id, _, _ = dice.choice(data.bookings)
    return _listing(FIRST, LAST, user_id, package_id)


def _recent(data: Samples, dice: random.Random) -> tuple[object, ...]:
    return ([], dice.choice(data.bookings)[3], GREATEST, LIMIT, BEGINNING)


def _month(data: Samples, dice: random.Random) -> tuple[object, ...]:
    start = dice.choice(data.bookings)[3]
    return (start, start + timedelta(30), None)


CASES: Final = (
    Case("idx_bookings_date_range", "bookings.list_by_dates", "three days", (70, 80), _by_dates),
    Case("idx_bookings_package_date", "bookings.list_by_package", "a month", None, _calendar),
    Case("idx_bookings_user_date", "bookings.get_user_bookings", "from a day on", None, _upcoming),
    Case("idx_bookings_created_desc", "bookings.list_recent", "a page", None, _recent),
    Case(
        "idx_bookings_user_package_status",
        "bookings.get_user_package_bookings",
        "all",
        None,
        _user_and_package,
    ),
    Case(
        "idx_packages_availability",
        "packages.search",
        "dates alone",
        (75, 90),
        lambda _, dice: _search(None, None, stay(dice)),
    ),
    Case(
        "idx_packages_location_dates",
        "packages.search",
        "place and dates",
        None,
        lambda data, dice: _search(dice.choice(data.places), None, stay(dice)),
    ),
    Case(
        "idx_packages_popularity",
        "packages.search",
        "a type",
        None,
        lambda _, dice: _search(None, f"type {dice.randrange(5)}", None),
    ),
    Case(
        "idx_payments_booking_status",
        "payments.list_by_booking",
        "all",
        (80, 90),
        lambda data, dice: (dice.choice(data.payments), datetime(1, 1, 2, tzinfo=UTC), LEAST, 51),
    ),
    Case(
        "idx_payments_failed",
        "payments.list_failed",
        "a page",
        None,
        lambda data, dice: (dice.choice(data.retries), LEAST, LIMIT),
    ),
    Case(
        "idx_reviews_package_rating",
        "reviews.list_by_package",
        "4 and better",
        (70, 80),
        lambda data, dice: (dice.choice(data.reviews)[0], END, GREATEST, LIMIT, 4),
    ),
    Case(
        "idx_reviews_user_created",
        "reviews.list_by_user",
        "a page",
        None,
        lambda data, dice: (dice.choice(data.reviews)[1], END, GREATEST, LIMIT),
    ),
    Case(
        "idx_user_profiles_user",
        "profiles.get",
        "one",
        None,
        lambda data, dice: (dice.choice(data.bookings)[0],),
    ),
    Case("idx_bookings_revenue", "bookings.revenue", "a month", None, _month),
    Case(
        "idx_packages_vendor",
        "packages.list_by_vendor",
        "all",
        None,
        lambda data, dice: (dice.choice(data.vendors), [], END, GREATEST, LIMIT),
    ),
)


async def timed(
    connection: OwnConnection, case: Case, data: Samples, *, runs: int, seconds: float
) -> Timed:
    """Run the query of a case, after a warm-up, up to the given number of runs or seconds, but at
    least ten times.
    """
    dice = random.Random(case.name)
    spent_ms: list[float] = []
    # More than the five plans after which the server may keep one generic plan.
    warm_up = 8
    give_up_s = time.perf_counter() + seconds
    while len(spent_ms) < warm_up + 10 or (
        len(spent_ms) < warm_up + runs and time.perf_counter() < give_up_s
    ):
        args = case.args(data, dice)
        began_s = time.perf_counter()
        await _fetch(connection, case.query, args)
        spent_ms.append((time.perf_counter() - began_s) * 1e3)
    spent_ms = spent_ms[warm_up:]
    return Timed(len(spent_ms), median(spent_ms), quantiles(spent_ms, n=20)[-1])


async def timed_without(
    connection: OwnConnection, case: Case, data: Samples, *, runs: int, seconds: float
) -> Timed:
    """Like `timed`, in a transaction that drops this one index and is rolled back."""
    transaction = connection.transaction()
    await transaction.start()
    try:
        await connection.execute(f"DROP INDEX {case.name}")
        return await timed(connection, case, data, runs=runs, seconds=seconds)
    finally:
        await transaction.rollback()


async def _fetch(connection: OwnConnection, query: str, args: tuple[object, ...]) -> None:
    """As the service does: a search is planned for its filters, all other statements are prepared
    once.
    """
    if query == "packages.search":
        search = await connection.prepare(QUERIES[query], name="")
        await search.fetch(*args)
    else:
        await connection.fetch(QUERIES[query], *args)


async def explained(connection: OwnConnection, case: Case, data: Samples) -> Explained:
    """Explain the query with PLANS parameters."""
    dice = random.Random(case.name)
    plans = [
        await explain(
            connection,
            case.query,
            *case.args(data, dice),
            options="ANALYZE, BUFFERS, TIMING OFF, FORMAT JSON",
        )
        for _ in range(PLANS)
    ]
    uses = sum(case.name in plan.indexes for plan in plans)
    return Explained(_line(plans[0]), uses, round(median(map(_buffers, plans))))


def _buffers(plan: Plan) -> int:
    top = plan.nodes[0]
    return int(top["Shared Hit Blocks"] + top["Shared Read Blocks"])


def _line(plan: Plan) -> str:
    """How each table is accessed, outermost first, with its index if there is one."""
    steps: dict[str, None] = {}
    for node in plan.nodes:
        kind = node["Node Type"]
        if "Scan" in kind and ("Index Name" in node or "Relation Name" in node):
            if kind == "Bitmap Heap Scan":
                continue
            steps[f"{kind} {node.get('Index Name') or node['Relation Name']}"] = None
        elif kind in ("Sort", "Incremental Sort", "Gather", "Gather Merge"):
            steps[kind] = None
    return ", ".join(steps)
