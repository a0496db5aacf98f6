"""PaymentService over a real channel and a real database."""

from __future__ import annotations

from datetime import timedelta
from typing import Any
from uuid import uuid4

import grpc
from google.protobuf.duration_pb2 import Duration
from google.type.money_pb2 import Money

from protos.booking.v1 import booking_pb2, catalog_pb2, payment_pb2
from tests.booking.running_service import RunningService, confirm_of, euro, refusal_of

Kind = payment_pb2.RecordPaymentRequest
PaymentState = payment_pb2.Payment
State = booking_pb2.Booking.State
PRECONDITION = grpc.StatusCode.FAILED_PRECONDITION
FULL_REFUND = catalog_pb2.CancellationPolicy(
    tiers=[catalog_pb2.CancellationPolicy.Tier(before=Duration(), refund_basis_points=10_000)]
)


def record_of(
    booking: booking_pb2.Booking, kind: Any, payment_id: str = "pay-1", **fields: Any
) -> payment_pb2.RecordPaymentRequest:
    good: dict[str, Any] = {
        "booking_id": booking.id,
        "provider": "stripe",
        "payment_id": payment_id,
        "kind": kind,
        "amount": booking.price,
    }
    return payment_pb2.RecordPaymentRequest(**(good | fields))


async def state_of(service: RunningService, booking_id: str) -> Any:
    request = booking_pb2.GetBookingRequest(booking_id=booking_id)
    return (await service.booking.GetBooking(request)).state


async def test_a_captured_payment_confirms_the_booking(booking: RunningService) -> None:
    package = await booking.package()
    pending = await booking.completed(package.id)
    payment = await booking.payment.RecordPayment(record_of(pending, Kind.CAPTURED))
    assert payment.state == PaymentState.CAPTURED
    assert (payment.booking_id, payment.provider) == (pending.id, "stripe")
    assert (payment.payment_id, payment.amount) == ("pay-1", pending.price)
    assert payment.refunded == euro(0)
    assert payment.HasField("create_time")
    assert await state_of(booking, pending.id) == State.CONFIRMED


async def test_reports_of_the_caller_and_the_provider_have_one_effect(
    booking: RunningService,
) -> None:
    package = await booking.package()
    pending = await booking.completed(package.id)
    confirmation = confirm_of(pending, payment_id="pay-1")
    confirmed = await booking.booking.ConfirmBooking(confirmation)
    first = await booking.payment.RecordPayment(record_of(pending, Kind.CAPTURED))
    assert await booking.payment.RecordPayment(record_of(pending, Kind.CAPTURED)) == first
    assert await booking.booking.ConfirmBooking(confirmation) == confirmed


async def test_attempts_change_neither_state_nor_seats(booking: RunningService) -> None:
    package = await booking.package()
    pending = await booking.completed(package.id)
    authorised = await booking.payment.RecordPayment(record_of(pending, Kind.AUTHORISED, "pay-1"))
    assert authorised.state == PaymentState.AUTHORISED
    failed = await booking.payment.RecordPayment(
        record_of(pending, Kind.FAILED, "pay-2", failure_code="card_declined")
    )
    assert (failed.state, failed.failure_code) == (PaymentState.FAILED, "card_declined")
    assert await state_of(booking, pending.id) == State.PENDING_PAYMENT


async def test_a_refund_that_was_paid_shows_on_the_booking(booking: RunningService) -> None:
    package = await booking.package(cancellation_policy=FULL_REFUND)
    pending = await booking.completed(package.id)
    await booking.payment.RecordPayment(record_of(pending, Kind.CAPTURED))
    cancelled = await booking.booking.CancelBooking(
        booking_pb2.CancelBookingRequest(booking_id=pending.id)
    )
    part = record_of(pending, Kind.REFUNDED, amount=euro(6100), refund_id="re-1")
    payment = await booking.payment.RecordPayment(part)
    assert (payment.state, payment.refunded) == (PaymentState.PARTIALLY_REFUNDED, euro(6100))
    payment = await booking.payment.RecordPayment(part)
    assert payment.refunded == euro(6100)
    rest = record_of(pending, Kind.REFUNDED, amount=euro(10_000), refund_id="re-2")
    payment = await booking.payment.RecordPayment(rest)
    assert (payment.state, payment.refunded) == (PaymentState.REFUNDED, pending.price)
    got = await booking.booking.GetBooking(booking_pb2.GetBookingRequest(booking_id=pending.id))
    assert got.refunded == pending.price
    assert got.etag != cancelled.etag


