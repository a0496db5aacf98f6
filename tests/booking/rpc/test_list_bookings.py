"""ListBookings: every combination of its filters finds what they say, each booking once."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from itertools import product
from typing import Any

from google.protobuf.timestamp_pb2 import Timestamp

from protos.booking.v1 import booking_pb2, catalog_pb2
from tests.booking.running_service import NOON, RunningService, after, confirm_of, package_of

Booking = booking_pb2.Booking
Listing = booking_pb2.ListBookingsRequest
Filter = tuple[dict[str, Any], Callable[[Booking], bool]]
ANY: Filter = ({}, lambda _: True)


def at(minutes: int) -> Timestamp:
    message = Timestamp()
    message.FromDatetime(NOON + timedelta(minutes=minutes))
    return message


def created(booking: Booking) -> datetime:
    return booking.create_time.ToDatetime(UTC)


async def sibling(service: RunningService, package: catalog_pb2.Package) -> catalog_pb2.Package:
    """Another package of the same vendor."""
    creation = catalog_pb2.CreatePackageRequest(package=package_of(package.vendor_id))
    made = await service.catalog.CreatePackage(creation)
    days = catalog_pb2.CapacityRange(start_date=after(0), end_date=after(9), capacity=9)
    await service.catalog.SetCapacity(
        catalog_pb2.SetCapacityRequest(package_id=made.id, ranges=[days])
    )
    assert isinstance(made, catalog_pb2.Package)
    return made


async def some_bookings(service: RunningService) -> list[Booking]:
    """Of two vendors with two packages each, of two users, a minute apart; one of them is paid."""
    first, other = await service.package(), await service.package()
    more = [await sibling(service, each) for each in (first, other)]
    packages = [first, other, *more]
    made = []
    for n in range(12):
        days = {"start_date": after(n % 5), "end_date": after(n % 5 + 1)}
        user_id = f"user {n % 3 % 2}"
        held = await service.held(packages[n % 4].id, user_id=user_id, **days)
        made.append(held)
        service.clock.advance(timedelta(minutes=1))
    await service.booking.CompleteBooking(booking_pb2.CompleteBookingRequest(booking_id=made[4].id))
    made[4] = await service.booking.ConfirmBooking(confirm_of(made[4], payment_id="pay-4"))
    return made


async def listed(service: RunningService, **fields: Any) -> list[Booking]:
    found: list[Booking] = []
    request = Listing(page_size=5, **fields)
    while True:
        answer = await service.booking.ListBookings(request)
        found += answer.bookings
        if not answer.next_page_token:
            return found
        request.page_token = answer.next_page_token


async def test_every_combination_of_filters_finds_what_it_says(booking: RunningService) -> None:
    made = await some_bookings(booking)
    paid = made[4]
    payment = {"provider": confirm_of(paid).provider, "payment_id": "pay-4"}
    last_day = after(3)
    filters: tuple[tuple[Filter, Filter], ...] = (
        (ANY, ({"user_id": paid.user_id}, lambda b: b.user_id == paid.user_id)),
        (ANY, ({"package_id": paid.package_id}, lambda b: b.package_id == paid.package_id)),
        (ANY, ({"vendor_id": paid.vendor_id}, lambda b: b.vendor_id == paid.vendor_id)),
        (ANY, (payment, lambda b: b.id == paid.id)),
        (ANY, ({"created_from": at(3)}, lambda b: created(b) >= NOON + timedelta(minutes=3))),
        (ANY, ({"created_until": at(9)}, lambda b: created(b) < NOON + timedelta(minutes=9))),
        (ANY, ({"end_date": last_day}, lambda b: b.start_date.day < last_day.day)),
        (ANY, ({"states": [Booking.HELD]}, lambda b: b.state == Booking.HELD)),
    )
    newest_first = sorted(made, key=lambda each: (created(each), each.id), reverse=True)
    for chosen in product(*filters):
        fields: dict[str, Any] = {}
        for each, _ in chosen:
            fields |= each
        expected = [one for one in newest_first if all(holds(one) for _, holds in chosen)]
        assert await listed(booking, **fields) == expected, fields
    assert await listed(booking, provider=payment["provider"], payment_id="unknown") == []


async def test_a_range_of_creation_is_exact_at_both_ends(booking: RunningService) -> None:
    package = await booking.package()
    made = await booking.held(package.id)
    exact = made.create_time
    later = Timestamp(seconds=exact.seconds, nanos=exact.nanos + 1000)
    assert await listed(booking, created_from=exact, created_until=later) == [made]
    assert await listed(booking, created_until=exact) == []
    assert await listed(booking, created_from=later) == []
