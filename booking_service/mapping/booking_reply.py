"""Domain to proto: the replies of BookingService."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from booking_service.domain.booking import Booking, State
from booking_service.domain.etag import etag
from booking_service.domain.package import Package
from booking_service.domain.recount import Reconciliation
from booking_service.domain.stays import refund_valid_until
from booking_service.domain.world import Changes
from booking_service.errors import DOMAIN
from booking_service.mapping.paging import next_token
from booking_service.mapping.policy import policy
from booking_service.mapping.scalars import date_of, due_money, money, timestamp
from booking_service.reads.keyset import Page
from booking_service.reads.reports import RecordedEvent, Revenue
from protos.booking.v1 import booking_pb2
from servicekit.errors import ApiError

_Batch = booking_pb2.BatchStartBookingsResponse

_CONFIRMED: Final = frozenset({State.CONFIRMED, State.FULFILLED, State.CANCELLED})


def booking(value: Booking, *, foreseen: bool = False) -> booking_pb2.Booking:
    """With `foreseen`, leave out the fields that only a stored booking has."""
    message = _booking(value)
    if not foreseen:
        return message
    message.ClearField("etag")
    if value.version == 1:
        # The booking would be started: it does not exist yet, nor does its hold.
        for stored in ("id", "state", "hold_expire_time", "create_time", "update_time"):
            message.ClearField(stored)
    return message


def bookings(
    request: booking_pb2.ListBookingsRequest, page: Page[Booking]
) -> booking_pb2.ListBookingsResponse:
    return booking_pb2.ListBookingsResponse(
        bookings=[booking(each) for each in page.items],
        next_page_token=next_token(request, page.next),
    )


def booking_batch(values: Iterable[Booking]) -> booking_pb2.BatchGetBookingsResponse:
    return booking_pb2.BatchGetBookingsResponse(bookings=[booking(each) for each in values])


def cancellation(
    booking: Booking, cancelled: Booking, package: Package
) -> booking_pb2.CancellationPreview:
    """Preview a cancellation: `cancelled` is the booking that it would result in now."""
    refund_minor = cancelled.refund_minor or 0
    # Of a hold that would be released nothing is paid.
    paid_minor = booking.paid_minor if cancelled.state is State.CANCELLED else 0
    return booking_pb2.CancellationPreview(
        refund=money(refund_minor, booking.currency),
        fee=money(max(0, paid_minor - refund_minor), booking.currency),
        valid_until=timestamp(refund_valid_until(booking, cancelled, package)),
    )


def reschedule(moved: Booking, changes: Changes) -> booking_pb2.ReschedulePreview:
    """Preview a change of dates: `moved` is the booking that it would result in now."""
    refund_minor = sum(refund.amount_minor for refund in changes.refunds.values())
    return booking_pb2.ReschedulePreview(
        price=money(moved.price_minor, moved.currency),
        balance_due=due_money(moved.balance_due_minor, moved.currency),
        refund=due_money(refund_minor, moved.currency),
    )


def started(outcomes: Iterable[Booking | ApiError]) -> booking_pb2.BatchStartBookingsResponse:
    return _Batch(results=[_result(outcome) for outcome in outcomes])


def events(
    request: booking_pb2.ListBookingEventsRequest, page: Page[RecordedEvent]
) -> booking_pb2.ListBookingEventsResponse:
    return booking_pb2.ListBookingEventsResponse(
        events=[_event(each) for each in page.items],
        next_page_token=next_token(request, page.next),
    )


def revenue(lines: Sequence[Revenue]) -> booking_pb2.RevenueReport:
    return booking_pb2.RevenueReport(
        lines=[
            booking_pb2.RevenueReport.Line(
                currency=line.currency,
                bookings=line.bookings,
                gross=money(line.gross_minor, line.currency),
                refunded=money(line.refunded_minor, line.currency),
                net=money(line.gross_minor - line.refunded_minor, line.currency),
            )
            for line in lines
        ]
    )


def reconciled(found: Reconciliation) -> booking_pb2.ReconcileInventoryResponse:
    return booking_pb2.ReconcileInventoryResponse(
        days=found.days,
        drifts=[
            booking_pb2.ReconcileInventoryResponse.Drift(
                date=date_of(drift.day),
                held=drift.stored.held,
                recounted_held=drift.recounted.held,
                confirmed=drift.stored.confirmed,
                recounted_confirmed=drift.recounted.confirmed,
            )
            for drift in found.drifts
        ],
        repaired=found.repaired,
        next_date=None if found.next_date is None else date_of(found.next_date),
    )


def _booking(value: Booking) -> booking_pb2.Booking:
    cancelled = value.refund_minor is not None
    back = cancelled or value.refund_requested_minor > 0 or value.refunded_minor > 0
    held = value.state not in _CONFIRMED
    return booking_pb2.Booking(
        id=str(value.id),
        package_id=str(value.package_id),
        vendor_id=str(value.vendor_id),
        user_id=value.user_id,
        session_id=value.session_id,
        state=booking_pb2.Booking.State.Value(value.state),
        start_date=date_of(value.start_date),
        end_date=date_of(value.end_date),
        quantity=value.quantity,
        party_size=value.party_size,
        price=money(value.price_minor, value.currency),
        cancellation_policy=policy(value.cancellation_policy),
        create_time=timestamp(value.create_time),
        update_time=timestamp(value.update_time),
        hold_expire_time=timestamp(value.hold_expire_time) if held else None,
        complete_time=timestamp(value.complete_time),
        confirm_time=timestamp(value.confirm_time),
        end_time=timestamp(value.end_time),
        end_reason=value.end_reason,
        refund=money(value.refund_minor or 0, value.currency) if cancelled else None,
        refunded=money(value.refunded_minor, value.currency) if back else None,
        etag=etag(value.version, value.update_time),
        balance_due=due_money(value.balance_due_minor, value.currency),
        extensions=value.extensions,
        refund_requested=due_money(value.refund_requested_minor, value.currency),
    )


def _result(outcome: Booking | ApiError) -> _Batch.Result:
    if isinstance(outcome, ApiError):
        return _Batch.Result(error=outcome.to_status(DOMAIN))
    return _Batch.Result(booking=booking(outcome))


def _event(event: RecordedEvent) -> booking_pb2.BookingEvent:
    unspecified = booking_pb2.Booking.STATE_UNSPECIFIED
    from_state = event.from_state
    return booking_pb2.BookingEvent(
        version=event.version,
        transition=event.transition,
        from_state=booking_pb2.Booking.State.Value(from_state) if from_state else unspecified,
        to_state=booking_pb2.Booking.State.Value(event.to_state),
        reason=event.reason,
        caller=event.caller,
        time=timestamp(event.time),
    )
