"""Proto to domain: each request that only reads becomes the arguments of its query.

Bounds are those that the comments of the .proto files state; every bad field is named at once.
"""

from dataclasses import dataclass
from datetime import date
from uuid import UUID

from google.protobuf.message import Message

from booking_service.domain.booking import State
from booking_service.domain.money import Money
from booking_service.errors import page_token_invalid
from booking_service.mapping.fields import Fields
from booking_service.mapping.packages import MAX_PARTY_SIZE
from booking_service.mapping.pages import page_key
from booking_service.mapping.requests import MAX_QUANTITY, MAX_STAY_DAYS
from booking_service.queries import BookingFilter, Key, PackageFilter, PackageOrder
from protos.booking.v1 import booking_pb2, catalog_pb2

DEFAULT_PAGE_SIZE = 50
MAX_PAGE_SIZE = 200


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
    first, after = read.day_range(
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
        end_date=after if dated else None,
        quantity=quantity,
        party_size=party_size or None,
        currency=priced.currency if priced else None,
        min_price_minor=low.minor if low else None,
        max_price_minor=high.minor if high else None,
    )
    limit = _limit(read, request.page_size)
    read.refuse_bad()
    return Search(wanted, PackageOrder(order), _after(request, request.page_token), limit)


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
    limit = _limit(read, request.page_size)
    read.refuse_bad()
    return BookingList(wanted, _after(request, request.page_token), limit)


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


def _limit(read: Fields, page_size: int) -> int:
    if page_size < 0:
        read.bad("page_size", f"must not be negative, is {page_size}")
    return min(page_size or DEFAULT_PAGE_SIZE, MAX_PAGE_SIZE)


def _after(request: Message, token: str) -> Key | None:
    if not token:
        return None
    key = page_key(request, token)
    if key is None:
        raise page_token_invalid()
    return key
