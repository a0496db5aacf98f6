"""Helpers of the payment tests: events of a provider, and shorthands of requests."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from protos.booking.v1 import booking_pb2, payment_pb2
from tests.booking.running_service import RunningService

Kind = payment_pb2.RecordPaymentRequest
State = payment_pb2.Payment


def event_of(
    booking: booking_pb2.Booking, kind: Any, payment_id: str = "pay-1", **fields: Any
) -> payment_pb2.RecordPaymentRequest:
    """What a provider says of a payment of a booking's price."""
    good: dict[str, Any] = {
        "booking_id": booking.id,
        "provider": "stripe",
        "payment_id": payment_id,
        "kind": kind,
        "amount": booking.price,
    }
    return payment_pb2.RecordPaymentRequest(**(good | fields))


async def failed(
    service: RunningService, package_id: str, payment_id: str, **fields: Any
) -> payment_pb2.Payment:
    """A payment of a new booking that waits for it, which failed a second ago."""
    pending = await service.completed(package_id, **fields)
    payment = await service.payment.RecordPayment(
        event_of(pending, Kind.FAILED, payment_id, failure_code="do_not_honour")
    )
    service.clock.advance(timedelta(seconds=1))
    return payment


async def payments_of(service: RunningService, booking_id: str) -> list[payment_pb2.Payment]:
    request = payment_pb2.ListPaymentsRequest(booking_id=booking_id)
    return list((await service.payment.ListPayments(request)).payments)


async def booking_of(service: RunningService, booking_id: str) -> booking_pb2.Booking:
    return await service.booking.GetBooking(booking_pb2.GetBookingRequest(booking_id=booking_id))


async def claim(service: RunningService, **fields: Any) -> list[str]:
    """The provider's ids of the payments that are handed out."""
    request = payment_pb2.ClaimFailedPaymentsRequest(**fields)
    answer = await service.payment.ClaimFailedPayments(request)
    return [payment.payment_id for payment in answer.payments]
