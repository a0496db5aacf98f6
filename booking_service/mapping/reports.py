"""Domain to proto: previews, batches and reports of bookings, money and times exact."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta

from booking_service.domain.booking import Booking, State
from booking_service.domain.package import Package
from booking_service.domain.policy import refund_changes_below_s
from booking_service.domain.world import Changes, Reconciliation
from booking_service.errors import DOMAIN
from booking_service.mapping.booking_reply import booking, date_of, due_money, money
from booking_service.mapping.lists import next_token
from booking_service.mapping.scalars import timestamp
from booking_service.reads.keyset import Page
from booking_service.reads.reports import RecordedEvent, Revenue
from protos.booking.v1 import booking_pb2
from servicekit.errors import ApiError

_Batch = booking_pb2.BatchStartBookingsResponse


def cancellation(
    booking: Booking, cancelled: Booking, package: Package
) -> booking_pb2.CancellationPreview:
    """Of a booking as it is, and as a cancellation now would leave it."""
    refund_minor = cancelled.refund_minor or 0
    return booking_pb2.CancellationPreview(
        refund=money(refund_minor, booking.currency),
        fee=money(max(0, booking.paid_minor - refund_minor), booking.currency),
        valid_until=timestamp(_valid_until(booking, cancelled, package)),
    )


def reschedule(moved: Booking, changes: Changes) -> booking_pb2.ReschedulePreview:
    """Of a booking as a change of dates now would leave it."""
    refund_minor = sum(refund.amount_minor for refund in changes.refunds.values())
    return booking_pb2.ReschedulePreview(
        price=money(moved.price_minor, moved.currency),
        balance_due=due_money(moved.balance_due_minor, moved.currency),
        refund=due_money(refund_minor, moved.currency),
    )


def started(outcomes: Iterable[Booking | ApiError]) -> booking_pb2.BatchStartBookingsResponse:
    """What became of each start of a batch."""
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


def _valid_until(booking: Booking, cancelled: Booking, package: Package) -> datetime | None:
    if booking.state is State.CANCELLED or cancelled.end_time is None:
        return None
    begins = package.begins(booking.start_date)
    changes_below_s = refund_changes_below_s(
        booking.cancellation_policy,
        booking.paid_minor,
        (begins - cancelled.end_time).total_seconds(),
        cancelled.refund_minor or 0,
    )
    return None if changes_below_s is None else begins - timedelta(seconds=changes_below_s)
