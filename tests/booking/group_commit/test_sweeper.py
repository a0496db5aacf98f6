"""The sweeper ends what is over, exactly once however many sweep."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, date, datetime, timedelta
from functools import partial
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import pytest

from booking_service.group_commit.bus import CommandBus
from booking_service.group_commit.idempotency import SLOTS, idempotency_slot
from booking_service.group_commit.sweeper import Sweeper
from booking_service.storage.clock import SetClock
from booking_service.storage.database import Database
from tests.booking.seed import DAY, NOW, add_booking, add_days, add_package, eventually

Rows = asyncpg.Connection
LAPSED = NOW - timedelta(minutes=1)


class Copy:
    """One process: its pool, bus and sweeper."""

    def __init__(self, dsn: str, clock: SetClock) -> None:
        self.database = Database(dsn, clock=clock, pool_size=3)
        self.bus = CommandBus(self.database)
        self.sweeper = Sweeper(self.database, self.bus, interval_s=0.02)

    async def start(self) -> None:
        await self.database.open()
        self.bus.start()

    async def stop(self) -> None:
        await self.sweeper.stop()
        await self.bus.stop()
        await self.database.close()


@pytest.fixture
def clock() -> SetClock:
    return SetClock(NOW)


@pytest.fixture
async def copies(booking_dsn: str, clock: SetClock) -> AsyncIterator[list[Copy]]:
    copies = [Copy(booking_dsn, clock) for _ in range(2)]
    for copy in copies:
        await copy.start()
    yield copies
    for copy in copies:
        await copy.stop()


@pytest.fixture
async def rows(booking_dsn: str) -> AsyncIterator[Rows]:
    connection = await asyncpg.connect(booking_dsn)
    yield connection
    await connection.close()


async def states(rows: Rows) -> dict[UUID, str]:
    return {row["id"]: row["state"] for row in await rows.fetch("SELECT id, state FROM bookings")}


async def expired(rows: Rows, booking_id: UUID) -> bool:
    return (await states(rows))[booking_id] == "EXPIRED"


async def test_lapsed_holds_end_and_give_their_seats_back(copies: list[Copy], rows: Rows) -> None:
    package_id = await add_package(rows)
    await add_days(rows, package_id, 1, capacity=3, held=3)
    lapsed = await add_booking(rows, package_id, hold_expire_time=LAPSED)
    pending = await add_booking(
        rows, package_id, hold_expire_time=NOW, state="PENDING_PAYMENT", version=2
    )
    live = await add_booking(rows, package_id)
    assert await copies[0].sweeper.sweep() == 2
    assert await states(rows) == {lapsed: "EXPIRED", pending: "EXPIRED", live: "HELD"}
    assert await rows.fetchval("SELECT held FROM package_days") == 1
    assert await copies[0].sweeper.sweep() == 0


async def test_copies_that_sweep_at_once_end_each_hold_once(copies: list[Copy], rows: Rows) -> None:
    for _ in range(5):
        package_id = await add_package(rows)
        await add_days(rows, package_id, 1, capacity=20, held=20)
        for _ in range(20):
            await add_booking(rows, package_id, hold_expire_time=LAPSED)
    swept = await asyncio.gather(*(copy.sweeper.sweep() for copy in copies))
    assert sum(swept) == 100
    assert await rows.fetchval("SELECT sum(held) FROM package_days") == 0
    assert await rows.fetchval("SELECT count(*) FROM booking_events") == 100
    assert await rows.fetchval("SELECT sum(count) FROM outbox") == 100


async def test_long_stays_end_in_small_steps(
    copies: list[Copy], rows: Rows, monkeypatch: pytest.MonkeyPatch
) -> None:
    package_id = await add_package(rows)
    first = DAY - timedelta(800)
    await add_days(rows, package_id, 366, start=first, capacity=99, held=7, confirmed=5)
    year = {"start_date": first, "end_date": first + timedelta(366)}
    for _ in range(7):
        await add_booking(rows, package_id, hold_expire_time=LAPSED, **year)
    for _ in range(5):
        await add_booking(rows, package_id, state="CONFIRMED", confirm_time=NOW, **year)
    ended: list[object] = []
    submit = CommandBus.submit

    async def recorded(self: CommandBus, *args: Any, **keywords: Any) -> object:
        ended.append(await submit(self, *args, **keywords))
        return ended[-1]

    monkeypatch.setattr(CommandBus, "submit", recorded)
    assert await copies[0].sweeper.sweep() == 12
    # 1,000 days at most in one transaction, and no more commands than that takes.
    assert ended == [2, 2, 2, 1, 2, 2, 1]
    assert await rows.fetchval("SELECT max(held) FROM package_days") == 0


async def test_stay_ends_when_its_last_day_is_over_where_the_package_is(
    copies: list[Copy], rows: Rows, clock: SetClock
) -> None:
    ended: dict[str, UUID] = {}
    for zone in ("Pacific/Kiritimati", "Europe/Lisbon", "Pacific/Honolulu"):
        package_id = await add_package(rows, time_zone=zone)
        ended[zone] = await add_booking(
            rows, package_id, state="CONFIRMED", confirm_time=NOW, version=3
        )
    end = datetime.combine(DAY + timedelta(1), datetime.min.time(), UTC)

    async def fulfilled_at(time: datetime) -> set[str]:
        clock.time = time
        await copies[0].sweeper.sweep()
        found = await states(rows)
        return {zone for zone, id in ended.items() if found[id] == "FULFILLED"}

    assert await fulfilled_at(end - timedelta(hours=14, microseconds=1)) == set()
    assert await fulfilled_at(end - timedelta(hours=14)) == {"Pacific/Kiritimati"}
    # Lisbon keeps summer time in May.
    assert await fulfilled_at(end - timedelta(hours=1, microseconds=1)) == {"Pacific/Kiritimati"}
    assert await fulfilled_at(end) == {"Pacific/Kiritimati", "Europe/Lisbon"}
    assert await fulfilled_at(end + timedelta(hours=10)) == set(ended)


async def test_a_package_locked_from_outside_is_postponed_and_the_others_are_swept(
    copies: list[Copy], rows: Rows, booking_dsn: str
) -> None:
    locked, free = await add_package(rows), await add_package(rows)
    for package_id in (locked, free):
        await add_days(rows, package_id, 1, held=1)
        await add_booking(rows, package_id, hold_expire_time=LAPSED)
    other = await asyncpg.connect(booking_dsn)
    async with other.transaction():
        await other.execute("SELECT id FROM packages WHERE id = $1 FOR UPDATE", locked)
        assert await copies[0].sweeper.sweep() == 1
    assert await copies[0].sweeper.sweep() == 1
    await other.close()


async def test_it_sweeps_by_itself_and_survives_a_lost_connection(
    copies: list[Copy], rows: Rows
) -> None:
    package_id = await add_package(rows)
    await add_days(rows, package_id, 1, capacity=2, held=2)
    copies[0].sweeper.start()
    for _ in range(2):
        booking_id = await add_booking(rows, package_id, hold_expire_time=LAPSED)
        await eventually(partial(expired, rows, booking_id))
        await rows.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND application_name = 'booking_service'"
        )


async def test_answers_kept_long_enough_are_emptied_before_their_slots_turn(
    copies: list[Copy], rows: Rows
) -> None:
    slots = range(SLOTS)
    await rows.executemany(
        "INSERT INTO idempotency_keys VALUES ($1, 'c', 'r', gen_random_uuid(), '', '', $2)",
        [(slot, NOW) for slot in slots],
    )
    await copies[0].sweeper.sweep()
    left = {row["slot"] for row in await rows.fetch("SELECT slot FROM idempotency_keys")}
    assert left == set(slots) - {(idempotency_slot(NOW) + 1) % SLOTS}


async def test_answers_being_read_postpone_the_emptying_and_not_the_sweep(
    copies: list[Copy], rows: Rows, booking_dsn: str
) -> None:
    slot = (idempotency_slot(NOW) + 1) % SLOTS
    await rows.execute(
        "INSERT INTO idempotency_keys VALUES ($1, 'c', 'r', $2, '', '', $3)", slot, uuid4(), NOW
    )
    package_id = await add_package(rows)
    await add_days(rows, package_id, 1, held=1)
    reader = await asyncpg.connect(booking_dsn)
    async with reader.transaction():
        await reader.fetch("SELECT request_id FROM idempotency_keys")
        booking_id = await add_booking(rows, package_id, hold_expire_time=LAPSED)
        copies[0].sweeper.start()
        await eventually(partial(expired, rows, booking_id))
        assert await rows.fetchval("SELECT count(*) FROM idempotency_keys") == 1
    await eventually(partial(rows.fetchval, "SELECT count(*) = 0 FROM idempotency_keys"))
    await reader.close()


def test_slots_turn_with_the_hours() -> None:
    start = datetime.combine(date(2026, 1, 1), datetime.min.time(), UTC)
    turns = [idempotency_slot(start + timedelta(hours=hours)) for hours in range(0, 33, 4)]
    assert sorted(turns[:SLOTS]) == list(range(SLOTS))
    assert turns[SLOTS] == turns[0]
