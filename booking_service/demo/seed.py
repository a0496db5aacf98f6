"""Puts a file's hotels on sale and reads what earlier replays of the same file did.

All state is in the booking database: the first bookable day of a package shows by how much its
dates were moved when it was first put on sale, so that every later replay of the file moves them by
the same weeks.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Final, TypeVar
from uuid import UUID

import grpc
from grpc import aio

from booking_service.demo import messages
from booking_service.demo.calls import Client, RefusalError
from booking_service.demo.hotel import HotelFile, Offer, Stay
from booking_service.demo.plan import Capacity, runs_of
from protos.booking.v1 import booking_pb2, booking_pb2_grpc, catalog_pb2, catalog_pb2_grpc

TIME_ZONE: Final = "Europe/Lisbon"
PACKAGE_TYPE: Final = "hotel_room"
# The places of the two hotels, from the publication of the data set.
_LOCATIONS: Final = {"Resort Hotel": "Algarve", "City Hotel": "Lisbon"}
_PAGE_SIZE: Final = 200
_MAX_DAYS_PER_REQUEST: Final = 3660

_Request = TypeVar("_Request")
_Answer = TypeVar("_Answer")


class SeedError(Exception):
    """The catalogue contains something other than this file's packages; one line."""


@dataclass(frozen=True, slots=True)
class Known:
    """A booking of the file that is already in the database; money in cents."""

    package_id: str
    state: booking_pb2.Booking.State.ValueType
    price_minor: int
    refund_minor: int
    refunded_minor: int


async def put_on_sale(
    client: Client, hotel: HotelFile, capacity: Capacity, today: date
) -> timedelta:
    """Create missing vendors, packages and capacity; return the shift of dates.

    Raises SeedError when the days already have more bookings than `capacity` allows.
    """
    catalog = catalog_pb2_grpc.CatalogServiceStub(client.channel)
    shift = await _earlier_shift(client, catalog, hotel, next(iter(capacity)))
    if shift is None:
        shift = hotel.shift(today)
    for name in sorted({offer.hotel for offer in capacity}):
        vendor = catalog_pb2.CreateVendorRequest(
            vendor=catalog_pb2.Vendor(name=name), vendor_id=str(hotel.vendor_id(name))
        )
        await _create(client, catalog.CreateVendor, vendor)
    for offer, nights in capacity.items():
        await _create(client, catalog.CreatePackage, _package(hotel, offer, shift))
        for request in _capacity_requests(hotel, offer, nights, shift):
            await _set_capacity(client, catalog, offer, request)
    return shift


async def known_bookings(
    client: Client, hotel: HotelFile, offers: Iterable[Offer]
) -> dict[UUID, Known]:
    """Return every booking of the file's packages that is in the database, by id."""
    bookings = booking_pb2_grpc.BookingServiceStub(client.channel)
    known: dict[UUID, Known] = {}
    for offer in offers:
        request = booking_pb2.ListBookingsRequest(
            package_id=str(hotel.package_id(offer)), page_size=_PAGE_SIZE
        )
        while True:
            page = await client.call(bookings.ListBookings, request)
            for booking in page.bookings:
                known[UUID(booking.id)] = Known(
                    booking.package_id,
                    booking.state,
                    messages.cents(booking.price),
                    messages.cents(booking.refund),
                    messages.cents(booking.refunded),
                )
            if not page.next_page_token:
                break
            request.page_token = page.next_page_token
    return known


async def _earlier_shift(
    client: Client,
    catalog: catalog_pb2_grpc.CatalogServiceAsyncStub,
    hotel: HotelFile,
    first: Offer,
) -> timedelta | None:
    """Return the shift of the package that is created first, None before the first replay."""
    request = catalog_pb2.GetPackageRequest(package_id=str(hotel.package_id(first)))
    try:
        package = await client.call(catalog.GetPackage, request)
    except RefusalError as error:
        if error.code is not grpc.StatusCode.NOT_FOUND:
            raise
        return None
    return messages.to_date(package.bookable_from) - hotel.first_booking


async def _create(
    client: Client, method: aio.UnaryUnaryMultiCallable[_Request, _Answer], request: _Request
) -> None:
    try:
        await client.call(method, request)
    except RefusalError as error:
        if error.code is not grpc.StatusCode.ALREADY_EXISTS:
            raise


async def _set_capacity(
    client: Client,
    catalog: catalog_pb2_grpc.CatalogServiceAsyncStub,
    offer: Offer,
    request: catalog_pb2.SetCapacityRequest,
) -> None:
    try:
        # Without a request_id: setting the same capacity again changes nothing.
        await client.call(catalog.SetCapacity, request)
    except RefusalError as error:
        if error.reason != "CAPACITY_BELOW_TAKEN":
            raise
        raise SeedError(
            f"room type {offer.room_type} already holds more bookings than this replay's "
            "capacity; `make clean-data` starts over"
        ) from error


def _capacity_requests(
    hotel: HotelFile, offer: Offer, nights: dict[date, int], shift: timedelta
) -> Iterator[catalog_pb2.SetCapacityRequest]:
    ordered = list(nights.items())
    for start in range(0, len(ordered), _MAX_DAYS_PER_REQUEST):
        request = catalog_pb2.SetCapacityRequest(package_id=str(hotel.package_id(offer)))
        for run in runs_of(dict(ordered[start : start + _MAX_DAYS_PER_REQUEST])):
            request.ranges.add(
                start_date=messages.day(run.first + shift),
                end_date=messages.day(run.end + shift),
                capacity=run.units,
            )
        yield request


def location_of(offer: Offer) -> str:
    """Return the place of an offer's hotel."""
    return _LOCATIONS.get(offer.hotel, offer.hotel)


def _package(hotel: HotelFile, offer: Offer, shift: timedelta) -> catalog_pb2.CreatePackageRequest:
    stays = [stay for stay in hotel.stays if stay.offer == offer]
    return catalog_pb2.CreatePackageRequest(
        package_id=str(hotel.package_id(offer)),
        package=catalog_pb2.Package(
            vendor_id=str(hotel.vendor_id(offer.hotel)),
            title=f"{offer.hotel}, room type {offer.room_type}",
            type=PACKAGE_TYPE,
            location=location_of(offer),
            time_zone=TIME_ZONE,
            bookable_from=messages.day(hotel.first_booking + shift),
            bookable_until=messages.day(hotel.last_departure + shift),
            base_price=messages.money(_shown_rate(stays)),
            pricing=catalog_pb2.Package.QUOTED,
            cancellation_policy=messages.FULL_REFUND,
        ),
    )


def _shown_rate(stays: list[Stay]) -> int:
    """Return the median rate of one night: half of the stays cost no more."""
    rates = sorted(stay.rate_minor for stay in stays)
    return rates[(len(rates) - 1) // 2]
