"""Bad requests of batches, previews, changes of stays, reports and changes of packages, each with
the fields that its refusal names.
"""

from __future__ import annotations

from typing import Any
from uuid import uuid4

from google.protobuf.duration_pb2 import Duration
from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp
from google.type.date_pb2 import Date
from google.type.money_pb2 import Money

from protos.booking.v1 import booking_pb2, catalog_pb2
from tests.booking.running_service import after, euro, start_of

ID, OTHER = str(uuid4()), str(uuid4())
YEAR_2026_S = 1_767_225_600
Batch = booking_pb2.BatchStartBookingsRequest
Extend = booking_pb2.ExtendHoldRequest
Fail = booking_pb2.FailBookingRequest
Cancel = booking_pb2.CancelBookingRequest
Preview = booking_pb2.PreviewCancellationRequest
Bookings = booking_pb2.BatchGetBookingsRequest
Events = booking_pb2.ListBookingEventsRequest
Report = booking_pb2.GetRevenueReportRequest
Reconcile = booking_pb2.ReconcileInventoryRequest
Packages = catalog_pb2.BatchGetPackagesRequest
OfVendor = catalog_pb2.ListVendorPackagesRequest
Changes = catalog_pb2.ListPackageEventsRequest
Update = catalog_pb2.UpdatePackageRequest


def moving(**fields: Any) -> booking_pb2.RescheduleBookingRequest:
    good: dict[str, Any] = {"booking_id": ID, "start_date": after(0), "end_date": after(2)}
    return booking_pb2.RescheduleBookingRequest(**(good | fields))


def report(**fields: Any) -> booking_pb2.GetRevenueReportRequest:
    good: dict[str, Any] = {"start_time": instant(0), "end_time": instant(1)}
    return Report(**(good | fields))


def instant(days: int, nanos: int = 0) -> Timestamp:
    """The instant `days` after 2026 begins."""
    return Timestamp(seconds=YEAR_2026_S + days * 86400, nanos=nanos)


def update(*paths: str, **fields: Any) -> catalog_pb2.UpdatePackageRequest:
    package = catalog_pb2.Package(**({"id": ID} | fields))
    return Update(package=package, update_mask=FieldMask(paths=paths))


