"""Bad requests about vendors, packages, capacity, search and availability, each with the fields
that its refusal names.
"""

from __future__ import annotations

from typing import Any
from uuid import uuid4

from google.protobuf.duration_pb2 import Duration
from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.message import Message
from google.type.date_pb2 import Date
from google.type.money_pb2 import Money

from protos.booking.v1 import catalog_pb2
from tests.booking.running_service import after, euro, package_of

ID = str(uuid4())
Tier = catalog_pb2.CancellationPolicy.Tier
Search = catalog_pb2.SearchPackagesRequest


def vendor_of(**fields: Any) -> catalog_pb2.CreateVendorRequest:
    good: dict[str, Any] = {"vendor": catalog_pb2.Vendor(name="Costa Tours")}
    return catalog_pb2.CreateVendorRequest(**(good | fields))


def vendor_update(*paths: str, **fields: Any) -> catalog_pb2.UpdateVendorRequest:
    good: dict[str, Any] = {"id": ID, "name": "Sol"}
    return catalog_pb2.UpdateVendorRequest(
        vendor=catalog_pb2.Vendor(**(good | fields)), update_mask=FieldMask(paths=paths)
    )


def creation(**fields: Any) -> catalog_pb2.CreatePackageRequest:
    return catalog_pb2.CreatePackageRequest(package=package_of(ID, **fields))


def policy(*tiers: catalog_pb2.CancellationPolicy.Tier) -> catalog_pb2.CancellationPolicy:
    return catalog_pb2.CancellationPolicy(tiers=tiers)


def capacity(*ranges: catalog_pb2.CapacityRange, **fields: Any) -> catalog_pb2.SetCapacityRequest:
    good: dict[str, Any] = {"package_id": ID, "ranges": ranges}
    return catalog_pb2.SetCapacityRequest(**(good | fields))


def run(start: Date | None = None, end: Date | None = None, units: int = 1) -> Any:
    return catalog_pb2.CapacityRange(start_date=start, end_date=end, capacity=units)


def available(**fields: Any) -> catalog_pb2.CheckAvailabilityRequest:
    good: dict[str, Any] = {"package_id": ID, "start_date": after(0)}
    return catalog_pb2.CheckAvailabilityRequest(**(good | fields))


