"""The race tests can find the bugs they are for: without the package lock, and without the CHECK,
the same clients and the same recount find a day that is sold twice.

The statements are the service's own but for the one that is left out or replaced.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from uuid import UUID, uuid4

import asyncpg

from booking_service.storage.sql import QUERIES
from tests.booking.races.clients import (
    CLEAN,
    DEADLINE_S,
    Audit,
    audit,
    deadlocks,
    rows,
    soon,
    until,
)

CLIENTS = 20
SEATS = 10
ROUNDS = 20
"""How many times a race is run at most until the bug shows; the first mostly does it."""

ABSOLUTE = "UPDATE package_days SET held = $3 WHERE package_id = $1 AND day = $2"


@dataclass(frozen=True)
class Variant:
    """What is left of the two guards."""

    locks: bool
    checks: bool
    absolute: bool = False


async def test_with_lock_and_check_the_race_is_clean(booking_dsn: str) -> None:
    outcome, found = await race(booking_dsn, Variant(locks=True, checks=True))
    assert outcome == {"held": SEATS, "sold out": CLIENTS - SEATS}
    assert found == CLEAN


async def test_without_the_lock_the_check_refuses_and_nothing_is_oversold(
    booking_dsn: str,
) -> None:
    refused = 0
    for _ in range(ROUNDS):
        outcome, found = await race(booking_dsn, Variant(locks=False, checks=True))
        assert found == CLEAN
        assert outcome["held"] <= SEATS
        refused += outcome["23514 package_days_never_oversold"]
        if refused:
            break
    assert refused > 0


async def test_without_lock_and_check_the_recount_sees_an_oversold_day(booking_dsn: str) -> None:
    await rows(booking_dsn, "ALTER TABLE package_days DROP CONSTRAINT package_days_never_oversold")
    for _ in range(ROUNDS):
        variant = Variant(locks=False, checks=False, absolute=True)
        outcome, found = await race(booking_dsn, variant)
        if found.oversold:
            break
    assert found.oversold > 0
    assert found.drift > 0
    assert outcome["held"] > SEATS


async def test_a_deadlock_is_seen(booking_dsn: str) -> None:
    """Two transactions that lock two packages in opposite order."""
    first, second = [await asyncpg.connect(booking_dsn) for _ in range(2)]
    packages = [await on_sale(first) for _ in range(2)]
    lock = QUERIES["packages.lock"]
    broken = 0

    async def both(connection: asyncpg.Connection[asyncpg.Record], order: Sequence[UUID]) -> None:
        nonlocal broken
        await connection.execute("SET deadlock_timeout = '10ms'")
        try:
            async with connection.transaction():
                await connection.fetch(str(lock), order[:1])
                await met.wait()
                await connection.fetch(str(lock), order[1:])
        except asyncpg.DeadlockDetectedError:
            broken += 1

    met = asyncio.Barrier(2)
    async with asyncio.timeout(DEADLINE_S):
        await asyncio.gather(both(first, packages), both(second, packages[::-1]))
    # Their ends report what they counted.
    await asyncio.gather(first.close(), second.close())

    async def counted() -> bool:
        return await deadlocks(booking_dsn) == broken == 1

    assert await until(counted), broken


async def test_a_counter_that_is_off_by_one_is_seen(booking_dsn: str) -> None:
    connection = await asyncpg.connect(booking_dsn)
    try:
        package_id = await on_sale(connection)
        await start(connection, package_id, Variant(locks=True, checks=True))
        assert await audit(booking_dsn) == CLEAN
        await connection.execute("UPDATE package_days SET held = held + 1")
        assert await audit(booking_dsn) == Audit(drift=1)
    finally:
        await connection.close()


async def race(dsn: str, variant: Variant) -> tuple[Counter[str], Audit]:
    """CLIENTS connections, let go at once, on SEATS seats of a day: how they fared, the recount."""
    connections = [await asyncpg.connect(dsn) for _ in range(CLIENTS)]
    try:
        package_id = await on_sale(connections[0])
        barrier = asyncio.Barrier(CLIENTS)

        async def one(connection: asyncpg.Connection[asyncpg.Record]) -> str:
            await barrier.wait()
            return await start(connection, package_id, variant)

        outcome = Counter(await asyncio.gather(*map(one, connections)))
    finally:
        for connection in connections:
            await connection.close()
    return outcome, await audit(dsn)


async def on_sale(connection: asyncpg.Connection[asyncpg.Record]) -> UUID:
    """A package with SEATS seats on one day."""
    vendor_id, package_id, now = uuid4(), uuid4(), datetime.now(UTC)
    await connection.execute(
        str(QUERIES["vendors.create"]), [vendor_id], ["Costa Tours"], [1], [now], [now]
    )
    await connection.execute(
        "INSERT INTO packages (id, vendor_id, title, type, location, time_zone, status, "
        "base_price_minor, currency, pricing, min_party_size, max_party_size, cutoff_s, "
        "hold_ttl_s, cancellation_policy, version, create_time, update_time) "
        "VALUES ($1, $2, 'Room', 'hotel_room', 'Lisbon', 'UTC', 'ACTIVE', 8050, 'EUR', "
        "'PER_UNIT_DAY', 1, 10, 0, 900, '[]', 1, $3, $3)",
        package_id,
        vendor_id,
        now,
    )
    await connection.execute(
        str(QUERIES["inventory.create"]), [package_id], [soon(0)], [SEATS], [0], [0]
    )
    return package_id


async def start(
    connection: asyncpg.Connection[asyncpg.Record], package_id: UUID, variant: Variant
) -> str:
    """A hold for one day, step for step as a group of one is carried out."""
    day = soon(0)
    query = "packages.lock" if variant.locks else "packages.read"
    try:
        async with connection.transaction():
            await connection.fetch(str(QUERIES[query]), [package_id])
            (found,) = await connection.fetch(
                str(QUERIES["inventory.load"]), [package_id], [day], [day + timedelta(days=1)]
            )
            if found["held"] + found["confirmed"] >= found["capacity"]:
                return "sold out"
            if variant.absolute:
                await connection.execute(ABSOLUTE, package_id, day, found["held"] + 1)
            else:
                await connection.execute(
                    str(QUERIES["inventory.change"]), [package_id], [day], [0], [1], [0]
                )
            await insert_booking(connection, package_id, day)
    except asyncpg.CheckViolationError as error:
        return f"{error.sqlstate} {error.constraint_name}"
    return "held"


async def insert_booking(
    connection: asyncpg.Connection[asyncpg.Record], package_id: UUID, day: date
) -> None:
    now = datetime.now(UTC)
    await connection.execute(
        "INSERT INTO bookings (id, package_id, vendor_id, user_id, session_id, state, start_date, "
        "end_date, quantity, party_size, price_minor, currency, cancellation_policy, "
        "hold_expire_time, end_reason, refunded_minor, version, create_time, update_time) "
        "SELECT $1, id, vendor_id, 'ana', '', 'HELD', $3::date, $3::date + 1, 1, 1, 8050, "
        "'EUR', '[]', $4, '', 0, 1, $4, $4 FROM packages WHERE id = $2",
        uuid4(),
        package_id,
        day,
        now,
    )
