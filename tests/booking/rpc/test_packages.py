"""Packages after their creation: changed, fetched together, listed by vendor."""

from __future__ import annotations

from datetime import timedelta
from typing import Any
from uuid import uuid4

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.field_mask_pb2 import FieldMask
from google.type.money_pb2 import Money

from protos.booking.v1 import booking_pb2, catalog_pb2, review_pb2
from tests.booking.running_service import RunningService, after, euro, package_of, refusal_of

Package = catalog_pb2.Package
OfVendor = catalog_pb2.ListVendorPackagesRequest
Search = catalog_pb2.SearchPackagesRequest
Many = catalog_pb2.BatchGetPackagesRequest


def update(package: Any, *paths: str, **fields: Any) -> catalog_pb2.UpdatePackageRequest:
    return catalog_pb2.UpdatePackageRequest(
        package=Package(**({"id": package.id} | fields)), update_mask=FieldMask(paths=paths)
    )


async def stored(service: RunningService, package: Any) -> Any:
    return await service.catalog.GetPackage(catalog_pb2.GetPackageRequest(package_id=package.id))


async def test_exactly_the_named_fields_change(booking: RunningService) -> None:
    package = await booking.package(max_party_size=4, bookable_until=after(90))
    booking.clock.advance(timedelta(minutes=1))
    changed = await booking.catalog.UpdatePackage(
        update(
            package,
            "title",
            "base_price",
            "hold_ttl",
            title="Room without a view",
            type="not named",
            base_price=euro(7_000),
            hold_ttl=Duration(seconds=60),
        )
    )
    assert await stored(booking, package) == changed
    assert changed.title == "Room without a view"
    assert changed.base_price == euro(7_000)
    assert changed.hold_ttl.seconds == 60
    assert changed.update_time.ToNanoseconds() > package.update_time.ToNanoseconds()
    assert changed.etag != package.etag
    for name in ("title", "base_price", "hold_ttl", "update_time", "etag"):
        for each in (changed, package):
            each.ClearField(name)
    assert changed == package


@pytest.mark.parametrize("all_of_them", [True, False], ids=["*", "by name"])
async def test_every_field_that_can_change_does(booking: RunningService, all_of_them: bool) -> None:
    package = await booking.package()
    wanted = package_of(
        package.vendor_id,
        id=package.id,
        title="Day on the river",
        type="city_tour",
        location="Porto",
        status=Package.CLOSED,
        bookable_from=after(1),
        bookable_until=after(9),
        base_price=euro(1),
        min_party_size=2,
        max_party_size=3,
        max_party_per_unit=1,
        cutoff=Duration(seconds=5),
        hold_ttl=Duration(seconds=90),
        cancellation_policy=catalog_pb2.CancellationPolicy(
            tiers=[catalog_pb2.CancellationPolicy.Tier(refund_basis_points=1)]
        ),
    )
    parties = ["min_party_size", "max_party_size", "max_party_per_unit"]
    numbers = [*parties, "cutoff", "hold_ttl", "base_price"]
    texts = ["title", "type", "location", "status", "bookable_from", "bookable_until"]
    names = [*texts, *numbers, "cancellation_policy"]
    request = catalog_pb2.UpdatePackageRequest(
        package=wanted,
        update_mask=FieldMask(paths=["*"] if all_of_them else names),
        request_id=str(uuid4()),
    )
    changed = await booking.catalog.UpdatePackage(request)
    assert await booking.catalog.UpdatePackage(request) == changed
    assert await stored(booking, package) == changed
    for name in names:
        if name != "cancellation_policy":
            assert getattr(changed, name) == getattr(wanted, name), name
    (tier,) = changed.cancellation_policy.tiers
    assert (tier.before.seconds, tier.refund_basis_points) == (0, 1)


async def test_a_package_that_was_read_can_be_sent_back_whole(booking: RunningService) -> None:
    package = await booking.package()
    package.title = "Room without a view"
    # What cannot change is not read.
    package.vendor_id = str(uuid4())
    request = catalog_pb2.UpdatePackageRequest(package=package, update_mask=FieldMask(paths=["*"]))
    changed = await booking.catalog.UpdatePackage(request)
    assert changed.title == "Room without a view"
    assert changed.vendor_id != package.vendor_id
    assert changed == await stored(booking, package)


async def test_a_named_field_that_is_unset_has_its_default_again(booking: RunningService) -> None:
    package = await booking.package(
        bookable_from=after(0), max_party_size=4, hold_ttl=Duration(seconds=60)
    )
    changed = await booking.catalog.UpdatePackage(
        update(package, "bookable_from", "max_party_size", "hold_ttl")
    )
    assert not changed.HasField("bookable_from")
    assert (changed.max_party_size, changed.hold_ttl.seconds) == (1000, 900)


async def test_a_package_shows_its_rating_and_popularity(booking: RunningService) -> None:
    package, other = await booking.package(), await booking.package()
    stay = await booking.confirmed(package.id)
    await booking.confirmed(other.id)
    await booking.confirmed(other.id)
    await booking.review.CreateReview(review_pb2.CreateReviewRequest(booking_id=stay.id, rating=4))
    await booking.server.sweeper.sweep()
    found = await stored(booking, package)
    assert (found.rating, found.review_count, found.popularity) == (4.0, 1, 1)
    assert (found.etag, found.update_time) == (package.etag, package.update_time)
    for order, first in ((Search.RATING, package), (Search.POPULARITY, other)):
        answer = await booking.catalog.SearchPackages(Search(order_by=order))
        assert answer.packages[0].id == first.id
    # What was read is not lost by a change, nor taken from the caller.
    found.title, found.rating, found.popularity = "Suite", 5.0, 99
    request = catalog_pb2.UpdatePackageRequest(package=found, update_mask=FieldMask(paths=["*"]))
    changed = await booking.catalog.UpdatePackage(request)
    assert (changed.title, changed.rating, changed.popularity) == ("Suite", 4.0, 1)
    assert await stored(booking, package) == changed


