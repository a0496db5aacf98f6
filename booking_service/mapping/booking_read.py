"""Proto to domain: each request that only reads becomes the arguments of its query.

Bounds are those that the comments of the .proto files state; every bad field is named at once.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime
from uuid import UUID

from booking_service.domain.booking import MAX_STAY_DAYS, State
from booking_service.domain.money import Money
from booking_service.domain.package import PackageStatus
from booking_service.mapping.booking_change import MAX_QUANTITY
from booking_service.mapping.fields import Fields
from booking_service.mapping.lists import after, size_of
from booking_service.mapping.packages import MAX_PARTY_SIZE
from booking_service.reads.bookings import BookingFilter
from booking_service.reads.keyset import Key
from booking_service.reads.packages import PackageFilter, PackageOrder
from protos.booking.v1 import booking_pb2, catalog_pb2

MAX_BATCH = 100
MAX_REPORT_DAYS = 3660


@dataclass(frozen=True, slots=True)
class Stay:
    """`quantity` units of a package on each day of [start_date, end_date)."""

    package_id: UUID
    start_date: date
    end_date: date
    quantity: int


@dataclass(frozen=True, slots=True)
class Search:
    """One page of packages."""

    wanted: PackageFilter
    order: PackageOrder
    after: Key | None
    limit: int


@dataclass(frozen=True, slots=True)
class BookingList:
    """One page of bookings."""

    wanted: BookingFilter
    after: Key | None
    limit: int


@dataclass(frozen=True, slots=True)
class VendorPackages:
    """One page of a vendor's packages; no status is any."""

    vendor_id: UUID
    statuses: frozenset[PackageStatus]
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
    """The instants [start, end), of one vendor or all."""

    vendor_id: UUID | None
    start: datetime
    end: datetime


def get_package(request: catalog_pb2.GetPackageRequest) -> UUID:
    read = Fields()
    package_id = read.uuid("package_id", request.package_id)
    read.refuse_bad()
    return package_id


def get_booking(request: booking_pb2.GetBookingRequest) -> UUID:
    read = Fields()
    booking_id = read.uuid("booking_id", request.booking_id)
    read.refuse_bad()
    return booking_id


def check_availability(request: catalog_pb2.CheckAvailabilityRequest) -> Stay:
    read = Fields()
    package_id = read.uuid("package_id", request.package_id)
    start, end = _dates(read, request, start_required=True)
    quantity = read.number("quantity", request.quantity, low=1, high=MAX_QUANTITY, zero=1)
    start_date, end_date = read.day_range(
        "end_date", start, end, end_present=request.HasField("end_date"), most=MAX_STAY_DAYS
    )
    read.refuse_bad()
    return Stay(package_id, start_date, end_date, quantity)


def search_packages(request: catalog_pb2.SearchPackagesRequest) -> Search:
    read = Fields()
    dated = request.HasField("start_date")
    start, end = _dates(read, request, start_required=request.HasField("end_date"))
    first, until = read.day_range(
        "end_date", start, end, end_present=request.HasField("end_date"), most=MAX_STAY_DAYS
    )
    quantity = read.number("quantity", request.quantity, low=1, high=MAX_QUANTITY, zero=1)
    if request.quantity != 0 and not dated:
        read.bad("quantity", "needs start_date")
    party_size = read.number("party_size", request.party_size, low=0, high=MAX_PARTY_SIZE)
    low, high = _prices(read, request)
    priced = low or high
    order = read.choice(
        "order_by", request.order_by, catalog_pb2.SearchPackagesRequest.OrderBy, unset="PRICE_ASC"
    )
    wanted = PackageFilter(
        location=read.text("location", request.location, most=120, required=False) or None,
        type=read.text("type", request.type, most=60, required=False) or None,
        start_date=first if dated else None,
        end_date=until if dated else None,
        quantity=quantity,
        party_size=party_size or None,
        currency=priced.currency if priced else None,
        min_price_minor=low.minor if low else None,
        max_price_minor=high.minor if high else None,
    )
    limit = size_of(read, "page_size", request.page_size)
    read.refuse_bad()
    return Search(wanted, PackageOrder(order), after(request, request.page_token), limit)


def list_bookings(request: booking_pb2.ListBookingsRequest) -> BookingList:
    read = Fields()
    start, end = _dates(read, request, start_required=False)
    if start is not None and end is not None and end <= start:
        read.bad("end_date", f"must be after start_date {start}, is {end}")
    states = frozenset(
        State(read.choice(f"states[{n}]", state, booking_pb2.Booking.State))
        for n, state in enumerate(request.states)
    )
    wanted = BookingFilter(
        user_id=read.text("user_id", request.user_id, most=128, required=False) or None,
        package_id=read.optional_uuid("package_id", request.package_id),
        start_date=start,
        end_date=end,
        states=states,
    )
    limit = size_of(read, "page_size", request.page_size)
    read.refuse_bad()
    return BookingList(wanted, after(request, request.page_token), limit)


def batch_get_packages(request: catalog_pb2.BatchGetPackagesRequest) -> list[UUID]:
    read = Fields()
    package_ids = read.ids("package_ids", request.package_ids, most=MAX_BATCH)
    read.refuse_bad()
    return package_ids


def batch_get_bookings(request: booking_pb2.BatchGetBookingsRequest) -> list[UUID]:
    read = Fields()
    booking_ids = read.ids("booking_ids", request.booking_ids, most=MAX_BATCH)
    read.refuse_bad()
    return booking_ids


def list_vendor_packages(request: catalog_pb2.ListVendorPackagesRequest) -> VendorPackages:
    read = Fields()
    vendor_id = read.uuid("vendor_id", request.vendor_id)
    statuses = frozenset(
        PackageStatus(read.choice(f"statuses[{n}]", status, catalog_pb2.Package.Status))
        for n, status in enumerate(request.statuses)
    )
    limit = size_of(read, "page_size", request.page_size)
    read.refuse_bad()
    return VendorPackages(vendor_id, statuses, after(request, request.page_token), limit)


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


def _dates(
    read: Fields,
    request: catalog_pb2.CheckAvailabilityRequest
    | catalog_pb2.SearchPackagesRequest
    | booking_pb2.ListBookingsRequest,
    *,
    start_required: bool,
) -> tuple[date | None, date | None]:
    start = read.day(
        "start_date",
        request.start_date,
        present=request.HasField("start_date"),
        required=start_required,
    )
    end = read.day(
        "end_date", request.end_date, present=request.HasField("end_date"), required=False
    )
    return start, end


def _prices(
    read: Fields, request: catalog_pb2.SearchPackagesRequest
) -> tuple[Money | None, Money | None]:
    low = high = None
    if request.HasField("min_price"):
        low = read.money("min_price", request.min_price, present=True)
    if request.HasField("max_price"):
        high = read.money("max_price", request.max_price, present=True)
    if low is None or high is None:
        return low, high
    if request.min_price.currency_code != request.max_price.currency_code:
        read.bad("max_price.currency_code", "must be the currency of min_price")
    elif high.minor < low.minor:
        read.bad("max_price", "must not be below min_price")
    return low, high
