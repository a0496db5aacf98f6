"""The balance of a change of dates: accepted once, exactly, and tried again if it fails."""

from __future__ import annotations

from protos.booking.v1 import booking_pb2
from tests.booking.rpc.payment_calls import (
    Kind,
    State,
    booking_of,
    claim,
    event_of,
    failed,
    payments_of,
)
from tests.booking.running_service import RunningService, after, confirm_of, euro, refusal_of

NIGHT = 8050


async def extended(service: RunningService) -> booking_pb2.Booking:
    """A stay of two nights that was paid for, and then made three."""
    package = await service.package()
    pending = await service.completed(package.id)
    await service.payment.RecordPayment(event_of(pending, Kind.FAILED, "first attempt"))
    await service.payment.RecordPayment(event_of(pending, Kind.CAPTURED, "stay"))
    request = booking_pb2.RescheduleBookingRequest(
        booking_id=pending.id, start_date=after(1), end_date=after(4)
    )
    moved = await service.booking.RescheduleBooking(request)
    assert moved.balance_due == euro(NIGHT)
    return moved


async def test_the_balance_is_paid_by_a_payment_of_its_own(booking: RunningService) -> None:
    moved = await extended(booking)
    whole = await refusal_of(booking.payment.RecordPayment(event_of(moved, Kind.CAPTURED, "again")))
    assert whole.reason == "AMOUNT_MISMATCH"
    assert whole.metadata["price_minor"] == str(NIGHT)
    event = event_of(moved, Kind.CAPTURED, "balance", amount=euro(NIGHT))
    payment = await booking.payment.RecordPayment(event)
    assert (payment.state, payment.amount) == (State.CAPTURED, euro(NIGHT))
    settled = await booking_of(booking, moved.id)
    assert not settled.HasField("balance_due")
    assert await booking.payment.RecordPayment(event) == payment
    assert await booking_of(booking, moved.id) == settled


async def test_the_balance_is_paid_by_either_rpc_with_one_effect(booking: RunningService) -> None:
    moved = await extended(booking)
    paid = confirm_of(moved, amount=euro(NIGHT), provider="stripe", payment_id="balance")
    short = confirm_of(moved, amount=euro(NIGHT - 1), provider="stripe", payment_id="balance")
    refusal = await refusal_of(booking.booking.ConfirmBooking(short))
    assert (refusal.reason, refusal.metadata["price_minor"]) == ("AMOUNT_MISMATCH", str(NIGHT))
    settled = await booking.booking.ConfirmBooking(paid)
    assert (settled.state, settled.HasField("balance_due")) == (
        booking_pb2.Booking.CONFIRMED,
        False,
    )
    event = event_of(moved, Kind.CAPTURED, "balance", amount=euro(NIGHT))
    assert (await booking.payment.RecordPayment(event)).state == State.CAPTURED
    assert await booking.booking.ConfirmBooking(paid) == settled
    assert await booking_of(booking, moved.id) == settled


async def test_an_old_event_that_comes_again_still_has_one_effect(booking: RunningService) -> None:
    moved = await extended(booking)
    old = event_of(moved, Kind.CAPTURED, "stay", amount=euro(2 * NIGHT))
    assert (await booking.payment.RecordPayment(old)).state == State.CAPTURED
    assert await booking_of(booking, moved.id) == moved
    other = event_of(moved, Kind.CAPTURED, "stay", amount=euro(NIGHT))
    refusal = await refusal_of(booking.payment.RecordPayment(other))
    assert refusal.reason == "AMOUNT_MISMATCH"


async def test_only_a_payment_of_the_balance_is_tried_again(booking: RunningService) -> None:
    moved = await extended(booking)
    await booking.payment.RecordPayment(event_of(moved, Kind.FAILED, "balance", amount=euro(NIGHT)))
    await failed(booking, moved.package_id, "of another booking", user_id="ben")
    assert sorted(await claim(booking)) == ["balance", "of another booking"]
    first = (await payments_of(booking, moved.id))[0]
    assert (first.payment_id, first.state) == ("first attempt", State.FAILED)
    assert not first.HasField("next_retry_time")
