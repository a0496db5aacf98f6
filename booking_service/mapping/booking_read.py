"""Proto to domain: each request that reads bookings becomes the arguments of its query.

Bounds are those that the comments of booking.proto state; every bad field is named at once.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Final
from uuid import UUID

from booking_service.domain.booking import State
from booking_service.mapping.bounds import MAX_BATCH
from booking_service.mapping.dates import read_created, read_dates
from booking_service.mapping.fields import Fields
from booking_service.mapping.paging import after, size_of
from booking_service.reads.bookings import BookingFilter
from booking_service.reads.keyset import Key
from protos.booking.v1 import booking_pb2

MAX_REPORT_DAYS: Final = 3660


@dataclass(frozen=True, slots=True)
class BookingList:
    """One page of bookings."""

    wanted: BookingFilter
    after: Key | None
    limit: int


@dataclass(frozen=True, slots=True)
class EventList:
    """One page of a booking's events."""

    booking_id: UUID
    after: Key | None
    limit: int


@dataclass(frozen=True, slots=True)
class Report:
    """The instants [start, end), of one vendor or of all (None)."""

    vendor_id: UUID | None
    start: datetime
    end: datetime


def get_booking(request: booking_pb2.GetBookingRequest) -> UUID:
    read = Fields()
    booking_id = read.uuid("booking_id", request.booking_id)
    read.refuse_bad()
    return booking_id


def list_bookings(request: booking_pb2.ListBookingsRequest) -> BookingList:
    read = Fields()
    start, end = read_dates(read, request, start_required=False)
    if start is not None and end is not None and end <= start:
        read.bad("end_date", f"must be after start_date {start}, is {end}")
    states = read.choices("states", request.states, booking_pb2.Booking.State)
    created_from, created_until = read_created(read, request)
    wanted = BookingFilter(
        user_id=read.text("user_id", request.user_id, most=128, required=False) or None,
        package_id=read.optional_uuid("package_id", request.package_id),
        start_date=start,
        end_date=end,
        states=frozenset(State(each) for each in states),
        vendor_id=read.optional_uuid("vendor_id", request.vendor_id),
        payment=_payment(read, request),
        created_from=created_from,
        created_until=created_until,
    )
    limit = size_of(read, "page_size", request.page_size)
    read.refuse_bad()
    return BookingList(wanted, after(request, request.page_token), limit)


def _payment(read: Fields, request: booking_pb2.ListBookingsRequest) -> tuple[str, str] | None:
    if not request.provider and not request.payment_id:
        return None
    provider = read.text("provider", request.provider, most=60)
    return provider, read.text("payment_id", request.payment_id, most=128)


def batch_get_bookings(request: booking_pb2.BatchGetBookingsRequest) -> list[UUID]:
    read = Fields()
    booking_ids = read.ids("booking_ids", request.booking_ids, most=MAX_BATCH)
    read.refuse_bad()
    return booking_ids


def list_booking_events(request: booking_pb2.ListBookingEventsRequest) -> EventList:
    read = Fields()
    booking_id = read.uuid("booking_id", request.booking_id)
    limit = size_of(read, "page_size", request.page_size)
    read.refuse_bad()
    return EventList(booking_id, after(request, request.page_token), limit)


def revenue_report(request: booking_pb2.GetRevenueReportRequest) -> Report:
    read = Fields()
    vendor_id = read.optional_uuid("vendor_id", request.vendor_id)
    start = read.instant("start_time", request.start_time, present=request.HasField("start_time"))
    end = read.instant("end_time", request.end_time, present=request.HasField("end_time"))
    first, until = read.instant_range("end_time", start, end, most_days=MAX_REPORT_DAYS)
    read.refuse_bad()
    return Report(vendor_id, first, until)