async def test_more_than_was_captured_is_never_refunded(booking: RunningService) -> None:
    package = await booking.package()
    pending = await booking.completed(package.id)
    await booking.payment.RecordPayment(record_of(pending, Kind.CAPTURED))
    refusal = await refusal_of(
        booking.payment.RecordPayment(
            record_of(pending, Kind.REFUNDED, amount=euro(16_101), refund_id="re-1")
        )
    )
    assert (refusal.code, refusal.reason) == (PRECONDITION, "OVER_REFUND")
    assert refusal.metadata["refundable_minor"] == "16100"


async def test_a_payment_in_another_currency_is_refused(booking: RunningService) -> None:
    package = await booking.package()
    pending = await booking.completed(package.id)
    dollars = Money(currency_code="USD", units=161)
    for kind in (Kind.AUTHORISED, Kind.CAPTURED, Kind.FAILED):
        refusal = await refusal_of(
            booking.payment.RecordPayment(record_of(pending, kind, amount=dollars))
        )
        assert (refusal.code, refusal.reason) == (PRECONDITION, "CURRENCY_MISMATCH")
        assert refusal.metadata["currency"] == "EUR"


async def test_a_captured_amount_is_the_price(booking: RunningService) -> None:
    package = await booking.package()
    pending = await booking.completed(package.id)
    refusal = await refusal_of(
        booking.payment.RecordPayment(record_of(pending, Kind.CAPTURED, amount=euro(1)))
    )
    assert (refusal.code, refusal.reason) == (PRECONDITION, "AMOUNT_MISMATCH")
    assert refusal.metadata["price_minor"] == "16100"


async def test_a_payment_pays_one_booking(booking: RunningService) -> None:
    package = await booking.package()
    first = await booking.completed(package.id)
    second = await booking.completed(package.id)
    await booking.payment.RecordPayment(record_of(first, Kind.CAPTURED))
    refusal = await refusal_of(booking.payment.RecordPayment(record_of(second, Kind.CAPTURED)))
    assert (refusal.code, refusal.reason) == (PRECONDITION, "PAYMENT_ID_REUSED")


async def test_a_payment_after_expiry_takes_the_seats_again(booking: RunningService) -> None:
    package = await booking.package(capacity=1)
    pending = await booking.completed(package.id)
    booking.clock.advance(timedelta(hours=1))
    payment = await booking.payment.RecordPayment(record_of(pending, Kind.CAPTURED))
    assert payment.state == PaymentState.CAPTURED
    assert await state_of(booking, pending.id) == State.CONFIRMED


async def test_a_payment_after_expiry_without_room_is_due_back(booking: RunningService) -> None:
    package = await booking.package(capacity=1)
    pending = await booking.completed(package.id)
    booking.clock.advance(timedelta(hours=1))
    await booking.confirmed(package.id, user_id="ben")
    refusal = await refusal_of(booking.payment.RecordPayment(record_of(pending, Kind.CAPTURED)))
    assert (refusal.code, refusal.reason) == (PRECONDITION, "HOLD_EXPIRED")
    refund = record_of(pending, Kind.REFUNDED, refund_id="re-1")
    assert (await booking.payment.RecordPayment(refund)).state == PaymentState.REFUNDED


async def test_a_refund_of_an_unknown_payment_is_not_found(booking: RunningService) -> None:
    package = await booking.package()
    held = await booking.held(package.id)
    payment_id = str(uuid4())
    refusal = await refusal_of(
        booking.payment.RecordPayment(record_of(held, Kind.REFUNDED, payment_id, refund_id="re-1"))
    )
    assert refusal.code is grpc.StatusCode.NOT_FOUND
    assert refusal.resource == ("payment", f"stripe/{payment_id}")


async def test_every_currency_is_paid_exactly(booking: RunningService) -> None:
    for price in (
        Money(currency_code="JPY", units=12_345),
        Money(currency_code="KWD", units=12, nanos=345_000_000),
        Money(currency_code="USD", nanos=990_000_000),
    ):
        package = await booking.package(base_price=price)
        pending = await booking.completed(package.id, end_date=None)
        assert pending.price == price
        payment = await booking.payment.RecordPayment(
            record_of(pending, Kind.CAPTURED, str(uuid4()))
        )
        assert payment.amount == price