CASES: list[tuple[str, Message, set[str]]] = [
    ("no vendor", catalog_pb2.CreateVendorRequest(), {"vendor"}),
    ("no name", vendor_of(vendor=catalog_pb2.Vendor()), {"vendor.name"}),
    ("long name", vendor_of(vendor=catalog_pb2.Vendor(name="x" * 201)), {"vendor.name"}),
    ("NUL in a name", vendor_of(vendor=catalog_pb2.Vendor(name="a\0b")), {"vendor.name"}),
    ("nothing", catalog_pb2.GetVendorRequest(), {"vendor_id"}),
    ("page of -1", catalog_pb2.ListVendorsRequest(page_size=-1), {"page_size"}),
    ("nothing", catalog_pb2.UpdateVendorRequest(), {"vendor", "update_mask"}),
    ("no mask", vendor_update(), {"update_mask"}),
    ("no id", vendor_update("name", id=""), {"vendor.id"}),
    ("no name", vendor_update("name", name=""), {"vendor.name"}),
    ("no name for *", vendor_update("*", name=""), {"vendor.name"}),
    (
        "everything",
        vendor_update("etag", name="x" * 201, id="1", etag="x" * 101),
        {"vendor.id", "vendor.etag", "update_mask.paths[0]"},
    ),
    ("a path twice", vendor_update("name", "name"), {"update_mask.paths"}),
    ("no package", catalog_pb2.CreatePackageRequest(), {"package"}),
    (
        "an empty package",
        catalog_pb2.CreatePackageRequest(package=catalog_pb2.Package(), request_id="x" * 129),
        {
            "request_id",
            "package.vendor_id",
            "package.title",
            "package.type",
            "package.location",
            "package.time_zone",
            "package.base_price",
        },
    ),
    ("long title", creation(title="x" * 201), {"package.title"}),
    ("long type", creation(type="x" * 61), {"package.type"}),
    ("long location", creation(location="x" * 121), {"package.location"}),
    ("no such zone", creation(time_zone="Europe/Atlantis"), {"package.time_zone"}),
    ("an offset", creation(time_zone="+02:00"), {"package.time_zone"}),
    ("a path", creation(time_zone="../../etc/passwd"), {"package.time_zone"}),
    ("a zone's folder", creation(time_zone="Europe"), {"package.time_zone"}),
    ("the machine's zone", creation(time_zone="localtime"), {"package.time_zone"}),
    ("status 7", creation(status=7), {"package.status"}),
    ("pricing 9", creation(pricing=9), {"package.pricing"}),
    (
        "an empty window",
        creation(bookable_from=after(1), bookable_until=after(1)),
        {"package.bookable_until"},
    ),
    ("party of -1", creation(min_party_size=-1), {"package.min_party_size"}),
    ("party of 1001", creation(max_party_size=1001), {"package.max_party_size"}),
    ("unit of -1", creation(max_party_per_unit=-1), {"package.max_party_per_unit"}),
    ("unit of 1001", creation(max_party_per_unit=1001), {"package.max_party_per_unit"}),
    (
        "largest below smallest",
        creation(min_party_size=5, max_party_size=4),
        {"package.max_party_size"},
    ),
    ("negative cutoff", creation(cutoff=Duration(seconds=-1)), {"package.cutoff"}),
    ("long cutoff", creation(cutoff=Duration(seconds=365 * 86400 + 1)), {"package.cutoff"}),
    ("half a second", creation(cutoff=Duration(nanos=500_000_000)), {"package.cutoff.nanos"}),
    ("short hold", creation(hold_ttl=Duration(seconds=59)), {"package.hold_ttl"}),
    ("hold of no time", creation(hold_ttl=Duration()), {"package.hold_ttl"}),
    ("long hold", creation(hold_ttl=Duration(seconds=86401)), {"package.hold_ttl"}),
    ("hold of ages", creation(hold_ttl=Duration(seconds=2**62)), {"package.hold_ttl"}),
    (
        "eleven tiers",
        creation(
            cancellation_policy=policy(*(Tier(before=Duration(seconds=n)) for n in range(11)))
        ),
        {"package.cancellation_policy.tiers"},
    ),
    (
        "bad tiers",
        creation(
            cancellation_policy=policy(
                Tier(before=Duration(seconds=5), refund_basis_points=10_001),
                Tier(before=Duration(seconds=5), refund_basis_points=-1),
                Tier(before=Duration(seconds=366 * 86400 + 1)),
            )
        ),
        {
            "package.cancellation_policy.tiers[0].refund_basis_points",
            "package.cancellation_policy.tiers[1].refund_basis_points",
            "package.cancellation_policy.tiers[1].before",
            "package.cancellation_policy.tiers[2].before",
        },
    ),
    ("no package id and no range", catalog_pb2.SetCapacityRequest(), {"package_id", "ranges"}),
    ("no start", capacity(run()), {"ranges[0].start_date"}),
    ("end is the start", capacity(run(after(0), after(0))), {"ranges[0].end_date"}),
    ("end before the start", capacity(run(after(3), after(1))), {"ranges[0].end_date"}),
    ("negative capacity", capacity(run(after(0), units=-1)), {"ranges[0].capacity"}),
    ("huge capacity", capacity(run(after(0), units=1_000_001)), {"ranges[0].capacity"}),
    ("3661 days", capacity(run(after(0), after(3661))), {"ranges[0].end_date"}),
    (
        "3661 days together",
        capacity(run(after(0), after(3660)), run(after(3660))),
        {"ranges"},
    ),
    ("3661 ranges", capacity(*(run(after(n)) for n in range(3661))), {"ranges"}),
    (
        "overlaps, in any order",
        capacity(run(after(5)), run(after(0), after(9)), run(after(8)), run(after(9))),
        {"ranges[0].start_date", "ranges[2].start_date"},
    ),
    (
        "several ranges",
        capacity(run(after(0)), run(after(5), after(4)), run(Date(year=2026, month=9, day=31))),
        {"ranges[1].end_date", "ranges[2].start_date"},
    ),
    ("no id", catalog_pb2.GetPackageRequest(), {"package_id"}),
    ("long place", Search(location="x" * 121), {"location"}),
    ("long type", Search(type="x" * 61), {"type"}),
    ("end alone", Search(end_date=after(1)), {"start_date"}),
    ("367 days", Search(start_date=after(0), end_date=after(367)), {"end_date"}),
    ("no days", Search(start_date=after(1), end_date=after(1)), {"end_date"}),
    ("units without dates", Search(quantity=2), {"quantity"}),
    ("101 units", Search(start_date=after(0), quantity=101), {"quantity"}),
    ("-1 units", Search(start_date=after(0), quantity=-1), {"quantity"}),
    ("party of -1", Search(party_size=-1), {"party_size"}),
    ("party of 1001", Search(party_size=1001), {"party_size"}),
    (
        "two currencies",
        Search(min_price=euro(1), max_price=Money(currency_code="USD", units=1)),
        {"max_price.currency_code"},
    ),
    ("least above greatest", Search(min_price=euro(2), max_price=euro(1)), {"max_price"}),
    ("order 9", Search(order_by=9), {"order_by"}),  # type: ignore[arg-type] # what proto3 lets through
    ("page of -1", Search(page_size=-1), {"page_size"}),
    ("nothing", catalog_pb2.CheckAvailabilityRequest(), {"package_id", "start_date"}),
    ("367 days", available(end_date=after(367)), {"end_date"}),
    ("101 units", available(quantity=101), {"quantity"}),
    ("-1 units", available(quantity=-1), {"quantity"}),
]


UUID_FIELDS: list[tuple[Message, str]] = [
    (vendor_of(), "vendor_id"),
    (vendor_update("name"), "vendor.id"),
    (catalog_pb2.GetVendorRequest(), "vendor_id"),
    (creation(), "package_id"),
    (capacity(run(after(0))), "package_id"),
    (catalog_pb2.GetPackageRequest(), "package_id"),
    (available(), "package_id"),
]


DATE_FIELDS: list[tuple[Message, str]] = [
    (creation(), "package.bookable_from"),
    (creation(), "package.bookable_until"),
    (capacity(run(after(0))), "ranges[0].start_date"),
    (capacity(run(after(0))), "ranges[0].end_date"),
    (Search(), "start_date"),
    (Search(start_date=after(0)), "end_date"),
    (available(), "start_date"),
    (available(), "end_date"),
]


MONEY_FIELDS: list[tuple[Message, str]] = [
    (creation(), "package.base_price"),
    (Search(), "min_price"),
    (Search(), "max_price"),
]
