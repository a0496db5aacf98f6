"""Builds the servicers of the booking contract and puts them on a server."""

from __future__ import annotations

from typing import Final

import grpc

from booking_service.group_commit.erasure import Eraser
from booking_service.monitoring.telemetry import Telemetry
from booking_service.reads.bookings import BookingQueries
from booking_service.reads.package_events import PackageEventQueries
from booking_service.reads.packages import PackageQueries
from booking_service.reads.payments import PaymentQueries
from booking_service.reads.profiles import ProfileQueries
from booking_service.reads.refunds import RefundQueries
from booking_service.reads.reports import ReportQueries
from booking_service.reads.reviews import ReviewQueries
from booking_service.reads.vendors import VendorQueries
from booking_service.rpc.booking import BookingService
from booking_service.rpc.catalog import CatalogService
from booking_service.rpc.command_gateway import Bus, CommandGateway
from booking_service.rpc.payment import PaymentService
from booking_service.rpc.profile import ProfileService
from booking_service.rpc.review import ReviewService
from booking_service.storage.database import Database
from protos.booking.v1 import (
    booking_pb2_grpc,
    catalog_pb2_grpc,
    payment_pb2_grpc,
    profile_pb2_grpc,
    review_pb2_grpc,
)

LARGE_MESSAGES: Final[tuple[str, ...]] = ()
"""The RPCs whose messages may have 1 MiB; those of the others have 256 KiB. None needs more: the
largest legal ones are a SetCapacity of 3660 ranges and a batch of 100 quotes with 10 tiers each."""


def add_servicers(
    server: grpc.aio.Server, bus: Bus, database: Database, telemetry: Telemetry
) -> None:
    """Register every service: commands go to the bus, reads to the database."""
    gateway, packages = CommandGateway(bus), PackageQueries(database)
    catalog_pb2_grpc.add_CatalogServiceServicer_to_server(
        CatalogService(
            gateway, VendorQueries(database), packages, PackageEventQueries(database), telemetry
        ),
        server,
    )
    booking_pb2_grpc.add_BookingServiceServicer_to_server(
        BookingService(gateway, BookingQueries(database), packages, ReportQueries(database)),
        server,
    )
    payment_pb2_grpc.add_PaymentServiceServicer_to_server(
        PaymentService(gateway, PaymentQueries(database), RefundQueries(database)), server
    )
    review_pb2_grpc.add_ReviewServiceServicer_to_server(
        ReviewService(gateway, ReviewQueries(database)), server
    )
    profile_pb2_grpc.add_ProfileServiceServicer_to_server(
        ProfileService(gateway, ProfileQueries(database), Eraser(database)), server
    )
