"""CatalogService over a real channel and a real database."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, timedelta
from typing import Any
from uuid import uuid4

import grpc
from google.protobuf.duration_pb2 import Duration
from google.type.date_pb2 import Date
from google.type.money_pb2 import Money

from protos.booking.v1 import catalog_pb2
from tests.booking.running_service import (
    FIRST_DAY,
    NOON,
    RunningService,
    after,
    day,
    euro,
    package_of,
    refusal_of,
)

Range = catalog_pb2.CapacityRange
Search = catalog_pb2.SearchPackagesRequest
Tier = catalog_pb2.CancellationPolicy.Tier


async def test_a_vendor_is_created_with_id_times_and_etag(booking: RunningService) -> None:
    vendor = await booking.vendor()
    assert vendor.name == "Costa Tours"
    assert len(vendor.id) == 36
    assert vendor.create_time.ToDatetime(UTC) == NOON
    assert vendor.update_time == vendor.create_time
    assert vendor.etag


async def test_an_id_of_the_creators_choice_is_taken_once(booking: RunningService) -> None:
    vendor_id, package_id = str(uuid4()), str(uuid4())
    request = catalog_pb2.CreateVendorRequest(
        vendor=catalog_pb2.Vendor(name="Costa Tours"), vendor_id=vendor_id
    )
    assert (await booking.catalog.CreateVendor(request)).id == vendor_id
    refusal = await refusal_of(booking.catalog.CreateVendor(request))
    assert (refusal.code, refusal.reason) == (grpc.StatusCode.ALREADY_EXISTS, "ALREADY_EXISTS")
    assert refusal.resource == ("vendor", vendor_id)

    creation = catalog_pb2.CreatePackageRequest(
        package=package_of(vendor_id), package_id=package_id
    )
    assert (await booking.catalog.CreatePackage(creation)).id == package_id
    refusal = await refusal_of(booking.catalog.CreatePackage(creation))
    assert refusal.reason == "ALREADY_EXISTS"
    assert refusal.resource == ("package", package_id)


async def test_what_a_package_leaves_unset_has_its_default(booking: RunningService) -> None:
    package = await booking.package()
    assert package.status == catalog_pb2.Package.ACTIVE
    assert package.pricing == catalog_pb2.Package.PER_UNIT_DAY
    assert (package.min_party_size, package.max_party_size) == (1, 1000)
    assert package.hold_ttl.ToTimedelta() == timedelta(minutes=15)
    assert package.cutoff.ToTimedelta() == timedelta(0)
    assert not package.HasField("bookable_from")
    assert not package.HasField("bookable_until")
    assert list(package.cancellation_policy.tiers) == []


async def test_a_package_comes_back_as_it_was_described(booking: RunningService) -> None:
    vendor = await booking.vendor()
    described = package_of(
        vendor.id,
        title="Żółta łódź - 黄色い船",
        status=catalog_pb2.Package.CLOSED,
        pricing=catalog_pb2.Package.QUOTED,
        bookable_from=after(0),
        bookable_until=after(90),
        min_party_size=2,
        max_party_size=9,
        cutoff=Duration(seconds=3600),
        hold_ttl=Duration(seconds=60),
        cancellation_policy=catalog_pb2.CancellationPolicy(
            tiers=[
                Tier(before=Duration(seconds=86400), refund_basis_points=10_000),
                Tier(before=Duration(), refund_basis_points=5000),
            ]
        ),
    )
    created = await booking.catalog.CreatePackage(
        catalog_pb2.CreatePackageRequest(package=described)
    )
    got = await booking.catalog.GetPackage(catalog_pb2.GetPackageRequest(package_id=created.id))
    assert got == created
    for output_only in ("id", "create_time", "update_time", "etag"):
        assert getattr(got, output_only)
        got.ClearField(output_only)
    assert got == described


async def test_a_price_comes_back_exactly(booking: RunningService) -> None:
    for price in (
        Money(currency_code="EUR", units=80, nanos=500_000_000),
        Money(currency_code="EUR", nanos=10_000_000),
        Money(currency_code="USD"),
        Money(currency_code="JPY", units=12_345),
        Money(currency_code="KWD", units=12, nanos=345_000_000),
        Money(currency_code="CLF", units=1, nanos=100_000),
        Money(currency_code="EUR", units=10**12),
    ):
        package = await booking.package(base_price=price)
        request = catalog_pb2.GetPackageRequest(package_id=package.id)
        assert (await booking.catalog.GetPackage(request)).base_price == price


async def test_capacity_is_set_for_all_days_of_all_ranges(booking: RunningService) -> None:
    package = await booking.package(days=0 + 1, capacity=1)
    answer = await booking.catalog.SetCapacity(
        catalog_pb2.SetCapacityRequest(
            package_id=package.id,
            ranges=[
                Range(start_date=after(0), end_date=after(2), capacity=4),
                Range(start_date=after(5), capacity=7),
            ],
        )
    )
    assert answer.days_set == 3
    seats = await booking.catalog.CheckAvailability(
        catalog_pb2.CheckAvailabilityRequest(
            package_id=package.id, start_date=after(0), end_date=after(6)
        )
    )
    assert [each.capacity for each in seats.days] == [4, 4, 0, 0, 0, 7]


async def test_capacity_below_what_is_taken_is_refused_with_the_days(
    booking: RunningService,
) -> None:
    package = await booking.package(capacity=5)
    await booking.held(package.id, quantity=3)
    request = catalog_pb2.SetCapacityRequest(
        package_id=package.id,
        ranges=[Range(start_date=after(0), end_date=after(3), capacity=1)],
    )
    refusal = await refusal_of(booking.catalog.SetCapacity(request))
    assert refusal.code is grpc.StatusCode.FAILED_PRECONDITION
    assert refusal.reason == "CAPACITY_BELOW_TAKEN"
    first, second = FIRST_DAY, FIRST_DAY + timedelta(days=1)
    assert refusal.metadata["days"] == f"{first}=2,{second}=2"
    seats = await booking.catalog.CheckAvailability(
        catalog_pb2.CheckAvailabilityRequest(
            package_id=package.id, start_date=after(0), end_date=after(3)
        )
    )
    assert [each.capacity for each in seats.days] == [5, 5, 5]


async def test_availability_counts_each_day(booking: RunningService) -> None:
    package = await booking.package(capacity=3, days=3)
    await booking.held(package.id, quantity=2, end_date=after(1))
    request = catalog_pb2.CheckAvailabilityRequest(
        package_id=package.id, start_date=after(0), end_date=after(4), quantity=2
    )
    seats = await booking.catalog.CheckAvailability(request)
    assert [(each.taken, each.free) for each in seats.days] == [(2, 1), (0, 3), (0, 3), (0, 0)]
    assert [each.date for each in seats.days] == [after(n) for n in range(4)]
    assert (seats.available, seats.reason) == (False, "SOLD_OUT")
    request.start_date.CopyFrom(after(1))
    request.end_date.CopyFrom(after(3))
    seats = await booking.catalog.CheckAvailability(request)
    assert (seats.available, seats.reason) == (True, "")


async def test_a_lapsed_hold_is_not_taken(booking: RunningService) -> None:
    package = await booking.package(capacity=1)
    await booking.held(package.id)
    booking.clock.advance(timedelta(minutes=16))
    request = catalog_pb2.CheckAvailabilityRequest(package_id=package.id, start_date=after(0))
    seats = await booking.catalog.CheckAvailability(request)
    assert seats.available
    assert seats.days[0].taken == 0


async def test_availability_gives_the_reason_of_what_cannot_be_booked(
    booking: RunningService,
) -> None:
    closed = await booking.package(status=catalog_pb2.Package.CLOSED)
    later = await booking.package(bookable_from=after(3))
    past = await booking.package(cutoff=Duration(seconds=200 * 86400))
    for package, reason in (
        (closed, "PACKAGE_CLOSED"),
        (later, "PACKAGE_CLOSED"),
        (past, "PAST_CUTOFF"),
    ):
        seats = await booking.catalog.CheckAvailability(
            catalog_pb2.CheckAvailabilityRequest(package_id=package.id, start_date=after(0))
        )
        assert (seats.available, seats.reason) == (False, reason)
        refusal = await refusal_of(booking.held(package.id))
        assert (refusal.code, refusal.reason) == (
            grpc.StatusCode.FAILED_PRECONDITION,
            reason,
        )


async def test_search_finds_by_every_filter(booking: RunningService) -> None:
    wanted = await booking.package(location="Porto", type="city_tour", base_price=euro(500))
    await booking.package(location="Porto", type="hotel_room", base_price=euro(500))
    await booking.package(location="Faro", type="city_tour", base_price=euro(500))
    await booking.package(location="Porto", type="city_tour", base_price=euro(900))
    await booking.package(location="Porto", type="city_tour", base_price=euro(500), capacity=1)
    await booking.package(
        location="Porto", type="city_tour", base_price=euro(500), max_party_size=2
    )
    await booking.package(
        location="Porto",
        type="city_tour",
        base_price=Money(currency_code="USD", units=5),
    )
    answer = await booking.catalog.SearchPackages(
        Search(
            location="Porto",
            type="city_tour",
            start_date=after(0),
            end_date=after(2),
            quantity=2,
            party_size=4,
            min_price=euro(100),
            max_price=euro(500),
        )
    )
    assert [each.id for each in answer.packages] == [wanted.id]
    assert answer.packages[0] == wanted
    assert answer.next_page_token == ""


async def test_search_pages_hold_each_package_once_in_order(booking: RunningService) -> None:
    for cents in (300, 100, 200, 100, 200):
        await booking.package(base_price=euro(cents))
        booking.clock.advance(timedelta(seconds=1))
    orders: list[tuple[Any, Callable[[catalog_pb2.Package], int]]] = [
        (Search.PRICE_ASC, lambda each: each.base_price.units),
        (Search.PRICE_DESC, lambda each: -each.base_price.units),
        (Search.NEWEST, lambda each: -each.create_time.ToNanoseconds()),
    ]
    for order, key in orders:
        found: list[catalog_pb2.Package] = []
        request = Search(order_by=order, page_size=2)
        while True:
            answer = await booking.catalog.SearchPackages(request)
            found += answer.packages
            if not answer.next_page_token:
                break
            assert len(answer.packages) == 2
            request.page_token = answer.next_page_token
        assert len({each.id for each in found}) == 5
        assert [key(each) for each in found] == sorted(key(each) for each in found)


async def test_a_page_token_belongs_to_its_filter_and_order(booking: RunningService) -> None:
    for _ in range(3):
        await booking.package()
    request = Search(location="Lisbon", page_size=1)
    token = (await booking.catalog.SearchPackages(request)).next_page_token
    assert token
    larger_page = Search(location="Lisbon", page_size=2, page_token=token)
    assert len((await booking.catalog.SearchPackages(larger_page)).packages) == 2
    changed = token[:-2] + ("A" if token[-2] != "A" else "B") + token[-1]
    for bad in (
        Search(location="Porto", page_token=token),
        Search(location="Lisbon", order_by=Search.NEWEST, page_token=token),
        Search(location="Lisbon", page_token=changed),
        Search(location="Lisbon", page_token="42"),
        Search(location="Lisbon", page_token="!"),
        Search(location="Lisbon", page_token="ż"),
        Search(location="Lisbon", page_token="A" * 10_000),
    ):
        refusal = await refusal_of(booking.catalog.SearchPackages(bad))
        assert refusal.code is grpc.StatusCode.INVALID_ARGUMENT
        assert refusal.reason == "PAGE_TOKEN_INVALID"
        assert refusal.fields == {"page_token"}


async def test_page_sizes_have_a_default_and_a_maximum(booking: RunningService) -> None:
    vendor = await booking.vendor()
    for _ in range(201):
        await booking.catalog.CreatePackage(
            catalog_pb2.CreatePackageRequest(package=package_of(vendor.id))
        )
    for size, count in ((0, 50), (200, 200), (201, 200), (2**31 - 1, 200)):
        answer = await booking.catalog.SearchPackages(Search(page_size=size))
        assert len(answer.packages) == count


async def test_a_date_keeps_its_day_in_the_packages_time_zone(booking: RunningService) -> None:
    """The night on which clocks go forward, asked for from anywhere."""
    package = await booking.package(time_zone="Europe/Berlin", days=1)
    night = Date(year=2026, month=3, day=29)
    await booking.catalog.SetCapacity(
        catalog_pb2.SetCapacityRequest(
            package_id=package.id, ranges=[Range(start_date=night, capacity=1)]
        )
    )
    held = await booking.held(package.id, start_date=night, end_date=None)
    assert held.start_date == night
    assert held.end_date == Date(year=2026, month=3, day=30)


async def test_selling_ends_when_the_day_begins_where_the_package_is(
    booking: RunningService,
) -> None:
    """At NOON in UTC it is already the next day in Auckland, and not yet in Lisbon."""
    next_day = day(NOON.date() + timedelta(days=1))
    for zone, available in (("Pacific/Auckland", False), ("Europe/Lisbon", True)):
        package = await booking.package(time_zone=zone)
        await booking.catalog.SetCapacity(
            catalog_pb2.SetCapacityRequest(
                package_id=package.id, ranges=[Range(start_date=next_day, capacity=1)]
            )
        )
        seats = await booking.catalog.CheckAvailability(
            catalog_pb2.CheckAvailabilityRequest(package_id=package.id, start_date=next_day)
        )
        assert seats.available is available
