"""RPCs that end before they are answered, at any moment of their work: nothing stays taken.

The service runs in this process, so that its pool can be inspected.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Callable
from statistics import median
from typing import Any
from uuid import uuid4

import asyncpg
import grpc

from protos.booking.v1 import booking_pb2, catalog_pb2
from tests.booking.races.clients import (
    DEADLINE_S,
    SETTLE_S,
    left_over,
    patient,
    rows,
    until,
    watched,
)
from tests.booking.running_service import RunningService, after, confirm_of, running, start_of
from tests.sizes import size

CALLS = size(100, 1000)
AT_ONCE = 20
TRIES = 5
"""How many calls are made for one that is cut short, at most."""

WAITS = """
SELECT FROM pg_stat_activity
WHERE datname = current_database() AND wait_event_type = 'Lock' AND query LIKE '%FROM packages%'
"""

Call = Callable[[float | None], Any]


async def test_calls_cancelled_at_random_moments_leave_nothing_behind(booking_dsn: str) -> None:
    chance = random.Random()
    async with running(booking_dsn) as service, watched(booking_dsn):
        package = await service.package(capacity=100_000)
        starts: list[booking_pb2.StartBookingRequest] = []
        longest_s = await undisturbed_s(service, package.id, starts)
        ends: Counter[grpc.StatusCode] = Counter()
        cut = 0
        for _ in range(TRIES * CALLS // AT_ONCE):
            pending = [await service.completed(package.id, end_date=None) for _ in range(2)]
            calls = [some_call(service, package.id, pending, starts, n) for n in range(AT_ONCE)]
            chance.shuffle(calls)
            ends.update(
                await asyncio.gather(
                    *(cut_short(call, chance.uniform(0, longest_s), chance) for call in calls)
                )
            )
            before = cut
            cut = ends[grpc.StatusCode.CANCELLED] + ends[grpc.StatusCode.DEADLINE_EXCEEDED]
            if cut >= CALLS:
                break
            # The machine is quicker or slower than it was.
            if cut - before < AT_ONCE / 4:
                longest_s /= 2
            elif cut - before > AT_ONCE * 3 / 4:
                longest_s *= 2
        assert cut >= CALLS
        assert ends[grpc.StatusCode.OK] > 0

        await whole(service)
        assert await left_over(booking_dsn) == []
        # Each request is carried out once, whether it was before, or only now.
        answers = [
            await service.booking.StartBooking(start, timeout=DEADLINE_S) for start in starts
        ]
        made = await rows(booking_dsn, "SELECT id::text FROM bookings WHERE user_id = 'cut short'")
        assert sorted(row["id"] for row in made) == sorted(booking.id for booking in answers)
        await whole(service)


async def test_a_commit_that_its_caller_did_not_wait_for_is_the_answer_to_the_repeat(
    booking_dsn: str,
) -> None:
    async with patient(booking_dsn) as service, watched(booking_dsn):
        package = await service.package(capacity=10)
        start = start_of(package.id, request_id=str(uuid4()))
        side = await asyncpg.connect(booking_dsn)

        async def under_way() -> bool:
            # Before that it would be dropped with its caller.
            return bool(await rows(booking_dsn, WAITS))

        async with side.transaction():
            await side.execute("SELECT FROM packages FOR UPDATE")
            call = service.booking.StartBooking(start)
            assert await until(under_way)
            call.cancel()
            assert await call.code() is grpc.StatusCode.CANCELLED

        async def committed() -> bool:
            return bool(await side.fetchval("SELECT count(*) FROM bookings"))

        assert await until(committed)
        again = await service.booking.StartBooking(start, timeout=DEADLINE_S)
        assert [row[0] for row in await side.fetch("SELECT id::text FROM bookings")] == [again.id]
        await side.close()
        await whole(service)


def some_call(
    service: RunningService,
    package_id: str,
    pending: list[booking_pb2.Booking],
    starts: list[booking_pb2.StartBookingRequest],
    n: int,
) -> Call:
    """The `n`th of AT_ONCE calls: half of them change something, and all kinds of reads."""
    booking = pending[n % len(pending)]
    if n < 6:
        start = start_of(package_id, user_id="cut short", request_id=str(uuid4()))
        starts.append(start)
        return lambda timeout: service.booking.StartBooking(start, timeout=timeout)
    if n < 8:
        paid = confirm_of(booking)
        return lambda timeout: service.booking.ConfirmBooking(paid, timeout=timeout)
    if n < 10:
        end = booking_pb2.AbandonBookingRequest(booking_id=booking.id, request_id=str(uuid4()))
        return lambda timeout: service.booking.AbandonBooking(end, timeout=timeout)
    reads: list[Call] = [
        lambda timeout: service.booking.GetBooking(
            booking_pb2.GetBookingRequest(booking_id=booking.id), timeout=timeout
        ),
        lambda timeout: service.booking.ListBookings(
            booking_pb2.ListBookingsRequest(package_id=package_id), timeout=timeout
        ),
        lambda timeout: service.catalog.GetPackage(
            catalog_pb2.GetPackageRequest(package_id=package_id), timeout=timeout
        ),
        lambda timeout: service.catalog.CheckAvailability(
            catalog_pb2.CheckAvailabilityRequest(
                package_id=package_id, start_date=after(0), end_date=after(5)
            ),
            timeout=timeout,
        ),
        lambda timeout: service.catalog.SearchPackages(
            catalog_pb2.SearchPackagesRequest(location="Lisbon"), timeout=timeout
        ),
    ]
    return reads[n % len(reads)]


async def cut_short(call: Call, after_s: float, chance: random.Random) -> grpc.StatusCode:
    """How a call ended that was cancelled, or given that long, whichever it is."""
    if chance.random() < 0.3:
        started = call(max(after_s, 0.001))
    else:
        started = call(None)
        asyncio.get_running_loop().call_later(after_s, started.cancel)
    async with asyncio.timeout(DEADLINE_S):
        code = await started.code()
    assert isinstance(code, grpc.StatusCode)
    return code


async def undisturbed_s(
    service: RunningService, package_id: str, starts: list[booking_pb2.StartBookingRequest]
) -> float:
    """How long one of AT_ONCE calls takes when it is let end: half of them take longer."""
    pending = [await service.completed(package_id, end_date=None) for _ in range(2)]
    loop = asyncio.get_running_loop()
    taken_s: list[float] = []

    async def one(call: Call) -> None:
        began = loop.time()
        code = await call(DEADLINE_S).code()
        assert code in (grpc.StatusCode.OK, grpc.StatusCode.FAILED_PRECONDITION), code
        taken_s.append(loop.time() - began)

    calls = [some_call(service, package_id, pending, starts, n) for n in range(AT_ONCE)]
    await asyncio.gather(*map(one, calls))
    return median(taken_s)


async def whole(service: RunningService) -> None:
    """Returns when all connections of the pool are idle, and the next call is answered."""
    pool = service.server.database.pool

    async def idle() -> bool:
        return pool.get_idle_size() == pool.get_size()

    assert await until(idle), pool.gauges()
    # Not merely counted as idle: each can be had, and works.
    async with asyncio.timeout(SETTLE_S):
        taken = [await pool.acquire() for _ in range(pool.get_max_size())]
        for connection in taken:
            assert await connection.fetchval("SELECT 1") == 1
            assert not connection.is_in_transaction()
            await pool.release(connection)
    await service.vendor()
