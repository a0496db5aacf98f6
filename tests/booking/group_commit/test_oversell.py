"""Seats are never oversold and no booking is confirmed without them."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from uuid import uuid4

import asyncpg
import pytest

from booking_service.domain.booking import Booking, Payment, PaymentKind, PaymentState, State
from booking_service.domain.commands import (
    AbandonBooking,
    CancelBooking,
    CompleteBooking,
    ExpireHolds,
    ExtendHold,
    FailBooking,
    StartBatch,
)
from booking_service.domain.refusal import Reason, Refused
from booking_service.reads.packages import PackageQueries
from tests.booking.group_commit.harness import (
    DAY,
    PRICE,
    Harness,
    confirm,
    copy_of,
    drift,
    reasons,
    record,
    refused,
    start,
)


@pytest.mark.parametrize("lapsed", [False, True])
async def test_of_two_buyers_of_the_last_seat_one_is_confirmed(
    harness: Harness, lapsed: bool
) -> None:
    # The first hold is in its last microsecond, or has just lapsed, when both pay.
    async with copy_of(harness) as copy:
        for _ in range(5):
            package_id = await harness.package(capacity=1, nights=1)
            first = await harness.start(package_id)
            await harness.submit(CompleteBooking(first.id))
            edge = timedelta() if lapsed else timedelta(microseconds=-1)
            harness.clock.time = first.hold_expire_time + edge
            second = start(package_id)

            async def buy(copy: Harness = copy, second: object = second) -> None:
                booking = await copy.submit(second)
                assert isinstance(booking, Booking)
                await copy.submit(record(booking, PaymentKind.CAPTURED, PRICE))

            outcomes = await reasons([harness.submit(confirm(first)), buy()])
            assert sorted(outcomes) in ([["OK", "SOLD_OUT"], ["HOLD_EXPIRED", "OK"]])
            if not lapsed:
                assert outcomes == ["OK", "SOLD_OUT"]
            assert await harness.counters(package_id) == (0, 1)
    assert await drift(harness.dsn) == 0


@pytest.mark.processes
async def test_twenty_starts_at_two_copies_never_take_more_than_ten_seats(
    harness: Harness,
) -> None:
    package_id = await harness.package(capacity=10, nights=1)
    seen: set[int] = set()
    stop = asyncio.Event()

    async def poll() -> None:
        connection = await asyncpg.connect(harness.dsn)
        while not stop.is_set():
            seen.add(
                await connection.fetchval(
                    "SELECT held + confirmed FROM package_days WHERE package_id = $1", package_id
                )
            )
        await connection.close()

    watching = asyncio.create_task(poll())
    async with copy_of(harness) as copy:
        asked = [bus.start(package_id) for _ in range(10) for bus in (harness, copy)]
        outcomes = await reasons(asked)
    stop.set()
    await watching
    assert sorted(outcomes) == ["OK"] * 10 + ["SOLD_OUT"] * 10
    assert await harness.counters(package_id) == (10, 0)
    assert seen <= set(range(11))


async def test_nothing_but_a_payment_for_held_seats_confirms(harness: Harness) -> None:
    package_id = await harness.package(capacity=1, nights=1)
    booking = await harness.start(package_id)
    # A completed form is no payment, and a booking that was never started has no seats.
    await harness.submit(CompleteBooking(booking.id))
    unknown = start(package_id).booking_id
    paid = record(booking, PaymentKind.AUTHORISED, PRICE)
    assert isinstance(await harness.submit(paid), Payment)
    assert (await harness.booking(booking.id)).state is State.PENDING_PAYMENT
    assert await refused(harness.submit(CompleteBooking(unknown))) is Reason.NOT_FOUND
    for end in (AbandonBooking(booking.id, ""), FailBooking(booking.id, "TIMEOUT")):
        await reasons([harness.submit(end)])
        for pay in (confirm(booking), record(booking, PaymentKind.CAPTURED, PRICE)):
            assert await refused(harness.submit(pay)) is Reason.INVALID_TRANSITION
        assert await harness.counters(package_id) == (0, 0)
    row = await harness.query("SELECT array_agg(DISTINCT to_state) FROM booking_events")
    assert sorted(row[0]) == ["ABANDONED", "HELD", "PENDING_PAYMENT"]


async def test_the_second_line_of_a_batch_sees_the_first(harness: Harness) -> None:
    package_id = await harness.package(capacity=5, nights=1)
    lines = [start(package_id, quantity=3) for _ in range(2)]
    # All or nothing: the batch as a whole, and nothing of it stays.
    with pytest.raises(Refused) as caught:
        await harness.submit(StartBatch(tuple(lines)))
    refusal = caught.value.refusal
    assert (refusal.reason, refusal.metadata["index"]) == (Reason.SOLD_OUT, "1")
    assert refusal.metadata["days"] == "2026-05-01=2"
    assert await harness.counters(package_id) == (0, 0)
    # Each for itself: the second alone.
    assert await reasons(harness.submit(line) for line in lines) == ["OK", "SOLD_OUT"]
    assert await harness.counters(package_id) == (3, 0)


async def test_a_batch_over_several_packages_is_all_or_nothing(harness: Harness) -> None:
    full, free = await harness.package(1, nights=1), await harness.package(1, nights=1)
    await harness.start(full)
    both = StartBatch((start(free), start(full)))
    assert await refused(harness.submit(both)) is Reason.SOLD_OUT
    assert await harness.counters(free) == (0, 0)
    other = await harness.package(1, nights=1)
    answer = await harness.submit(StartBatch((start(free), start(other))))
    assert isinstance(answer, tuple)
    assert [booking.state for booking in answer] == [State.HELD] * 2
    assert (await harness.counters(free), await harness.counters(other)) == ((1, 0), (1, 0))


async def test_a_hundred_starts_beside_a_hundred_cancellations_leave_exact_counters(
    harness: Harness,
) -> None:
    package_id = await harness.package(capacity=200)
    stays = [await harness.paid(package_id, quantity=1 + n % 2) for n in range(30)]
    async with copy_of(harness) as copy:
        starts = [
            (harness, copy)[n % 2].start(
                package_id,
                start_date=DAY + timedelta(n % 7),
                end_date=DAY + timedelta(n % 7 + 1 + n % 3),
            )
            for n in range(100)
        ]
        # Each cancellation comes from several callers; one of them does it.
        cancels = [
            (harness, copy)[n % 2].submit(CancelBooking(stays[n % 30].id, "", uuid4()))
            for n in range(100)
        ]
        mixed = [waiting for pair in zip(starts, cancels, strict=True) for waiting in pair]
        assert await reasons(mixed) == ["OK"] * 200
    assert await drift(harness.dsn) == 0
    assert await harness.counters(package_id, DAY + timedelta(1)) != (0, 0)
    row = await harness.query(
        "SELECT count(*), sum(amount_minor) = sum(refunded) FROM refunds"
        " CROSS JOIN LATERAL (SELECT price_minor AS refunded FROM bookings"
        " WHERE id = booking_id) AS b"
    )
    assert tuple(row) == (30, True)


async def test_the_buyer_of_the_last_seat_must_pass_the_other_checks(harness: Harness) -> None:
    package_id = await harness.package(capacity=1, nights=1)
    command, request_id = start(package_id), uuid4()
    booking = await harness.submit(command, request_id=request_id)
    assert isinstance(booking, Booking)
    shown = await PackageQueries(harness.database).check_availability(
        package_id, DAY, DAY + timedelta(1)
    )
    assert shown is not None
    assert [day.free for _, day in shown.days] == [0]
    # His seat counts as taken, but not against him.
    assert await harness.submit(command, request_id=request_id) == booking
    for step in (ExtendHold(booking.id), CompleteBooking(booking.id), confirm(booking)):
        answer = await harness.submit(step)
        assert isinstance(answer, Booking)
    assert (await harness.booking(booking.id)).state is State.CONFIRMED
    assert await refused(harness.start(package_id)) is Reason.SOLD_OUT


async def test_a_start_that_is_refused_leaves_the_holds_of_others_alone(harness: Harness) -> None:
    package_id = await harness.package(capacity=2, nights=1)
    lapsing = await harness.start(package_id)
    harness.clock.advance(timedelta(minutes=10))
    live = await harness.start(package_id)
    harness.clock.advance(timedelta(minutes=6))
    request_id, wanted = uuid4(), start(package_id, quantity=2)
    assert await refused(harness.submit(wanted, request_id=request_id)) is Reason.SOLD_OUT
    assert (await harness.booking(lapsing.id)).state is State.HELD
    # And since it had no effect, it is tried anew.
    await harness.submit(AbandonBooking(live.id, ""))
    assert await reasons([harness.submit(wanted, request_id=request_id)]) == ["OK"]
    assert await harness.counters(package_id) == (2, 0)
    assert await harness.submit(ExpireHolds(package_id)) == 0


async def test_a_payment_of_any_amount_for_an_ended_booking_is_due_back(
    harness: Harness,
) -> None:
    package_id = await harness.package(capacity=1, nights=1)
    booking = await harness.paid(package_id)
    await harness.submit(CancelBooking(booking.id, "", uuid4()))
    late = record(booking, PaymentKind.CAPTURED, 77, payment_id="late")
    assert await refused(harness.submit(late)) is Reason.INVALID_TRANSITION
    row = await harness.query("SELECT state, amount_minor FROM payments WHERE payment_id = 'late'")
    assert tuple(row) == ("REFUND_DUE", 77)
    again = await harness.submit(record(booking, PaymentKind.FAILED, 77, payment_id="late"))
    assert isinstance(again, Payment)
    assert again.state is PaymentState.REFUND_DUE
