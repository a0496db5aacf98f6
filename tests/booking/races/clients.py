"""What the race and crash tests share: clients that are let go at once, and the recount.

The recount reads only the bookings and never the counters that it is compared with.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any
from uuid import uuid4

import asyncpg
import grpc

from protos.booking.v1 import (
    booking_pb2,
    booking_pb2_grpc,
    catalog_pb2,
    catalog_pb2_grpc,
    payment_pb2_grpc,
)
from tests.booking.running_service import (
    Refusal,
    RunningService,
    day,
    package_of,
    running,
    start_of,
)

DEADLINE_S = 10.0
SETTLE_S = 10.0
PATIENCE_S = 60.0
# Read once, so that midnight moves no day between two requests.
TODAY = datetime.now(UTC).date()
POLL_S = 0.01

OPTIONS = (
    # Else all channels to one target share a connection.
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.initial_reconnect_backoff_ms", 50),
    ("grpc.min_reconnect_backoff_ms", 50),
    ("grpc.max_reconnect_backoff_ms", 200),
)

AUDIT = """
WITH taken AS (
    SELECT
        b.package_id,
        night::date AS day,
        sum(b.quantity) FILTER (WHERE b.state IN ('HELD', 'PENDING_PAYMENT')) AS held,
        sum(b.quantity) FILTER (WHERE b.state IN ('CONFIRMED', 'FULFILLED')) AS confirmed
    FROM bookings AS b
    CROSS JOIN LATERAL generate_series(b.start_date, b.end_date - 1, interval '1 day') AS night
    WHERE b.state IN ('HELD', 'PENDING_PAYMENT', 'CONFIRMED', 'FULFILLED')
    GROUP BY b.package_id, night
),
compared AS (
    SELECT
        coalesce(d.capacity, 0) AS capacity,
        coalesce(d.held, 0) AS held,
        coalesce(d.confirmed, 0) AS confirmed,
        coalesce(t.held, 0) AS held_again,
        coalesce(t.confirmed, 0) AS confirmed_again
    FROM package_days AS d
    FULL JOIN taken AS t ON d.package_id = t.package_id AND d.day = t.day
)
SELECT
    count(*) FILTER (
        WHERE greatest(held + confirmed, held_again + confirmed_again) > capacity
    ) AS oversold,
    count(*) FILTER (WHERE held < 0 OR confirmed < 0) AS negative,
    count(*) FILTER (WHERE held <> held_again OR confirmed <> confirmed_again) AS drift
FROM compared
"""

# The leader of the outbox holds a session lock for as long as it leads.
LEFT_OVER = """
SELECT application_name || ': ' || state FROM pg_stat_activity
WHERE datname = current_database() AND application_name LIKE 'booking_service%'
    AND (xact_start IS NOT NULL OR state LIKE 'idle in transaction%')
UNION ALL
SELECT a.application_name || ': ' || l.locktype || ' ' || l.mode
FROM pg_locks AS l
INNER JOIN pg_stat_activity AS a ON l.pid = a.pid
WHERE a.datname = current_database() AND a.application_name LIKE 'booking_service%'
    AND NOT (l.locktype = 'advisory' AND a.application_name = 'booking_service/relay')
