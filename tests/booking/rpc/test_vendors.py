"""Vendors after their creation: read, listed and changed."""

from __future__ import annotations

import asyncio
from datetime import UTC, timedelta

import grpc
import pytest
from google.protobuf.field_mask_pb2 import FieldMask

from protos.booking.v1 import catalog_pb2
from tests.booking.running_service import NOON, RunningService, package_of, refusal_of

Vendor = catalog_pb2.Vendor
Update = catalog_pb2.UpdateVendorRequest
Listed = catalog_pb2.ListVendorsRequest


def update(vendor: Vendor, name: str, *, etag: str = "", path: str = "name") -> Update:
    return Update(
        vendor=Vendor(id=vendor.id, name=name, etag=etag), update_mask=FieldMask(paths=[path])
    )


async def got(service: RunningService, vendor: Vendor) -> Vendor:
    found = await service.catalog.GetVendor(catalog_pb2.GetVendorRequest(vendor_id=vendor.id))
    assert isinstance(found, Vendor)
    return found


@pytest.mark.parametrize("path", ["name", "*"])
async def test_a_vendor_is_changed_and_read(booking: RunningService, path: str) -> None:
    made = await booking.vendor()
    assert await got(booking, made) == made
    booking.clock.advance(timedelta(minutes=1))
    changed = await booking.catalog.UpdateVendor(update(made, "Sol", path=path))
    assert (changed.id, changed.name, changed.create_time) == (made.id, "Sol", made.create_time)
    assert changed.update_time.ToDatetime(UTC) == NOON + timedelta(minutes=1)
    assert changed.etag != made.etag
    assert await got(booking, made) == changed
    # Equal to what is stored: nothing changes.
    assert await booking.catalog.UpdateVendor(update(made, "Sol")) == changed


async def test_an_etag_guards_a_vendor_against_changes_at_once(booking: RunningService) -> None:
    made = await booking.vendor()
    outcomes = await asyncio.gather(
        *(
            booking.catalog.UpdateVendor(update(made, f"Sol {n}", etag=made.etag))
            for n in range(10)
        ),
        return_exceptions=True,
    )
    (changed,) = [each for each in outcomes if isinstance(each, Vendor)]
    assert await got(booking, made) == changed
    refusal = await refusal_of(booking.catalog.UpdateVendor(update(made, "Mar", etag=made.etag)))
    assert (refusal.code, refusal.reason) == (grpc.StatusCode.ABORTED, "ETAG_MISMATCH")
    assert refusal.resource == ("vendor", made.id)


async def test_the_times_of_a_vendor_never_go_back(booking: RunningService) -> None:
    made = await booking.vendor()
    booking.clock.advance(timedelta(hours=-1))
    changed = await booking.catalog.UpdateVendor(update(made, "Sol"))
    assert changed.update_time == made.update_time
    assert changed.etag != made.etag


async def test_changes_of_a_vendor_at_once_have_an_order(booking: RunningService) -> None:
    made = await booking.vendor()
    changed = await asyncio.gather(
        *(booking.catalog.UpdateVendor(update(made, f"Sol {n}")) for n in range(10)),
        *(booking.catalog.CreatePackage(package_creation(made)) for _ in range(5)),
    )
    vendors = [each for each in changed if isinstance(each, Vendor)]
    assert len({each.etag for each in vendors}) == 10
    assert await got(booking, made) in vendors


def package_creation(vendor: Vendor) -> catalog_pb2.CreatePackageRequest:
    return catalog_pb2.CreatePackageRequest(package=package_of(vendor.id))


async def test_vendors_are_listed_newest_first_each_once(booking: RunningService) -> None:
    made = []
    for n in range(7):
        # Several at one instant, in the order of their ids.
        booking.clock.advance(timedelta(seconds=n % 2))
        made.append(await booking.vendor())
    made.sort(key=lambda each: (each.create_time.ToMicroseconds(), each.id), reverse=True)
    listed: list[Vendor] = []
    token = ""
    while True:
        page = await booking.catalog.ListVendors(Listed(page_size=3, page_token=token))
        listed += page.vendors
        token = page.next_page_token
        if not token:
            break
        await booking.catalog.UpdateVendor(update(made[0], made[0].name))
    assert listed == made
    refusal = await refusal_of(booking.catalog.ListVendors(Listed(page_token="x")))
    assert refusal.reason == "PAGE_TOKEN_INVALID"
