"""Proto to domain: each request that changes the catalogue becomes a command.

Bounds are those that the comments of catalog.proto state. A bad request is refused as a whole,
every bad field named, before anything is looked up.
"""

from __future__ import annotations

from uuid import uuid4

from booking_service.domain.commands import (
    CreatePackage,
    CreateVendor,
    ReconcileInventory,
    SetCapacity,
    UpdatePackage,
)
from booking_service.mapping import packages
from booking_service.mapping.booking_change import MAX_ETAG, Change, fingerprint
from booking_service.mapping.fields import Fields
from protos.booking.v1 import booking_pb2, catalog_pb2


def create_vendor(request: catalog_pb2.CreateVendorRequest) -> Change[CreateVendor]:
    read = Fields()
    name = ""
    if request.HasField("vendor"):
        name = read.text("vendor.name", request.vendor.name, most=200)
    else:
        read.bad("vendor", "is required")
    vendor_id = read.optional_uuid("vendor_id", request.vendor_id) or uuid4()
    request_id = read.optional_uuid("request_id", request.request_id)
    read.refuse_bad()
    return Change(CreateVendor(vendor_id, name), request_id, fingerprint(request))


def create_package(request: catalog_pb2.CreatePackageRequest) -> Change[CreatePackage]:
    read = Fields()
    package_id = read.optional_uuid("package_id", request.package_id) or uuid4()
    request_id = read.optional_uuid("request_id", request.request_id)
    if not request.HasField("package"):
        read.bad("package", "is required")
        read.refuse_bad()
    draft = packages.draft(read, "package", request.package, package_id)
    read.refuse_bad()
    return Change(CreatePackage(draft), request_id, fingerprint(request))


def set_capacity(request: catalog_pb2.SetCapacityRequest) -> Change[SetCapacity]:
    read = Fields()
    package_id = read.uuid("package_id", request.package_id)
    request_id = read.optional_uuid("request_id", request.request_id)
    ranges = packages.capacity_ranges(read, "ranges", request.ranges)
    read.refuse_bad()
    return Change(SetCapacity(package_id, ranges), request_id, fingerprint(request))


def update_package(request: catalog_pb2.UpdatePackageRequest) -> Change[UpdatePackage]:
    read = Fields()
    request_id = read.optional_uuid("request_id", request.request_id)
    package = request.package
    if request.HasField("package"):
        package_id = read.uuid("package.id", package.id)
    else:
        read.bad("package", "is required")
        package_id = uuid4()
    etag = read.text("package.etag", package.etag, most=MAX_ETAG, required=False)
    changes = packages.changes(read, "package", package, "update_mask", request.update_mask)
    read.refuse_bad()
    command = UpdatePackage(package_id, changes, etag)
    return Change(command, request_id, fingerprint(request))


def reconcile_inventory(
    request: booking_pb2.ReconcileInventoryRequest,
) -> Change[ReconcileInventory]:
    read = Fields()
    package_id = read.uuid("package_id", request.package_id)
    request_id = read.optional_uuid("request_id", request.request_id)
    read.refuse_bad()
    return Change(ReconcileInventory(package_id, request.repair), request_id, fingerprint(request))