"""


@dataclass(frozen=True)
class Audit:
    """Days on which something is wrong; all 0 when the counters are what the bookings say."""

    oversold: int = 0
    negative: int = 0
    drift: int = 0


CLEAN = Audit()


async def audit(dsn: str) -> Audit:
    """Every day of every package, against the bookings, in one snapshot."""
    (row,) = await rows(dsn, AUDIT)
    return Audit(row["oversold"], row["negative"], row["drift"])


async def rows(dsn: str, sql: str, *args: object) -> list[asyncpg.Record]:
    connection = await asyncpg.connect(dsn)
    try:
        return await connection.fetch(sql, *args)
    finally:
        await connection.close()


@asynccontextmanager
async def patient(dsn: str, **settings: str) -> AsyncIterator[RunningService]:
    """A copy of the service in this process that tolerates pauses of the machine."""
    async with running(dsn, **settings) as service:
        service.server.bus.queues.lock_timeout_s = PATIENCE_S
        yield service


@asynccontextmanager
async def watched(dsn: str) -> AsyncIterator[None]:
    """Audits all the time until the block ends, and fails when one of them was not clean."""
    connection = await asyncpg.connect(dsn)

    async def observe() -> Audit:
        row = await connection.fetchrow(AUDIT)
        assert row is not None
        return Audit(row["oversold"], row["negative"], row["drift"])

    async def watch() -> None:
        while True:
            seen.append(await observe())
            await asyncio.sleep(POLL_S)

    seen = [await observe()]
    watching = asyncio.create_task(watch())
    try:
        yield
    finally:
        watching.cancel()
        (outcome,) = await asyncio.gather(watching, return_exceptions=True)
        connection.terminate()
    assert isinstance(outcome, asyncio.CancelledError), outcome
    seen.append(await audit(dsn))
    assert set(seen) == {CLEAN}, set(seen)


async def left_over(dsn: str, *, sessions: bool = False) -> list[str]:
    """Locks and open transactions of the service that are still there when SETTLE_S have passed.

    `sessions` counts those that merely exist too: for when no copy is running.
    """
    sql = LEFT_OVER
    if sessions:
        sql = (
            "SELECT application_name || ': ' || coalesce(state, '') FROM pg_stat_activity "
            "WHERE datname = current_database() AND application_name LIKE 'booking_service%'"
        )
    found: list[str] = []
    connection = await asyncpg.connect(dsn)

    async def none() -> bool:
        nonlocal found
        found = [row[0] for row in await connection.fetch(sql)]
        return not found

    try:
        await until(none)
    finally:
        await connection.close()
    return found


async def until(holds: Callable[[], Awaitable[bool]]) -> bool:
    """Whether a condition holds within SETTLE_S; returns as soon as it does."""
    loop = asyncio.get_running_loop()
    give_up = loop.time() + SETTLE_S
    while True:
        if await holds():
            return True
        if loop.time() > give_up:
            return False
        await asyncio.sleep(POLL_S)


async def deadlocks(dsn: str) -> int:
    """How often PostgreSQL has broken a deadlock in this database.

    A session reports it a second later, or when it ends: ask when the service has ended.
    """
    (row,) = await rows(
        dsn, "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()"
    )
    return int(row["deadlocks"])


class Client:
    """One connection to one copy, and what a client does with it."""

    def __init__(self, target: str) -> None:
        self.channel = grpc.aio.insecure_channel(target, options=OPTIONS)
        self.booking: booking_pb2_grpc.BookingServiceAsyncStub = (
            booking_pb2_grpc.BookingServiceStub(self.channel)
        )
        self.catalog: catalog_pb2_grpc.CatalogServiceAsyncStub = (
            catalog_pb2_grpc.CatalogServiceStub(self.channel)
        )
        self.payment: payment_pb2_grpc.PaymentServiceAsyncStub = (
            payment_pb2_grpc.PaymentServiceStub(self.channel)
        )

    async def package(self, *, capacity: int, days: int, **fields: Any) -> str:
        """A new package on sale on `days` days from `soon(0)`."""
        vendor = await self.catalog.CreateVendor(
            catalog_pb2.CreateVendorRequest(vendor=catalog_pb2.Vendor(name="Costa Tours"))
        )
        package = await self.catalog.CreatePackage(
            catalog_pb2.CreatePackageRequest(package=package_of(vendor.id, **fields))
        )
        span = catalog_pb2.CapacityRange(
            start_date=day(soon(0)), end_date=day(soon(days)), capacity=capacity
        )
        await self.catalog.SetCapacity(
            catalog_pb2.SetCapacityRequest(package_id=package.id, ranges=[span])
        )
        return package.id

    async def start(self, package_id: str, **fields: Any) -> booking_pb2.Booking:
        """By a new user, for one day, unless `fields` replace that."""
        return await self.booking.StartBooking(
            start_request(package_id, **fields), timeout=DEADLINE_S
        )

    async def pending(self, package_id: str, **fields: Any) -> booking_pb2.Booking:
        held = await self.start(package_id, **fields)
        return await self.booking.CompleteBooking(
            booking_pb2.CompleteBookingRequest(booking_id=held.id), timeout=DEADLINE_S
        )


@asynccontextmanager
async def clients(targets: Sequence[str], number: int) -> AsyncIterator[list[Client]]:
    """Connected clients, spread evenly over the copies."""
    async with AsyncExitStack() as stack:
        made = [Client(targets[n % len(targets)]) for n in range(number)]
        for client in made:
            stack.push_async_callback(client.channel.close)
        async with asyncio.timeout(DEADLINE_S):
            for client in made:
                await client.channel.channel_ready()
        yield made


async def released(calls: Sequence[Callable[[], Awaitable[Any]]]) -> list[Any]:
    """The answers of calls that a barrier lets go at once; a refusal is an answer too."""
    barrier = asyncio.Barrier(len(calls))

    async def one(call: Callable[[], Awaitable[Any]]) -> Any:
        await barrier.wait()
        try:
            return await call()
        except grpc.aio.AioRpcError as error:
            return Refusal(error)

    return await asyncio.gather(*map(one, calls))


def reasons(answers: Sequence[object]) -> list[str]:
    """The reasons of those that were refused."""
    return [answer.reason for answer in answers if isinstance(answer, Refusal)]


def soon(days: int) -> date:
    """The day `days` after one that is not past by the database's own clock."""
    return TODAY + timedelta(days=30 + days)


def start_request(package_id: str, **fields: Any) -> booking_pb2.StartBookingRequest:
    good = {
        "user_id": f"user-{uuid4()}",
        "start_date": day(soon(0)),
        "end_date": day(soon(1)),
        "request_id": str(uuid4()),
    }
    return start_of(package_id, **(good | fields))


def p99_s(latencies_s: Sequence[float]) -> float:
    return sorted(latencies_s)[int(0.99 * (len(latencies_s) - 1))]
