"""The audit trail of the catalogue, as callers read it: who changed what, page by page."""

from __future__ import annotations

from datetime import UTC, timedelta
from typing import Any
from uuid import uuid4

import asyncpg
import grpc
from google.protobuf.duration_pb2 import Duration
from google.protobuf.field_mask_pb2 import FieldMask

from booking_service.domain.catalog_events import MAX_RUNS
from protos.booking.v1 import booking_pb2, catalog_pb2
from servicekit.handlers import MAX_MESSAGE_BYTES
from tests.booking.running_service import NOON, RunningService, after, euro, package_of, refusal_of

Listed = catalog_pb2.ListPackageEventsRequest
Policy = catalog_pb2.CancellationPolicy
WEB = [("x-caller", "web")]


def fields_of(event: catalog_pb2.PackageEvent) -> dict[str, tuple[str, str]]:
    return {each.field: (each.before, each.after) for each in event.fields}


def runs_of(event: catalog_pb2.PackageEvent) -> list[tuple[str, Any, Any, int, int]]:
    return [
        (run.counter, run.start_date, run.end_date, run.before, run.after) for run in event.counters
    ]


def run(first: int, until: int, capacity: int) -> catalog_pb2.CapacityRange:
    return catalog_pb2.CapacityRange(
        start_date=after(first), end_date=after(until), capacity=capacity
    )


async def changes(service: RunningService, **of: str) -> list[catalog_pb2.PackageEvent]:
    answer = await service.catalog.ListPackageEvents(Listed(**of))  # type: ignore[arg-type] # ids
    assert answer.next_page_token == ""
    return list(answer.events)


async def test_every_change_names_its_caller_and_what_was_before_and_after(
    booking: RunningService,
) -> None:
    package = await booking.package()
    booking.clock.advance(timedelta(minutes=3))
    request_id = str(uuid4())
    update = catalog_pb2.UpdatePackageRequest(
        package=catalog_pb2.Package(
            id=package.id,
            base_price=euro(9100),
            cutoff=Duration(seconds=3600),
            bookable_from=after(1),
            cancellation_policy=Policy(
                tiers=[Policy.Tier(before=Duration(seconds=60), refund_basis_points=5000)]
            ),
        ),
        update_mask=FieldMask(
            paths=["base_price", "cutoff", "bookable_from", "cancellation_policy", "title"]
        ),
        request_id=request_id,
    )
    update.package.title = package.title
    await booking.catalog.UpdatePackage(update, metadata=WEB)
    # A repeat is no change, nor is what is so already.
    await booking.catalog.UpdatePackage(update, metadata=WEB)
    update.request_id = ""
    await booking.catalog.UpdatePackage(update, metadata=WEB)

    newest, capacity, created = await changes(booking, package_id=package.id)
    assert (newest.change, newest.caller, newest.request_id) == (
        "PACKAGE_UPDATED",
        "web",
        request_id,
    )
    assert newest.time.ToDatetime(UTC) == NOON + timedelta(minutes=3)
    assert (newest.vendor_id, newest.package_id) == (package.vendor_id, package.id)
    assert fields_of(newest) == {
        "base_price": ("8050", "9100"),
        "cutoff": ("0", "3600"),
        "bookable_from": ("", "2026-06-02"),
        "cancellation_policy": ("", "60=5000"),
    }
    assert (capacity.change, capacity.caller) == ("CAPACITY_SET", "local")
    assert runs_of(capacity) == [("capacity", after(0), after(10), 0, 10)]
    assert created.change == "PACKAGE_CREATED"
    first = fields_of(created)
    assert first["title"] == ("", "Room with a view")
    assert first["base_price"] == ("", "8050")
    assert "bookable_from" not in first


async def test_capacity_is_listed_by_runs_of_days_that_changed(booking: RunningService) -> None:
    package = await booking.package()
    ranges = [run(2, 4, 12), run(4, 5, 12), run(5, 6, 10), run(9, 11, 12)]
    request = catalog_pb2.SetCapacityRequest(package_id=package.id, ranges=ranges)
    await booking.catalog.SetCapacity(request)
    await booking.catalog.SetCapacity(request)
    newest, *earlier = await changes(booking, package_id=package.id)
    assert [each.change for each in earlier] == ["CAPACITY_SET", "PACKAGE_CREATED"]
    assert runs_of(newest) == [
        ("capacity", after(2), after(5), 10, 12),
        ("capacity", after(9), after(10), 10, 12),
        ("capacity", after(10), after(11), 0, 12),
    ]
    assert newest.days_left_out == 0


