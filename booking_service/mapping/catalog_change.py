"""Proto to domain: each request that changes the catalogue becomes a command.

Bounds are those that the comments of catalog.proto state. A bad request is refused as a whole, with
every bad field named, before anything is read from the database.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from typing import Final
from uuid import UUID, uuid4

from google.protobuf.field_mask_pb2 import FieldMask

from booking_service.domain.commands import (
    CapacityRange,
    CreatePackage,
    CreateVendor,
    SetCapacity,
    UpdatePackage,
    UpdateVendor,
)
from booking_service.domain.package import PackageDraft, PackageStatus, Pricing
from booking_service.mapping.bounds import MAX_ETAG, MAX_PARTY_SIZE
from booking_service.mapping.command_request import CommandRequest, fingerprint, read_request_id
from booking_service.mapping.dates import read_dates
from booking_service.mapping.fields import FIRST_DATE, Fields
from booking_service.mapping.masks import read_mask
from booking_service.mapping.policy import read_policy
from protos.booking.v1 import catalog_pb2

MAX_CAPACITY: Final = 1_000_000
MAX_CAPACITY_DAYS: Final = 3660
MAX_CAPACITY_RANGES: Final = 3660

_DAY_S: Final = 24 * 3600

# The paths that an update may name, and the fields of PackageDraft that each sets.
_CHANGEABLE: Final = {
    "title": ("title",),
    "type": ("type",),
    "location": ("location",),
    "status": ("status",),
    "bookable_from": ("bookable_from",),
    "bookable_until": ("bookable_until",),
    "base_price": ("base_price_minor", "currency"),
    "min_party_size": ("min_party_size",),
    "max_party_size": ("max_party_size",),
    "max_party_per_unit": ("max_party_per_unit",),
    "cutoff": ("cutoff_s",),
    "hold_ttl": ("hold_ttl_s",),
    "cancellation_policy": ("cancellation_policy",),
}


def create_vendor(request: catalog_pb2.CreateVendorRequest) -> CommandRequest[CreateVendor]:
    read = Fields()
    name = ""
    if request.HasField("vendor"):
        name = read.shown_text("vendor.name", request.vendor.name)
    else:
        read.bad("vendor", "is required")
    vendor_id = read.optional_uuid("vendor_id", request.vendor_id) or uuid4()
    request_id = read_request_id(read, request.request_id)
    read.refuse_bad()
    return CommandRequest(CreateVendor(vendor_id, name), request_id, fingerprint(request))


def update_vendor(request: catalog_pb2.UpdateVendorRequest) -> CommandRequest[UpdateVendor]:
    read = Fields()
    request_id = read_request_id(read, request.request_id)
    vendor = request.vendor
    if request.HasField("vendor"):
        vendor_id = read.uuid("vendor.id", vendor.id)
    else:
        read.bad("vendor", "is required")
        vendor_id = uuid4()
    etag = read.text("vendor.etag", vendor.etag, most=MAX_ETAG, required=False)
    if not request.update_mask.paths:
        read.bad("update_mask", "is required")
    named = read_mask(read, request.update_mask, ("name",))
    name = read.shown_text("vendor.name", vendor.name) if named else ""
    read.refuse_bad()
    return CommandRequest(UpdateVendor(vendor_id, name, etag), request_id, fingerprint(request))


def create_package(request: catalog_pb2.CreatePackageRequest) -> CommandRequest[CreatePackage]:
    read = Fields()
    package_id = read.optional_uuid("package_id", request.package_id) or uuid4()
    request_id = read_request_id(read, request.request_id)
    if not request.HasField("package"):
        read.bad("package", "is required")
        read.refuse_bad()
    draft = _draft(read, "package", request.package, package_id)
    read.refuse_bad()
    return CommandRequest(CreatePackage(draft), request_id, fingerprint(request))


def set_capacity(request: catalog_pb2.SetCapacityRequest) -> CommandRequest[SetCapacity]:
    read = Fields()
    package_id = read.uuid("package_id", request.package_id)
    request_id = read_request_id(read, request.request_id)
    ranges = _capacity_ranges(read, "ranges", request.ranges)
    read.refuse_bad()
    return CommandRequest(SetCapacity(package_id, ranges), request_id, fingerprint(request))


def update_package(request: catalog_pb2.UpdatePackageRequest) -> CommandRequest[UpdatePackage]:
    read = Fields()
    request_id = read_request_id(read, request.request_id)
    package = request.package
    if request.HasField("package"):
        package_id = read.uuid("package.id", package.id)
    else:
        read.bad("package", "is required")
        package_id = uuid4()
    etag = read.text("package.etag", package.etag, most=MAX_ETAG, required=False)
    changes = _changes(read, package, request.update_mask)
    read.refuse_bad()
    command = UpdatePackage(package_id, changes, etag)
    return CommandRequest(command, request_id, fingerprint(request))


def _draft(
    read: Fields, field: str, message: catalog_pb2.Package, package_id: UUID
) -> PackageDraft:
    """Output-only fields are ignored."""
    from_, until = _bookable(read, field, message)
    min_party, max_party = _party(read, field, message)
    price = read.money(
        f"{field}.base_price", message.base_price, present=message.HasField("base_price")
    )
    hold_ttl_s = 15 * 60
    if message.HasField("hold_ttl"):
        hold_ttl_s = read.seconds(f"{field}.hold_ttl", message.hold_ttl, low=60, high=_DAY_S)
    return PackageDraft(
        id=package_id,
        vendor_id=read.uuid(f"{field}.vendor_id", message.vendor_id),
        title=read.shown_text(f"{field}.title", message.title),
        type=read.text(f"{field}.type", message.type, most=60),
        location=read.text(f"{field}.location", message.location, most=120),
        time_zone=read.time_zone(f"{field}.time_zone", message.time_zone),
        status=PackageStatus(
            read.choice(
                f"{field}.status", message.status, catalog_pb2.Package.Status, unset="ACTIVE"
            )
        ),
        bookable_from=from_,
        bookable_until=until,
        base_price_minor=price.minor,
        currency=price.currency,
        pricing=Pricing(
            read.choice(
                f"{field}.pricing",
                message.pricing,
                catalog_pb2.Package.Pricing,
                unset="PER_UNIT_DAY",
            )
        ),
        min_party_size=min_party,
        max_party_size=max_party,
        max_party_per_unit=read.number(
            f"{field}.max_party_per_unit", message.max_party_per_unit, low=0, high=MAX_PARTY_SIZE
        ),
        cutoff_s=read.seconds(f"{field}.cutoff", message.cutoff, low=0, high=365 * _DAY_S),
        hold_ttl_s=hold_ttl_s,
        cancellation_policy=read_policy(
            read, f"{field}.cancellation_policy", message.cancellation_policy
        ),
    )


def _changes(read: Fields, message: catalog_pb2.Package, mask: FieldMask) -> dict[str, object]:
    """Return the new values of an update, as fields of PackageDraft: those that the mask names,
    each checked as on creation.

    Whether they agree with what is stored is decided by the domain.
    """
    if not mask.paths:
        read.bad("update_mask", "is required")
    named = read_mask(read, mask, _CHANGEABLE)
    if "status" in named and message.status == catalog_pb2.Package.STATUS_UNSPECIFIED:
        read.bad("package.status", "is required")
    change = catalog_pb2.Package()
    FieldMask(paths=named).MergeMessage(message, change)
    whole = Fields()
    value = _draft(whole, "package", change, UUID(int=0))
    read.take(whole, [f"package.{path}" for path in named])
    return {name: getattr(value, name) for path in named for name in _CHANGEABLE[path]}


def _capacity_ranges(
    read: Fields, field: str, messages: Sequence[catalog_pb2.CapacityRange]
) -> tuple[CapacityRange, ...]:
    """Ranges must not overlap, and have at most MAX_CAPACITY_DAYS days together."""
    if not read.fits(field, messages, most=MAX_CAPACITY_RANGES, required=True):
        return ()
    numbered: list[tuple[date, date, int]] = []
    ranges = []
    for n, message in enumerate(messages):
        path = f"{field}[{n}]"
        start, end = read_dates(read, message, start_required=True, path=f"{path}.")
        end_present = message.HasField("end_date")
        capacity = read.number(f"{path}.capacity", message.capacity, low=0, high=MAX_CAPACITY)
        first, after = read.day_range(
            f"{path}.end_date", start, end, end_present=end_present, most=MAX_CAPACITY_DAYS
        )
        ranges.append(CapacityRange(first, after, capacity))
        if start is not None and first < after:
            numbered.append((first, after, n))
    numbered.sort()
    furthest, owner = FIRST_DATE, 0
    for first, after, n in numbered:
        if first < furthest:
            read.bad(f"{field}[{n}].start_date", f"overlaps {field}[{owner}]")
        if after > furthest:
            furthest, owner = after, n
    total_days = sum((after - first).days for first, after, _ in numbered)
    if len(messages) > 1 and total_days > MAX_CAPACITY_DAYS:
        read.bad(field, f"must be at most {MAX_CAPACITY_DAYS} days together, are {total_days}")
    return tuple(ranges)


def _bookable(
    read: Fields, field: str, message: catalog_pb2.Package
) -> tuple[date | None, date | None]:
    from_ = read.day(
        f"{field}.bookable_from",
        message.bookable_from,
        present=message.HasField("bookable_from"),
        required=False,
    )
    until = read.day(
        f"{field}.bookable_until",
        message.bookable_until,
        present=message.HasField("bookable_until"),
        required=False,
    )
    if from_ is not None and until is not None and until <= from_:
        read.bad(f"{field}.bookable_until", f"must be after bookable_from {from_}, is {until}")
    return from_, until


def _party(read: Fields, field: str, message: catalog_pb2.Package) -> tuple[int, int]:
    low = read.number(
        f"{field}.min_party_size", message.min_party_size, low=1, high=MAX_PARTY_SIZE, zero=1
    )
    high = read.number(
        f"{field}.max_party_size",
        message.max_party_size,
        low=1,
        high=MAX_PARTY_SIZE,
        zero=MAX_PARTY_SIZE,
    )
    if 1 <= high < low <= MAX_PARTY_SIZE:
        read.bad(f"{field}.max_party_size", f"must be at least min_party_size {low}, is {high}")
    return low, high
