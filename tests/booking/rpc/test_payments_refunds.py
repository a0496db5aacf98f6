"""RefundPayment: together never more than was captured, completed by the provider's event."""

from __future__ import annotations

import asyncio
from uuid import uuid4

import grpc
from google.type.money_pb2 import Money

from protos.booking.v1 import booking_pb2, payment_pb2
from tests.booking.rpc.payment_calls import Kind, State, booking_of, event_of, failed, payments_of
from tests.booking.running_service import RunningService, euro, refusal_of

Refund = payment_pb2.RefundPaymentRequest
PRECONDITION = grpc.StatusCode.FAILED_PRECONDITION


async def paid(service: RunningService) -> tuple[booking_pb2.Booking, payment_pb2.Payment]:
    """A confirmed booking of 161.00 EUR, and its payment."""
    package = await service.package()
    confirmed = await service.confirmed(package.id)
    (payment,) = await payments_of(service, confirmed.id)
    return confirmed, payment


async def test_a_refund_is_requested_and_counts_once_it_is_paid(booking: RunningService) -> None:
    confirmed, payment = await paid(booking)
    refund = await booking.payment.RefundPayment(
        Refund(id=payment.id, amount=euro(1000), reason="broken shower")
    )
    assert refund.state == payment_pb2.Refund.REQUESTED
    assert (refund.booking_id, refund.payment_id) == (confirmed.id, payment.id)
    assert (refund.amount, refund.reason) == (euro(1000), "broken shower")
    assert refund.create_time == refund.update_time
    assert await payments_of(booking, confirmed.id) == [payment]
    refunded = await booking.payment.RecordPayment(
        event_of(confirmed, Kind.REFUNDED, payment.payment_id, amount=euro(1000), refund_id="re-1")
    )
    assert (refunded.state, refunded.refunded) == (State.PARTIALLY_REFUNDED, euro(1000))
    assert (await booking_of(booking, confirmed.id)).state == booking_pb2.Booking.CONFIRMED


async def test_refunds_at_once_never_exceed_what_was_captured(booking: RunningService) -> None:
    _, payment = await paid(booking)
    outcomes = await asyncio.gather(
        *(
            booking.payment.RefundPayment(Refund(id=payment.id, amount=euro(5000)))
            for _ in range(20)
        ),
        return_exceptions=True,
    )
    assert sum(isinstance(each, payment_pb2.Refund) for each in outcomes) == 3
    refusal = await refusal_of(
        booking.payment.RefundPayment(Refund(id=payment.id, amount=euro(1101)))
    )
    assert (refusal.code, refusal.reason) == (PRECONDITION, "OVER_REFUND")
    assert refusal.metadata["refundable_minor"] == "1100"
    last = await booking.payment.RefundPayment(Refund(id=payment.id, amount=euro(1100)))
    assert last.amount == euro(1100)


async def test_what_was_never_captured_cannot_be_refunded(booking: RunningService) -> None:
    package = await booking.package()
    payment = await failed(booking, package.id, "declined")
    refusal = await refusal_of(booking.payment.RefundPayment(Refund(id=payment.id, amount=euro(1))))
    assert (refusal.reason, refusal.metadata["refundable_minor"]) == ("OVER_REFUND", "0")


async def test_a_refund_is_in_the_currency_of_its_payment(booking: RunningService) -> None:
    _, payment = await paid(booking)
    dollars = Money(currency_code="USD", units=1)
    refusal = await refusal_of(booking.payment.RefundPayment(Refund(id=payment.id, amount=dollars)))
    assert (refusal.code, refusal.reason) == (PRECONDITION, "CURRENCY_MISMATCH")


async def test_a_repeated_refund_is_requested_once(booking: RunningService) -> None:
    _, payment = await paid(booking)
    request = Refund(id=payment.id, amount=euro(10_000), request_id=str(uuid4()))
    first = await booking.payment.RefundPayment(request)
    assert await booking.payment.RefundPayment(request) == first
    again = Refund(id=payment.id, amount=euro(10_000), request_id=str(uuid4()))
    assert (await refusal_of(booking.payment.RefundPayment(again))).reason == "OVER_REFUND"


async def test_amounts_are_exact_in_currencies_of_any_exponent(booking: RunningService) -> None:
    for price, part in (
        (Money(currency_code="JPY", units=12_001), Money(currency_code="JPY", units=1)),
        (
            Money(currency_code="KWD", units=3, nanos=1_000_000),
            Money(currency_code="KWD", nanos=1_000_000),
        ),
    ):
        package = await booking.package(base_price=price)
        confirmed = await booking.confirmed(package.id)
        (payment,) = await payments_of(booking, confirmed.id)
        refund = await booking.payment.RefundPayment(Refund(id=payment.id, amount=part))
        assert refund.amount == part
        refunded = await booking.payment.RecordPayment(
            event_of(confirmed, Kind.REFUNDED, payment.payment_id, amount=part, refund_id="1")
        )
        assert (refunded.amount, refunded.refunded) == (confirmed.price, part)