async def test_a_refused_change_has_no_event(booking: RunningService) -> None:
    package = await booking.package(capacity=1)
    await booking.held(package.id)
    before = await changes(booking, package_id=package.id)
    refusal = await refusal_of(
        booking.catalog.SetCapacity(
            catalog_pb2.SetCapacityRequest(package_id=package.id, ranges=[run(0, 5, 0)])
        )
    )
    assert refusal.reason == "CAPACITY_BELOW_TAKEN"
    assert await changes(booking, package_id=package.id) == before


async def test_a_repair_is_a_change_of_counters(booking: RunningService) -> None:
    package = await booking.package(capacity=2)
    connection = await asyncpg.connect(booking.server.database.dsn)
    try:
        await connection.execute("UPDATE package_days SET held = 1 WHERE day < '2026-06-03'")
    finally:
        await connection.close()
    ask = booking_pb2.ReconcileInventoryRequest(package_id=package.id, repair=True)
    await booking.booking.ReconcileInventory(ask, metadata=WEB)
    await booking.booking.ReconcileInventory(ask, metadata=WEB)
    newest, *earlier = await changes(booking, package_id=package.id)
    assert (newest.change, newest.caller) == ("INVENTORY_REPAIRED", "web")
    assert runs_of(newest) == [("held", after(0), after(2), 1, 0)]
    assert len(earlier) == 2


async def test_a_vendor_lists_its_own_changes_and_those_of_its_packages(
    booking: RunningService,
) -> None:
    vendor = await booking.vendor()
    other = await booking.package()
    await booking.catalog.UpdateVendor(
        catalog_pb2.UpdateVendorRequest(
            vendor=catalog_pb2.Vendor(id=vendor.id, name="Sol"),
            update_mask=FieldMask(paths=["name"]),
        ),
        metadata=WEB,
    )
    made = [
        await booking.catalog.CreatePackage(
            catalog_pb2.CreatePackageRequest(package=package_of(vendor.id))
        )
        for _ in range(3)
    ]
    request = Listed(vendor_id=vendor.id, page_size=2)
    listed: list[catalog_pb2.PackageEvent] = []
    while True:
        page = await booking.catalog.ListPackageEvents(request)
        listed += page.events
        if not page.next_page_token:
            break
        assert len(page.events) == 2
        request.page_token = page.next_page_token
    assert [each.package_id for each in listed] == [*(p.id for p in reversed(made)), "", ""]
    updated, created = listed[-2:]
    assert (updated.change, updated.caller) == ("VENDOR_UPDATED", "web")
    assert fields_of(updated) == {"name": ("Costa Tours", "Sol")}
    assert (created.change, fields_of(created)) == ("VENDOR_CREATED", {"name": ("", "Costa Tours")})
    assert {each.vendor_id for each in listed} == {vendor.id}

    foreign = Listed(vendor_id=other.vendor_id, page_token=request.page_token)
    refusal = await refusal_of(booking.catalog.ListPackageEvents(foreign))
    assert (refusal.code, refusal.reason) == (
        grpc.StatusCode.INVALID_ARGUMENT,
        "PAGE_TOKEN_INVALID",
    )


async def test_the_largest_events_are_bounded_and_their_pages_go_on(
    booking: RunningService,
) -> None:
    package = await booking.package(capacity=1)
    days = 3660
    for turn in range(2, 4):
        ranges = [run(n, n + 1, turn + n % 2) for n in range(days)]
        await booking.catalog.SetCapacity(
            catalog_pb2.SetCapacityRequest(package_id=package.id, ranges=ranges)
        )
    newest = (await changes(booking, package_id=package.id))[0]
    assert len(newest.counters) == MAX_RUNS
    shown = len({(each.start_date.month, each.start_date.day) for each in newest.counters})
    assert shown + newest.days_left_out == days
    for turn in range(210):
        ranges = [run(n, n + 1, 5 + (turn + n) % 2) for n in range(MAX_RUNS)]
        await booking.catalog.SetCapacity(
            catalog_pb2.SetCapacityRequest(package_id=package.id, ranges=ranges)
        )
    request = Listed(package_id=package.id, page_size=200)
    lengths = []
    while True:
        page = await booking.catalog.ListPackageEvents(request)
        assert page.ByteSize() < MAX_MESSAGE_BYTES
        lengths.append(len(page.events))
        if not page.next_page_token:
            break
        request.page_token = page.next_page_token
    assert sum(lengths) == 4 + 210
    assert 20 < lengths[0] < 100
