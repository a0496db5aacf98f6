"""booking.v1.CatalogService: translates, calls, translates back."""

from __future__ import annotations

from typing import Any

import grpc

from booking_service.domain.package import Package, Vendor
from booking_service.errors import all_found, found
from booking_service.mapping import catalog_change, catalog_read, catalog_reply
from booking_service.monitoring.telemetry import Telemetry
from booking_service.reads.package_events import PackageEventQueries
from booking_service.reads.packages import PackageQueries
from booking_service.reads.vendors import VendorQueries
from booking_service.rpc.command_gateway import CommandGateway
from protos.booking.v1 import catalog_pb2, catalog_pb2_grpc

Context = grpc.aio.ServicerContext[Any, Any]


class CatalogService(catalog_pb2_grpc.CatalogServiceServicer):
    """Vendors, packages and their capacity."""

    def __init__(
        self,
        gateway: CommandGateway,
        vendors: VendorQueries,
        packages: PackageQueries,
        events: PackageEventQueries,
        telemetry: Telemetry,
    ) -> None:
        self._gateway = gateway
        self._vendors = vendors
        self._packages = packages
        self._events = events
        self._telemetry = telemetry

    async def CreateVendor(
        self, request: catalog_pb2.CreateVendorRequest, context: Context
    ) -> catalog_pb2.Vendor:
        change = catalog_change.create_vendor(request)
        return catalog_reply.vendor(await self._gateway.carry_out(change, Vendor))

    async def UpdateVendor(
        self, request: catalog_pb2.UpdateVendorRequest, context: Context
    ) -> catalog_pb2.Vendor:
        change = catalog_change.update_vendor(request)
        return catalog_reply.vendor(await self._gateway.carry_out(change, Vendor))

    async def GetVendor(
        self, request: catalog_pb2.GetVendorRequest, context: Context
    ) -> catalog_pb2.Vendor:
        vendor_id = catalog_read.get_vendor(request)
        return catalog_reply.vendor(found(await self._vendors.get(vendor_id), "vendor", vendor_id))

    async def ListVendors(
        self, request: catalog_pb2.ListVendorsRequest, context: Context
    ) -> catalog_pb2.ListVendorsResponse:
        listed = catalog_read.list_vendors(request)
        page = await self._vendors.list(after=listed.after, limit=listed.limit)
        return catalog_reply.vendors(request, page)

    async def CreatePackage(
        self, request: catalog_pb2.CreatePackageRequest, context: Context
    ) -> catalog_pb2.Package:
        change = catalog_change.create_package(request)
        return catalog_reply.package(await self._gateway.carry_out(change, Package))

    async def SetCapacity(
        self, request: catalog_pb2.SetCapacityRequest, context: Context
    ) -> catalog_pb2.SetCapacityResponse:
        change = catalog_change.set_capacity(request)
        return catalog_reply.capacity_set(await self._gateway.carry_out(change, int))

    async def GetPackage(
        self, request: catalog_pb2.GetPackageRequest, context: Context
    ) -> catalog_pb2.Package:
        package_id = catalog_read.get_package(request)
        package = found(await self._packages.get_details(package_id), "package", package_id)
        self._telemetry.viewed(package)
        return catalog_reply.package(package)

    async def SearchPackages(
        self, request: catalog_pb2.SearchPackagesRequest, context: Context
    ) -> catalog_pb2.SearchPackagesResponse:
        search = catalog_read.search_packages(request)
        page = await self._packages.search(
            search.wanted, search.order, after=search.after, limit=search.limit
        )
        return catalog_reply.packages(request, page)

    async def CheckAvailability(
        self, request: catalog_pb2.CheckAvailabilityRequest, context: Context
    ) -> catalog_pb2.CheckAvailabilityResponse:
        stay = catalog_read.check_availability(request)
        seats = await self._packages.check_availability(
            stay.package_id, stay.start_date, stay.end_date, stay.quantity
        )
        return catalog_reply.availability(found(seats, "package", stay.package_id))

    async def BatchGetPackages(
        self, request: catalog_pb2.BatchGetPackagesRequest, context: Context
    ) -> catalog_pb2.BatchGetPackagesResponse:
        package_ids = catalog_read.batch_get_packages(request)
        known = await self._packages.get_many(package_ids)
        return catalog_reply.package_batch(all_found(known, "package", package_ids))

    async def UpdatePackage(
        self, request: catalog_pb2.UpdatePackageRequest, context: Context
    ) -> catalog_pb2.Package:
        change = catalog_change.update_package(request)
        return catalog_reply.package(await self._gateway.carry_out(change, Package))

    async def ListVendorPackages(
        self, request: catalog_pb2.ListVendorPackagesRequest, context: Context
    ) -> catalog_pb2.ListVendorPackagesResponse:
        listed = catalog_read.list_vendor_packages(request)
        page = await self._packages.list_by_vendor(
            listed.vendor_id, listed.statuses, after=listed.after, limit=listed.limit
        )
        return catalog_reply.vendor_packages(request, page)

    async def ListPackageEvents(
        self, request: catalog_pb2.ListPackageEventsRequest, context: Context
    ) -> catalog_pb2.ListPackageEventsResponse:
        listed = catalog_read.list_package_events(request)
        page = found(
            await self._events.list(
                listed.owner, listed.owner_id, after=listed.after, limit=listed.limit
            ),
            listed.owner,
            listed.owner_id,
        )
        return catalog_reply.package_events(request, page)
