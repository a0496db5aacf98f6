"""Rows for tests that need bookings without the commands that make them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, date, datetime, timedelta
from uuid import UUID, uuid4

import asyncpg

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
DAY = date(2026, 5, 1)


async def add_package(connection: asyncpg.Connection[asyncpg.Record], **changes: object) -> UUID:
    """A package of a new vendor, on sale, without days."""
    vendor_id = uuid4()
    await connection.execute(
        "INSERT INTO vendors (id, name, version, create_time, update_time)"
        " VALUES ($1, 'Vendor', 1, $2, $2)",
        vendor_id,
        NOW,
    )
    values: dict[str, object] = {
        "id": uuid4(),
        "vendor_id": vendor_id,
        "title": "Room",
        "type": "hotel_room",
        "location": "Lisbon",
        "time_zone": "Europe/Lisbon",
        "status": "ACTIVE",
        "bookable_from": None,
        "bookable_until": None,
        "base_price_minor": 10_000,
        "currency": "EUR",
        "pricing": "PER_UNIT_DAY",
        "min_party_size": 1,
        "max_party_size": 10,
        "cutoff_s": 0,
        "hold_ttl_s": 900,
        "cancellation_policy": "[[86400, 10000], [0, 5000]]",
        "version": 1,
        "create_time": NOW,
        "update_time": NOW,
    }
    return await _insert(connection, "packages", values | changes)


async def add_days(
    connection: asyncpg.Connection[asyncpg.Record],
    package_id: UUID,
    days: int,
    *,
    start: date = DAY,
    capacity: int = 2,
    held: int = 0,
    confirmed: int = 0,
) -> None:
    """`days` days from `start` on, all alike."""
    await connection.executemany(
        "INSERT INTO package_days (package_id, day, capacity, held, confirmed)"
        " VALUES ($1, $2, $3, $4, $5)",
        [(package_id, start + timedelta(n), capacity, held, confirmed) for n in range(days)],
    )


async def add_booking(
    connection: asyncpg.Connection[asyncpg.Record], package_id: UUID, **changes: object
) -> UUID:
    """A hold of one unit on DAY, until 15 minutes after NOW. Days are not touched."""
    values: dict[str, object] = {
        "id": uuid4(),
        "package_id": package_id,
        "vendor_id": uuid4(),
        "user_id": "user",
        "session_id": "session",
        "state": "HELD",
        "start_date": DAY,
        "end_date": DAY + timedelta(1),
        "quantity": 1,
        "party_size": 1,
        "price_minor": 10_000,
        "currency": "EUR",
        "cancellation_policy": "[]",
        "hold_expire_time": NOW + timedelta(minutes=15),
        "complete_time": None,
        "confirm_time": None,
        "end_time": None,
        "end_reason": "",
        "refund_minor": None,
        "refunded_minor": 0,
        "version": 1,
        "create_time": NOW,
        "update_time": NOW,
    }
    return await _insert(connection, "bookings", values | changes)


async def eventually(condition: Callable[[], Awaitable[object]], within_s: float = 30.0) -> None:
    """Returns once the condition holds; TimeoutError when it does not in time."""
    async with asyncio.timeout(within_s):
        while True:
            if await condition():
                return
            await asyncio.sleep(0.01)


async def _insert(
    connection: asyncpg.Connection[asyncpg.Record], table: str, values: dict[str, object]
) -> UUID:
    places = ", ".join(f"${n}" for n in range(1, len(values) + 1))
    statement = f"INSERT INTO {table} ({', '.join(values)}) VALUES ({places})"
    await connection.execute(statement, *values.values())
    id = values["id"]
    assert isinstance(id, UUID)
    return id
