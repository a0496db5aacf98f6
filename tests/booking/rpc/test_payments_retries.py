"""ClaimFailedPayments: each failed payment is handed to one caller for the length of a lease."""

from __future__ import annotations

import asyncio
from datetime import UTC, timedelta
from uuid import uuid4

from google.protobuf.duration_pb2 import Duration

from protos.booking.v1 import booking_pb2, payment_pb2
from tests.booking.rpc.payment_calls import (
    Kind,
    State,
    claim,
    event_of,
    failed,
    payments_of,
)
from tests.booking.running_service import FIRST_DAY, RunningService, running

Claim = payment_pb2.ClaimFailedPaymentsRequest


async def test_a_claimed_payment_is_not_handed_out_until_its_lease_is_over(
    booking: RunningService,
) -> None:
    package = await booking.package()
    payment = await failed(booking, package.id, "declined")
    answer = await booking.payment.ClaimFailedPayments(Claim(lease=Duration(seconds=60)))
    (claimed,) = answer.payments
    assert (claimed.id, claimed.state) == (payment.id, State.FAILED)
    assert claimed.failure_code == "do_not_honour"
    taken = claimed.update_time.ToDatetime(UTC)
    assert claimed.next_retry_time.ToDatetime(UTC) == taken + timedelta(minutes=1)
    assert await payments_of(booking, payment.booking_id) == [claimed]
    assert await claim(booking) == []
    booking.clock.advance(timedelta(seconds=59))
    assert await claim(booking) == []
    booking.clock.advance(timedelta(seconds=2))
    assert await claim(booking) == ["declined"]


async def test_a_lease_is_five_minutes_unless_asked(booking: RunningService) -> None:
    package = await booking.package()
    await failed(booking, package.id, "declined")
    assert await claim(booking) == ["declined"]
    booking.clock.advance(timedelta(minutes=5) - timedelta(seconds=1))
    assert await claim(booking) == []
    booking.clock.advance(timedelta(seconds=2))
    assert await claim(booking) == ["declined"]


async def test_the_longest_due_are_handed_out_first_and_no_more_than_asked(
    booking: RunningService,
) -> None:
    package = await booking.package(capacity=20)
    names = [f"p{n}" for n in range(12)]
    for name in names:
        await failed(booking, package.id, name)
    assert await claim(booking, limit=1) == ["p0"]
    assert await claim(booking) == names[1:11]
    assert await claim(booking, limit=1000) == ["p11"]


async def test_claims_at_once_hand_out_each_payment_once(
    booking: RunningService, booking_dsn: str
) -> None:
    """From two copies of the service, of payments of several packages."""
    names = []
    for n in range(4):
        package = await booking.package()
        for m in range(5):
            names.append(f"p{n}-{m}")
            await failed(booking, package.id, names[-1])
    async with running(booking_dsn) as other:
        other.clock.time = booking.clock.time
        claimed: list[str] = []
        for _ in range(10):
            answers = await asyncio.gather(
                *(claim(service, limit=3) for service in (booking, other) for _ in range(4))
            )
            claimed += [name for answer in answers for name in answer]
            if not any(answers):
                break
    assert sorted(claimed) == sorted(names)


async def test_a_repeated_claim_gets_the_first_answer(booking: RunningService) -> None:
    package = await booking.package()
    await failed(booking, package.id, "one")
    request = Claim(request_id=str(uuid4()))
    first = await booking.payment.ClaimFailedPayments(request)
    assert len(first.payments) == 1
    await failed(booking, package.id, "two")
    assert await booking.payment.ClaimFailedPayments(request) == first
    empty = Claim(request_id=str(uuid4()))
    assert await claim(booking) == ["two"]
    assert not (await booking.payment.ClaimFailedPayments(empty)).payments
    await failed(booking, package.id, "three")
    assert not (await booking.payment.ClaimFailedPayments(empty)).payments


async def test_a_payment_that_could_only_be_paid_back_is_not_tried_again(
    booking: RunningService,
) -> None:
    package = await booking.package()
    paid = await booking.completed(package.id)
    await booking.payment.RecordPayment(event_of(paid, Kind.FAILED, "first attempt"))
    await booking.payment.RecordPayment(event_of(paid, Kind.CAPTURED, "second attempt"))
    gone = await failed(booking, package.id, "given up")
    await booking.booking.AbandonBooking(
        booking_pb2.AbandonBookingRequest(booking_id=gone.booking_id)
    )
    wanted = await failed(booking, package.id, "wanted")
    listed = await booking.payment.ListFailedPayments(payment_pb2.ListFailedPaymentsRequest())
    assert len(listed.payments) == 3
    assert await claim(booking, limit=1) == ["wanted"]
    listed = await booking.payment.ListFailedPayments(payment_pb2.ListFailedPaymentsRequest())
    assert [each.id for each in listed.payments] == [wanted.id]
    (first, _) = await payments_of(booking, paid.id)
    assert first.state == State.FAILED
    assert not first.HasField("next_retry_time")


async def test_a_late_failure_of_a_first_attempt_is_not_tried_again(
    booking: RunningService,
) -> None:
    package = await booking.package()
    paid = await booking.completed(package.id)
    await booking.payment.RecordPayment(event_of(paid, Kind.CAPTURED, "second attempt"))
    await booking.payment.RecordPayment(event_of(paid, Kind.FAILED, "first attempt"))
    booking.clock.advance(timedelta(seconds=1))
    assert await claim(booking) == []


async def test_an_expired_booking_is_waited_for_while_its_days_are_on_sale(
    booking: RunningService,
) -> None:
    package = await booking.package()
    payment = await failed(booking, package.id, "declined")
    booking.clock.advance(timedelta(hours=1))
    await booking.server.sweeper.sweep()
    assert await claim(booking, lease=Duration(seconds=60)) == ["declined"]
    captured = event_of(
        booking_pb2.Booking(id=payment.booking_id, price=payment.amount), Kind.CAPTURED, "declined"
    )
    late = await failed(booking, package.id, "later")
    booking.clock.time = booking.clock.time.replace(
        year=FIRST_DAY.year, month=FIRST_DAY.month, day=FIRST_DAY.day
    )
    await booking.server.sweeper.sweep()
    assert await claim(booking) == []
    assert (await payments_of(booking, late.booking_id))[0].state == State.FAILED
    assert (await booking.payment.RecordPayment(captured)).state == State.CAPTURED
