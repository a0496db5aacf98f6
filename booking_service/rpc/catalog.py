"""booking.v1.CatalogService: translates, calls, translates back."""

from typing import Any

import grpc

from booking_service.domain.catalog import Package, Vendor
from booking_service.errors import all_found, found
from booking_service.mapping import answers, catalog, reads
from booking_service.queries import PackageQueries
from booking_service.rpc.changes import Changes
from booking_service.telemetry import Telemetry
from protos.booking.v1 import catalog_pb2, catalog_pb2_grpc

Context = grpc.aio.ServicerContext[Any, Any]


class CatalogService(catalog_pb2_grpc.CatalogServiceServicer):
    """Vendors, packages and their capacity."""

    def __init__(self, changes: Changes, packages: PackageQueries, telemetry: Telemetry) -> None:
        self._changes = changes
        self._packages = packages
        self._telemetry = telemetry

    async def CreateVendor(
        self, request: catalog_pb2.CreateVendorRequest, context: Context
    ) -> catalog_pb2.Vendor:
        change = catalog.create_vendor(request)
        return answers.vendor(await self._changes.carry_out(change, Vendor))

    async def CreatePackage(
        self, request: catalog_pb2.CreatePackageRequest, context: Context
    ) -> catalog_pb2.Package:
        change = catalog.create_package(request)
        return answers.package(await self._changes.carry_out(change, Package))

    async def SetCapacity(
        self, request: catalog_pb2.SetCapacityRequest, context: Context
    ) -> catalog_pb2.SetCapacityResponse:
        change = catalog.set_capacity(request)
        return answers.capacity_set(await self._changes.carry_out(change, int))

    async def GetPackage(
        self, request: catalog_pb2.GetPackageRequest, context: Context
    ) -> catalog_pb2.Package:
        package_id = reads.get_package(request)
        package = found(await self._packages.get_details(package_id), "package", package_id)
        self._telemetry.viewed(package)
        return answers.package(package)

    async def SearchPackages(
        self, request: catalog_pb2.SearchPackagesRequest, context: Context
    ) -> catalog_pb2.SearchPackagesResponse:
        search = reads.search_packages(request)
        page = await self._packages.search(
            search.wanted, search.order, after=search.after, limit=search.limit
        )
        return answers.packages(request, page)

    async def CheckAvailability(
        self, request: catalog_pb2.CheckAvailabilityRequest, context: Context
    ) -> catalog_pb2.CheckAvailabilityResponse:
        stay = reads.check_availability(request)
        seats = await self._packages.check_availability(
            stay.package_id, stay.start_date, stay.end_date
        )
        return answers.availability(stay, found(seats, "package", stay.package_id))

    async def BatchGetPackages(
        self, request: catalog_pb2.BatchGetPackagesRequest, context: Context
    ) -> catalog_pb2.BatchGetPackagesResponse:
        package_ids = reads.batch_get_packages(request)
        known = await self._packages.get_many(package_ids)
        return answers.package_batch(all_found(known, "package", package_ids))

    async def UpdatePackage(
        self, request: catalog_pb2.UpdatePackageRequest, context: Context
    ) -> catalog_pb2.Package:
        change = catalog.update_package(request)
        return answers.package(await self._changes.carry_out(change, Package))

    async def ListVendorPackages(
        self, request: catalog_pb2.ListVendorPackagesRequest, context: Context
    ) -> catalog_pb2.ListVendorPackagesResponse:
        listed = reads.list_vendor_packages(request)
        page = await self._packages.list_by_vendor(
            listed.vendor_id, listed.statuses, after=listed.after, limit=listed.limit
        )
        return answers.vendor_packages(request, page)
