"""Holds under concurrency: limits of a user, one answer to one request, time against payment.

Two copies of the service, each with its own pool and queue, share a database and a clock.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
from statistics import median
from typing import Any
from uuid import UUID, uuid4

import grpc
from google.rpc import error_details_pb2

from booking_service.group_commit import locks
from booking_service.storage.connection import Connection
from protos.booking.v1 import booking_pb2
from tests.booking.races.clients import (
    DEADLINE_S,
    patient,
    reasons,
    released,
    rows,
    until,
    watched,
)
from tests.booking.running_service import (
    NOON,
    Refusal,
    RunningService,
    confirm_of,
    running,
    start_of,
)
from tests.sizes import size

TICK = timedelta(microseconds=1)
NO_SWEEPS = {"BOOKING_SWEEP_INTERVAL_S": "3600"}


class TickingClock:
    """Goes on by a microsecond each time it is read, whichever copy reads it."""

    def __init__(self) -> None:
        self.time = NOON

    async def now(self, connection: Connection) -> datetime:
        del connection
        self.time += TICK
        return self.time

    async def settle(self, connection: Connection) -> None:
        """Nothing is awaited."""


@asynccontextmanager
async def two_copies(
    dsn: str, **settings: str
) -> AsyncIterator[tuple[RunningService, RunningService, TickingClock]]:
    clock = TickingClock()
    settings = NO_SWEEPS | settings
    async with patient(dsn, **settings) as one, patient(dsn, **settings) as other:
        one.server.database.clock = other.server.database.clock = clock
        yield one, other, clock


async def test_confirm_against_the_sweeper_and_the_next_buyer_at_the_instant_of_expiry(
    booking_dsn: str,
) -> None:
    """The last unit has one owner: the payer, or the next buyer and then the money is due back."""
    chance = random.Random(17)
    seen: Counter[str] = Counter()
    async with two_copies(booking_dsn) as (one, other, clock), watched(booking_dsn):
        package = await one.package(capacity=1, days=1)
        # The median leaves out the first sweep, which prepares its statements, and slow ones.
        sweep_s = median([await timed(one.server.sweeper.sweep) for _ in range(9)])
        rounds = size(60, 1000)
        for number in range(10 * rounds):
            # Each race is won by chance: they go on until each side has won one.
            if number >= rounds and len(seen) == 2 and "sweeper" in await enders(booking_dsn):
                break
            pending = await one.completed(package.id, end_date=None, user_id="first")
            expiry = pending.hold_expire_time.ToDatetime(UTC)
            # The copies read the clock five to ten times: some before the hold ends, some after.
            clock.time = expiry - chance.randint(0, 8) * TICK
            confirmed, following = await race_at_expiry(pending, [one, other], chance, sweep_s)
            seen[await outcome_of(one, booking_dsn, pending, confirmed, following)] += 1
            clock.time = expiry + timedelta(hours=1)
    # It was a race: each side won some, the sweeper too.
    assert min(seen["confirmed"], seen["expired"]) > 0, seen
    assert "sweeper" in await enders(booking_dsn)


async def race_at_expiry(
    pending: booking_pb2.Booking,
    copies: list[RunningService],
    chance: random.Random,
    sweep_s: float,
) -> tuple[Any, Any]:
    """Confirm, sweep and start at about the same time; gives the answers to confirm and start."""
    chance.shuffle(copies)
    paid = confirm_of(pending)
    buyer = chance.choice(copies)
    # A sweep takes several statements before it locks anything; the others arrive meanwhile.
    calls: list[Any] = [
        delayed(
            chance.uniform(0, 2 * sweep_s),
            partial(copies[0].booking.ConfirmBooking, paid, timeout=DEADLINE_S),
        ),
        copies[1].server.sweeper.sweep,
        delayed(
            chance.uniform(0, 2 * sweep_s),
            partial(buyer.held, pending.package_id, end_date=None, user_id="next"),
        ),
    ]
    order = [0, 1, 2]
    chance.shuffle(order)
    answers = dict(zip(order, await released([calls[n] for n in order]), strict=True))
    return answers[0], answers[2]


async def outcome_of(
    service: RunningService, dsn: str, pending: booking_pb2.Booking, confirmed: Any, following: Any
) -> str:
    """Check that exactly one side got the unit, give it back, and say how the hold ended."""
    became = await service.booking.GetBooking(booking_pb2.GetBookingRequest(booking_id=pending.id))
    (payment,) = await rows(
        dsn,
        "SELECT p.state, (SELECT count(*) FROM refunds AS r WHERE r.payment_id = p.id) "
        "AS refunds FROM payments AS p WHERE p.booking_id::text = $1",
        pending.id,
    )
    if isinstance(confirmed, booking_pb2.Booking):
        assert confirmed.state == became.state == booking_pb2.Booking.CONFIRMED
        assert tuple(payment) == ("CAPTURED", 0)
        assert reasons([following]) == ["SOLD_OUT"]
        await service.booking.CancelBooking(booking_pb2.CancelBookingRequest(booking_id=pending.id))
        return "confirmed"
    assert reasons([confirmed]) == ["HOLD_EXPIRED"]
    assert became.state == booking_pb2.Booking.EXPIRED
    assert tuple(payment) == ("REFUND_DUE", 1)
    assert isinstance(following, booking_pb2.Booking)
    await service.booking.AbandonBooking(booking_pb2.AbandonBookingRequest(booking_id=following.id))
    return "expired"


async def test_limits_of_a_user_hold_across_all_copies(booking_dsn: str) -> None:
    limits = {
        "BOOKING_HOLDS_PER_USER_MAX": "3",
        "BOOKING_ONE_HOLD_PER_USER_AND_PACKAGE": "true",
    }
    async with two_copies(booking_dsn, **limits) as (one, other, _), watched(booking_dsn):
        packages = [await one.package(capacity=100, days=1) for _ in range(5)]
        for _ in range(size(5, 100)):
            user_id = f"user-{uuid4()}"
            answers = await released(
                [
                    partial(copy.held, package.id, end_date=None, user_id=user_id)
                    for package in packages
                    for copy in (one, other)
                    for _ in range(2)
                ]
            )
            held = [answer for answer in answers if isinstance(answer, booking_pb2.Booking)]
            assert len({booking.package_id for booking in held}) == len(held) == 3
            assert set(reasons(answers)) <= {"HOLD_LIMIT", "ALREADY_HELD"}
            for refusal in answers:
                if isinstance(refusal, Refusal) and refusal.reason == "ALREADY_HELD":
                    assert refusal.resource[1] in {booking.id for booking in held}


async def test_a_start_waits_until_another_one_of_its_user_is_committed(booking_dsn: str) -> None:
    limit = {"BOOKING_HOLDS_PER_USER_MAX": "3"}
    async with patient(booking_dsn, **limit) as service:
        package = await service.package(capacity=10)

        async def waits() -> bool:
            return bool(
                await rows(
                    booking_dsn,
                    "SELECT FROM pg_locks WHERE locktype = 'advisory' AND NOT granted",
                )
            )

        async with service.server.database.transaction() as side:
            await locks.lock_owners(side, ["user:ana"])
            starting = asyncio.ensure_future(service.held(package.id, user_id="ana"))
            assert await until(waits)
            assert not starting.done()
        assert (await starting).state == booking_pb2.Booking.HELD


async def test_one_request_sent_to_both_copies_at_once_is_one_hold(booking_dsn: str) -> None:
    async with two_copies(booking_dsn) as (one, other, _), watched(booking_dsn):
        package = await one.package(capacity=1000, days=1)
        for _ in range(size(5, 100)):
            request = start_of(package.id, end_date=None, request_id=str(uuid4()))
            answers = await released(
                [
                    partial(copy.booking.StartBooking, request, timeout=DEADLINE_S)
                    for copy in (one, other) * 5
                ]
            )
            assert reasons(answers) == []
            assert all(answer == answers[0] for answer in answers)
            (counted,) = await rows(
                booking_dsn,
                "SELECT count(*) FROM booking_events WHERE request_id::text = $1",
                request.request_id,
            )
            assert counted["count"] == 1


async def test_two_hundred_starts_of_one_day_are_answered_in_time_or_refused_with_a_retry_delay(
    booking_dsn: str,
) -> None:
    seats, number = 60, 200
    async with running(booking_dsn, BOOKING_QUEUE_MAX="20") as service, watched(booking_dsn):
        package = await service.package(capacity=seats, days=1)
        put_off: set[int] = set()

        async def buy(buyer: int) -> booking_pb2.Booking | Refusal:
            request = start_of(package.id, end_date=None, request_id=str(uuid4()))
            for _ in range(100):
                try:
                    return await service.booking.StartBooking(request, timeout=DEADLINE_S)
                except grpc.aio.AioRpcError as error:
                    refusal = Refusal(error)
                if refusal.reason != "OVERLOADED":
                    return refusal
                put_off.add(buyer)
                delay = refusal.detail(error_details_pb2.RetryInfo).retry_delay.ToTimedelta()
                assert delay > timedelta(0)
                await asyncio.sleep(delay.total_seconds())
            raise AssertionError("was put off for ever")

        async def most_are_put_off() -> bool:
            return len(put_off) > number // 2

        # While the package is locked no command ends: the queue fills up, and a command that finds
        # it full is refused at once, not when it has room again.
        async with service.server.database.transaction() as side:
            await locks.lock_packages(side, [UUID(package.id)], skip_locked=False)
            buying = asyncio.ensure_future(
                released([partial(buy, buyer) for buyer in range(number)])
            )
            assert await until(most_are_put_off)
        answers = await buying
    assert reasons(answers) == ["SOLD_OUT"] * (number - seats)


async def enders(dsn: str) -> set[str]:
    """Who ended holds that had lapsed."""
    found = await rows(
        dsn, "SELECT caller FROM booking_events WHERE transition = 'EXPIRED' GROUP BY caller"
    )
    return {row["caller"] for row in found}


def delayed(by_s: float, call: Callable[[], Awaitable[Any]]) -> Callable[[], Awaitable[Any]]:
    async def later() -> Any:
        await asyncio.sleep(by_s)
        return await call()

    return later


async def timed(call: Callable[[], Awaitable[Any]]) -> float:
    loop = asyncio.get_running_loop()
    began = loop.time()
    await call()
    return loop.time() - began