async def test_what_is_booked_keeps_its_price_and_policy(booking: RunningService) -> None:
    package = await booking.package()
    held = await booking.held(package.id)
    await booking.catalog.UpdatePackage(update(package, "base_price", base_price=euro(1)))
    get = booking_pb2.GetBookingRequest(booking_id=held.id)
    assert await booking.booking.GetBooking(get) == held
    assert (await booking.held(package.id)).price == euro(2)


async def test_an_update_that_changes_nothing_returns_the_package_unchanged(
    booking: RunningService,
) -> None:
    package = await booking.package()
    request = update(package, "title", title=package.title)
    assert await booking.catalog.UpdatePackage(request) == package


async def test_an_etag_guards_a_package(booking: RunningService) -> None:
    package = await booking.package()
    changed = await booking.catalog.UpdatePackage(
        update(package, "title", title="One", etag=package.etag)
    )
    refusal = await refusal_of(
        booking.catalog.UpdatePackage(update(package, "title", title="Two", etag=package.etag))
    )
    assert (refusal.code, refusal.reason) == (grpc.StatusCode.ABORTED, "ETAG_MISMATCH")
    assert refusal.resource == ("package", package.id)
    assert await stored(booking, package) == changed


async def test_the_currency_of_a_package_never_changes(booking: RunningService) -> None:
    package = await booking.package()
    dollars = Money(currency_code="USD", units=1)
    refusal = await refusal_of(
        booking.catalog.UpdatePackage(update(package, "base_price", base_price=dollars))
    )
    assert refusal.reason == "CURRENCY_MISMATCH"
    assert refusal.metadata["currency"] == "EUR"
    assert await stored(booking, package) == package


async def test_a_field_that_contradicts_what_is_stored_is_refused(booking: RunningService) -> None:
    package = await booking.package(
        bookable_from=after(0), bookable_until=after(9), min_party_size=2, max_party_size=4
    )
    for request, field in (
        (update(package, "bookable_from", bookable_from=after(9)), "package.bookable_until"),
        (update(package, "bookable_until", bookable_until=after(0)), "package.bookable_until"),
        (update(package, "min_party_size", min_party_size=5), "package.max_party_size"),
        (update(package, "max_party_size", max_party_size=1), "package.max_party_size"),
    ):
        refusal = await refusal_of(booking.catalog.UpdatePackage(request))
        assert (refusal.code, refusal.reason) == (
            grpc.StatusCode.INVALID_ARGUMENT,
            "INVALID_ARGUMENT",
        )
        assert refusal.fields == {field}
    assert await stored(booking, package) == package


async def test_a_closed_package_sells_nothing(booking: RunningService) -> None:
    package = await booking.package()
    await booking.catalog.UpdatePackage(update(package, "status", status=Package.CLOSED))
    assert (await refusal_of(booking.held(package.id))).reason == "PACKAGE_CLOSED"


async def test_packages_come_in_the_order_asked_for_or_all_missing_are_named(
    booking: RunningService,
) -> None:
    one, other = await booking.package(), await booking.package()
    answer = await booking.catalog.BatchGetPackages(Many(package_ids=[other.id, one.id]))
    assert list(answer.packages) == [other, one]
    missing = [str(uuid4()), str(uuid4())]
    refusal = await refusal_of(
        booking.catalog.BatchGetPackages(Many(package_ids=[missing[0], one.id, missing[1]]))
    )
    assert refusal.code is grpc.StatusCode.NOT_FOUND
    assert refusal.metadata["missing"].split(",") == missing


async def test_a_vendors_packages_are_listed_once_each_newest_first(
    booking: RunningService,
) -> None:
    """25 of one instant and some older ones, while others are added."""
    vendor = await booking.vendor()

    async def create() -> str:
        request = catalog_pb2.CreatePackageRequest(package=package_of(vendor.id))
        return (await booking.catalog.CreatePackage(request)).id

    old = [await create() for _ in range(2)]
    booking.clock.advance(timedelta(microseconds=1))
    new = {await create() for _ in range(25)}
    await booking.package()
    request, found = OfVendor(vendor_id=vendor.id, page_size=10), []
    while True:
        answer = await booking.catalog.ListVendorPackages(request)
        found += [each.id for each in answer.packages]
        if not answer.next_page_token:
            break
        assert len(answer.packages) == 10
        request.page_token = answer.next_page_token
        booking.clock.advance(timedelta(seconds=1))
        await create()
    assert set(found[:25]) == new
    assert sorted(found[25:]) == sorted(old)


async def test_a_vendors_packages_are_filtered_by_status(booking: RunningService) -> None:
    package = await booking.package(status=Package.CLOSED)
    for statuses, count in (([], 1), ([Package.CLOSED], 1), ([Package.ACTIVE], 0)):
        request = OfVendor(vendor_id=package.vendor_id, statuses=statuses)
        answer = await booking.catalog.ListVendorPackages(request)
        assert len(answer.packages) == count
    unknown = await booking.catalog.ListVendorPackages(OfVendor(vendor_id=str(uuid4())))
    assert list(unknown.packages) == []
