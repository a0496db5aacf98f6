"""Proto to domain: each request that reads the catalogue becomes the arguments of its query.

Bounds are those that the comments of catalog.proto state; every bad field is named at once.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from uuid import UUID

from booking_service.domain.booking import MAX_STAY_DAYS
from booking_service.domain.money import Money
from booking_service.domain.package import PackageStatus
from booking_service.mapping.bounds import MAX_BATCH, MAX_PARTY_SIZE, MAX_QUANTITY
from booking_service.mapping.dates import read_dates
from booking_service.mapping.fields import Fields
from booking_service.mapping.paging import after, size_of
from booking_service.reads.keyset import Key
from booking_service.reads.package_events import Owner
from booking_service.reads.packages import PackageFilter, PackageOrder
from protos.booking.v1 import catalog_pb2


@dataclass(frozen=True, slots=True)
class Stay:
    """`quantity` units of a package on each day of [start_date, end_date)."""

    package_id: UUID
    start_date: date
    end_date: date
    quantity: int


@dataclass(frozen=True, slots=True)
class Search:
    """One page of packages."""

    wanted: PackageFilter
    order: PackageOrder
    after: Key | None
    limit: int


@dataclass(frozen=True, slots=True)
class VendorList:
    """One page of vendors."""

    after: Key | None
    limit: int


@dataclass(frozen=True, slots=True)
class VendorPackages:
    """One page of a vendor's packages; no statuses means all."""

    vendor_id: UUID
    statuses: frozenset[PackageStatus]
    after: Key | None
    limit: int


@dataclass(frozen=True, slots=True)
class ChangeList:
    """One page of the changes of a vendor with its packages, or of a package."""

    owner: Owner
    owner_id: UUID
    after: Key | None
    limit: int


def get_vendor(request: catalog_pb2.GetVendorRequest) -> UUID:
    read = Fields()
    vendor_id = read.uuid("vendor_id", request.vendor_id)
    read.refuse_bad()
    return vendor_id


def list_vendors(request: catalog_pb2.ListVendorsRequest) -> VendorList:
    read = Fields()
    limit = size_of(read, "page_size", request.page_size)
    read.refuse_bad()
    return VendorList(after(request, request.page_token), limit)


def get_package(request: catalog_pb2.GetPackageRequest) -> UUID:
    read = Fields()
    package_id = read.uuid("package_id", request.package_id)
    read.refuse_bad()
    return package_id


def check_availability(request: catalog_pb2.CheckAvailabilityRequest) -> Stay:
    read = Fields()
    package_id = read.uuid("package_id", request.package_id)
    start, end = read_dates(read, request, start_required=True)
    quantity = read.number("quantity", request.quantity, low=1, high=MAX_QUANTITY, zero=1)
    start_date, end_date = read.day_range(
        "end_date", start, end, end_present=request.HasField("end_date"), most=MAX_STAY_DAYS
    )
    read.refuse_bad()
    return Stay(package_id, start_date, end_date, quantity)


def search_packages(request: catalog_pb2.SearchPackagesRequest) -> Search:
    read = Fields()
    dated = request.HasField("start_date")
    start, end = read_dates(read, request, start_required=request.HasField("end_date"))
    first, until = read.day_range(
        "end_date", start, end, end_present=request.HasField("end_date"), most=MAX_STAY_DAYS
    )
    quantity = read.number("quantity", request.quantity, low=1, high=MAX_QUANTITY, zero=1)
    if request.quantity != 0 and not dated:
        read.bad("quantity", "requires start_date")
    party_size = read.number("party_size", request.party_size, low=0, high=MAX_PARTY_SIZE)
    low, high = _prices(read, request)
    priced = low or high
    order = read.choice(
        "order_by", request.order_by, catalog_pb2.SearchPackagesRequest.OrderBy, unset="PRICE_ASC"
    )
    wanted = PackageFilter(
        location=read.text("location", request.location, most=120, required=False) or None,
        type=read.text("type", request.type, most=60, required=False) or None,
        start_date=first if dated else None,
        end_date=until if dated else None,
        quantity=quantity,
        party_size=party_size or None,
        currency=priced.currency if priced else None,
        min_price_minor=low.minor if low else None,
        max_price_minor=high.minor if high else None,
    )
    limit = size_of(read, "page_size", request.page_size)
    read.refuse_bad()
    return Search(wanted, PackageOrder(order), after(request, request.page_token), limit)


def batch_get_packages(request: catalog_pb2.BatchGetPackagesRequest) -> list[UUID]:
    read = Fields()
    package_ids = read.ids("package_ids", request.package_ids, most=MAX_BATCH)
    read.refuse_bad()
    return package_ids


def list_vendor_packages(request: catalog_pb2.ListVendorPackagesRequest) -> VendorPackages:
    read = Fields()
    vendor_id = read.uuid("vendor_id", request.vendor_id)
    names = read.choices("statuses", request.statuses, catalog_pb2.Package.Status)
    statuses = frozenset(PackageStatus(each) for each in names)
    limit = size_of(read, "page_size", request.page_size)
    read.refuse_bad()
    return VendorPackages(vendor_id, statuses, after(request, request.page_token), limit)


def list_package_events(request: catalog_pb2.ListPackageEventsRequest) -> ChangeList:
    read = Fields()
    owner: Owner = "vendor" if request.vendor_id else "package"
    owner_id = read.uuid(f"{owner}_id", request.vendor_id or request.package_id)
    if request.vendor_id and request.package_id:
        read.bad("package_id", "must be empty with a vendor_id")
    limit = size_of(read, "page_size", request.page_size)
    read.refuse_bad()
    return ChangeList(owner, owner_id, after(request, request.page_token), limit)


def _prices(
    read: Fields, request: catalog_pb2.SearchPackagesRequest
) -> tuple[Money | None, Money | None]:
    low = high = None
    if request.HasField("min_price"):
        low = read.money("min_price", request.min_price, present=True)
    if request.HasField("max_price"):
        high = read.money("max_price", request.max_price, present=True)
    if low is None or high is None:
        return low, high
    if request.min_price.currency_code != request.max_price.currency_code:
        read.bad("max_price.currency_code", "must be the currency of min_price")
    elif high.minor < low.minor:
        read.bad("max_price", "must not be below min_price")
    return low, high
