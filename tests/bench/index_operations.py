"""The operations for which gains were reported, carried out as the service does."""

from __future__ import annotations

import random
import time
from collections.abc import Awaitable, Callable
from datetime import date, timedelta
from itertools import count
from statistics import mean
from typing import Final
from uuid import UUID

from booking_service.domain.commands import StartBooking
from booking_service.domain.holds import Limits
from booking_service.group_commit.bus import CommandBus
from booking_service.reads.bookings import BookingFilter, BookingQueries
from booking_service.reads.packages import PackageFilter, PackageOrder
from booking_service.reads.packages import PackageQueries as Packages
from booking_service.storage.clock import SetClock
from booking_service.storage.database import Database
from tests.bench import report
from tests.bench.index_cases import Samples, stay
from tests.booking.plans.explained import DAY, NOW, seeded_id

SEARCH: Final = "availability: search with dates"
CALENDAR: Final = "availability: a package's bookings over a month"
CHECK: Final = "CheckAvailability, by primary key"
DASHBOARD: Final = "user dashboard"
CREATION: Final = "booking creation"
BROWSE: Final = "package search"

REPORTED: Final = {SEARCH: 73, CALENDAR: 73, DASHBOARD: 69, CREATION: 60, BROWSE: 67}
"""Reported reduction of the average, in per cent."""

EXPECTED_MS: Final = {SEARCH: 100, CALENDAR: 100, CHECK: 100, DASHBOARD: 300, CREATION: 200}
"""Upper bound that was expected of the average."""

MIX: Final = (SEARCH, CALENDAR, DASHBOARD, CREATION, BROWSE)
REPORTED_OF_MIX: Final = {"average": 65, "p95": 70, "p99": 75}
QUERY_P95_MS: Final = 300
OUR_P95_MS: Final = 5

_LIMIT: Final = 20
_names = count(1)

Operation = Callable[[], Awaitable[object]]


def operations(
    database: Database, bus: CommandBus, data: Samples, packages: int
) -> dict[str, Operation]:
    """Each operation by its name; every call draws new parameters."""
    reads, bookings = Packages(database), BookingQueries(database)
    dice = random.Random(1)

    async def search(wanted: PackageFilter) -> None:
        await reads.search(wanted, PackageOrder.PRICE_ASC, after=None, limit=_LIMIT)

    async def listed(wanted: BookingFilter) -> None:
        await bookings.list(wanted, after=None, limit=_LIMIT)

    async def search_dates() -> None:
        start, end = stay(dice)
        place = dice.choice((None, dice.choice(data.places)))
        await search(PackageFilter(location=place, start_date=start, end_date=end))

    async def calendar() -> None:
        _, package_id, start, _ = dice.choice(data.bookings)
        end = start + timedelta(30)
        await listed(BookingFilter(package_id=package_id, start_date=start, end_date=end))

    async def check() -> None:
        await reads.check_availability(_on_sale(dice, packages), *stay(dice))

    async def dashboard() -> None:
        user_id, _, start, _ = dice.choice(data.bookings)
        await listed(BookingFilter(user_id=user_id, start_date=start))

    async def browse() -> None:
        of_type = PackageFilter(type=f"type {dice.randrange(5)}")
        await search(dice.choice((of_type, PackageFilter(location=dice.choice(data.places)))))

    async def create() -> None:
        start = DAY + timedelta(dice.randrange(30))
        command = _start(_on_sale(dice, packages), start)
        request_id = seeded_id(f"bench request {command.user_id}")
        await bus.submit(command, caller="bench", rpc="StartBooking", request_id=request_id)

    return {
        SEARCH: search_dates,
        CALENDAR: calendar,
        CHECK: check,
        DASHBOARD: dashboard,
        CREATION: create,
        BROWSE: browse,
    }


async def measure(
    dsn: str, data: Samples, packages: int, *, rounds: int, seconds: float
) -> dict[str, list[float]]:
    """Time every operation in turn, in milliseconds."""
    database = Database(dsn, pool_size=4, clock=SetClock(NOW))
    await database.open()
    bus = CommandBus(database, limits=Limits(3, True))
    bus.start()
    spent_ms: dict[str, list[float]] = {}
    try:
        asked = operations(database, bus, data, packages)
        warm_up, give_up_s = 8, time.perf_counter() + seconds
        for number in range(warm_up + rounds):
            if time.perf_counter() > give_up_s and number > warm_up + 20:
                report.progress(f"  stopped after {number - warm_up} rounds")
                break
            for name, operation in asked.items():
                began_s = time.perf_counter()
                await operation()
                if number >= warm_up:
                    took_ms = (time.perf_counter() - began_s) * 1e3
                    spent_ms.setdefault(name, []).append(took_ms)
    finally:
        await bus.stop()
        await database.close()
    return spent_ms


def summary(spent_ms: list[float]) -> dict[str, float]:
    """Average, and the values of rank ceil(q * n), in milliseconds."""
    ranked = sorted(spent_ms)

    def at(per_cent: int) -> float:
        return ranked[-(-len(ranked) * per_cent // 100) - 1]

    return {
        "samples": len(ranked),
        "average": mean(ranked),
        "p50": at(50),
        "p95": at(95),
        "p99": at(99),
    }


def _on_sale(dice: random.Random, packages: int) -> UUID:
    """Draw a package that is active and has no end of sale."""
    return seeded_id(f"package{1 + 20 * dice.randrange(packages // 20)}")


def _start(package_id: UUID, start: date) -> StartBooking:
    user_id = f"bench user {next(_names)}"
    return StartBooking(
        booking_id=seeded_id(f"booking of {user_id}"),
        package_id=package_id,
        user_id=user_id,
        session_id="bench",
        start_date=start,
        end_date=start + timedelta(2),
        quantity=1,
        party_size=2,
        quote=None,
    )