CASES: list[tuple[str, Message, set[str]]] = [
    ("nothing", Batch(), {"requests"}),
    ("101 starts", Batch(requests=[start_of(ID) for _ in range(101)]), {"requests"}),
    (
        "3661 days",
        Batch(
            requests=[
                *[start_of(ID, start_date=after(0), end_date=after(366))] * 10,
                start_of(ID, start_date=after(0), end_date=after(1)),
            ]
        ),
        {"requests"},
    ),
    (
        "a request_id in each",
        Batch(
            requests=[
                start_of(ID, request_id=ID),
                start_of(ID, validate_only=True),
                start_of("1", user_id="", quantity=-1, booking_id="2", end_date=after(0)),
                start_of(ID, quote=booking_pb2.Quote()),
            ],
            request_id="x" * 129,
        ),
        {
            "requests[0].request_id",
            "requests[1].validate_only",
            "requests[2].package_id",
            "requests[2].user_id",
            "requests[2].quantity",
            "requests[2].booking_id",
            "requests[2].end_date",
            "requests[3].quote.price",
            "request_id",
        },
    ),
    ("no id", Extend(), {"booking_id"}),
    ("nothing", Fail(), {"booking_id", "reason"}),
    ("lower case", Fail(booking_id=ID, reason="timeout"), {"reason"}),
    ("a sentence", Fail(booking_id=ID, reason="TIME OUT"), {"reason"}),
    ("61 letters", Fail(booking_id=ID, reason="X" * 61), {"reason"}),
    ("U+0000", Fail(booking_id=ID, reason="X\0"), {"reason"}),
    ("letters of another script", Fail(booking_id=ID, reason="ŻÓŁĆ"), {"reason"}),
    *(
        ("a long etag", request, {"etag"})
        for request in (
            Cancel(booking_id=ID, etag="x" * 101),
            Extend(booking_id=ID, etag="x" * 101),
            Fail(booking_id=ID, reason="TIMEOUT", etag="x" * 101),
            booking_pb2.CompleteBookingRequest(booking_id=ID, etag="x" * 101),
            booking_pb2.AbandonBookingRequest(booking_id=ID, etag="x" * 101),
        )
    ),
    ("no id", Preview(), {"booking_id"}),
    ("nothing", booking_pb2.RescheduleBookingRequest(), {"booking_id", "start_date"}),
    ("367 days", moving(end_date=after(367)), {"end_date"}),
    ("no days", moving(end_date=after(0)), {"end_date"}),
    (
        "everything",
        moving(
            booking_id="1",
            start_date=Date(year=2026, month=2, day=29),
            quote=booking_pb2.Quote(),
            etag="x" * 101,
            request_id="x" * 129,
        ),
        {"booking_id", "start_date", "quote.price", "etag", "request_id"},
    ),
    ("nothing", Bookings(), {"booking_ids"}),
    ("101 ids", Bookings(booking_ids=[str(uuid4()) for _ in range(101)]), {"booking_ids"}),
    (
        "an empty one, a bad one and one again",
        Bookings(booking_ids=[ID, "", "1", OTHER, ID]),
        {"booking_ids[1]", "booking_ids[2]", "booking_ids[4]"},
    ),
    ("nothing", Events(), {"booking_id"}),
    ("page of -1", Events(booking_id=ID, page_size=-1), {"page_size"}),
    ("nothing", Report(), {"start_time", "end_time"}),
    ("no time between", report(end_time=instant(0)), {"end_time"}),
    ("the end first", report(end_time=instant(-1)), {"end_time"}),
    ("3661 days", report(end_time=instant(3661)), {"end_time"}),
    (
        "a bad vendor and no time between",
        report(vendor_id="1", end_time=instant(0)),
        {"vendor_id", "end_time"},
    ),
    ("nanos beyond a second", report(start_time=instant(0, 10**9)), {"start_time.nanos"}),
    ("negative nanos", report(start_time=instant(0, -1)), {"start_time.nanos"}),
    ("1899", report(start_time=Timestamp(seconds=-2_208_988_801)), {"start_time"}),
    ("3000", report(end_time=Timestamp(seconds=32_503_680_000)), {"end_time"}),
    ("beyond a calendar", report(start_time=Timestamp(seconds=2**62)), {"start_time"}),
    ("no id", Reconcile(), {"package_id"}),
    ("no date", Reconcile(package_id=ID, start_date=Date(month=13)), {"start_date"}),
    ("nothing", Packages(), {"package_ids"}),
    ("101 ids", Packages(package_ids=[str(uuid4()) for _ in range(101)]), {"package_ids"}),
    ("one again", Packages(package_ids=[ID, ID]), {"package_ids[1]"}),
    ("nothing", Changes(), {"package_id"}),
    ("both", Changes(vendor_id=ID, package_id=ID, page_size=-1), {"package_id", "page_size"}),
    ("a vendor that is none", Changes(vendor_id="7"), {"vendor_id"}),
    ("nothing", OfVendor(), {"vendor_id"}),
    (
        "statuses",
        OfVendor(vendor_id=ID, statuses=[1, 0, 99], page_size=-1),  # type: ignore[list-item] # what proto3 lets through
        {"statuses[1]", "statuses[2]", "page_size"},
    ),
    ("nothing", Update(), {"package", "update_mask"}),
    ("no mask", update(title="x"), {"update_mask"}),
    (
        "no id",
        Update(package=catalog_pb2.Package(title="x"), update_mask=FieldMask(paths=["title"])),
        {"package.id"},
    ),
    (
        "what cannot change",
        update(
            "title", "vendor_id", "time_zone", "pricing", "etag", "*", "base_price.units", title="x"
        ),
        {f"update_mask.paths[{n}]" for n in range(1, 7)},
    ),
    ("a path twice", update("title", "title", title="x"), {"update_mask.paths[1]"}),
    (
        "everything unset that has no default",
        update("title", "type", "location", "status", "base_price"),
        {f"package.{name}" for name in ("title", "type", "location", "status", "base_price")},
    ),
    (
        "values",
        update(
            "title",
            "cutoff",
            "hold_ttl",
            "min_party_size",
            "max_party_size",
            "bookable_from",
            "bookable_until",
            title="x" * 201,
            cutoff=Duration(seconds=-1),
            hold_ttl=Duration(seconds=59),
            min_party_size=5,
            max_party_size=4,
            bookable_from=after(2),
            bookable_until=after(2),
            etag="x" * 101,
        ),
        {
            "package.title",
            "package.cutoff",
            "package.hold_ttl",
            "package.max_party_size",
            "package.bookable_until",
            "package.etag",
        },
    ),
    (
        "a tier",
        update(
            "cancellation_policy",
            cancellation_policy=catalog_pb2.CancellationPolicy(
                tiers=[catalog_pb2.CancellationPolicy.Tier(refund_basis_points=10_001)]
            ),
            base_price=Money(units=-1),
        ),
        {"package.cancellation_policy.tiers[0].refund_basis_points"},
    ),
]

UUID_FIELDS: list[tuple[Message, str]] = [
    (Batch(requests=[start_of(ID)]), "requests[0].booking_id"),
    (Extend(booking_id=ID), "booking_id"),
    (Fail(booking_id=ID, reason="TIMEOUT"), "booking_id"),
    (Preview(), "booking_id"),
    (moving(), "booking_id"),
    (Events(), "booking_id"),
    (report(), "vendor_id"),
    (Reconcile(), "package_id"),
    (OfVendor(), "vendor_id"),
    (Changes(), "package_id"),
    (update("cutoff"), "package.id"),
]

DATE_FIELDS: list[tuple[Message, str]] = [
    (Batch(requests=[start_of(ID)]), "requests[0].start_date"),
    (moving(), "start_date"),
    (moving(), "end_date"),
    (update("bookable_from"), "package.bookable_from"),
    (update("bookable_until"), "package.bookable_until"),
]

MONEY_FIELDS: list[tuple[Message, str]] = [
    (Cancel(booking_id=ID, expected_refund=euro(1)), "expected_refund"),
    (moving(quote=booking_pb2.Quote(price=euro(1))), "quote.price"),
    (update("base_price", base_price=euro(1)), "package.base_price"),
]
