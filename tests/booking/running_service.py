"""What the tests of the booking RPCs share: a running service on a free port, and its stubs."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any, TypeVar
from uuid import uuid4

import grpc
from google.protobuf.message import Message
from google.rpc import error_details_pb2
from google.type.date_pb2 import Date
from google.type.money_pb2 import Money
from grpc_status.rpc_status import from_call

from booking_service.config import BookingSettings
from booking_service.server import BookingServer
from booking_service.storage.clock import SetClock
from protos.booking.v1 import (
    booking_pb2,
    booking_pb2_grpc,
    catalog_pb2,
    catalog_pb2_grpc,
    payment_pb2_grpc,
    profile_pb2_grpc,
    review_pb2_grpc,
)

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
FIRST_DAY = date(2026, 6, 1)

D = TypeVar("D", bound=Message)


@dataclass
class RunningService:
    """A running service; its clock is at NOON until a test sets it."""

    server: BookingServer
    clock: SetClock
    port: int
    channel: grpc.aio.Channel
    catalog: catalog_pb2_grpc.CatalogServiceAsyncStub
    booking: booking_pb2_grpc.BookingServiceAsyncStub
    payment: payment_pb2_grpc.PaymentServiceAsyncStub
    review: review_pb2_grpc.ReviewServiceAsyncStub
    profile: profile_pb2_grpc.ProfileServiceAsyncStub

    async def vendor(self) -> catalog_pb2.Vendor:
        return await self.catalog.CreateVendor(
            catalog_pb2.CreateVendorRequest(vendor=catalog_pb2.Vendor(name="Costa Tours"))
        )

    async def package(self, *, capacity: int = 10, days: int = 10, **fields: Any) -> Any:
        """A package of a new vendor, with capacity on `days` days from FIRST_DAY."""
        vendor = await self.vendor()
        package = await self.catalog.CreatePackage(
            catalog_pb2.CreatePackageRequest(package=package_of(vendor.id, **fields))
        )
        end = FIRST_DAY + timedelta(days=days)
        await self.catalog.SetCapacity(
            catalog_pb2.SetCapacityRequest(
                package_id=package.id,
                ranges=[
                    catalog_pb2.CapacityRange(
                        start_date=day(FIRST_DAY), end_date=day(end), capacity=capacity
                    )
                ],
            )
        )
        return package

    async def held(self, package_id: str, **fields: Any) -> booking_pb2.Booking:
        return await self.booking.StartBooking(start_of(package_id, **fields))

    async def completed(self, package_id: str, **fields: Any) -> booking_pb2.Booking:
        held = await self.held(package_id, **fields)
        return await self.booking.CompleteBooking(
            booking_pb2.CompleteBookingRequest(booking_id=held.id)
        )

    async def confirmed(self, package_id: str, **fields: Any) -> booking_pb2.Booking:
        pending = await self.completed(package_id, **fields)
        return await self.booking.ConfirmBooking(confirm_of(pending))


@asynccontextmanager
async def running(dsn: str, **environ: str) -> AsyncIterator[RunningService]:
    """A service over a database, started as the process starts it; `environ` are its settings."""
    settings = BookingSettings.load(
        {
            "BOOKING_DATABASE_URL": dsn,
            "BOOKING_PORT": "0",
            "BOOKING_METRICS_TARGET": "",
            "BOOKING_TRUST_CALLER_HEADER": "true",
            # A pause of the machine is no reason to refuse anything.
            "BOOKING_QUEUE_WAIT_MAX_MS": "60000",
            **environ,
        }
    )
    clock = SetClock(NOON)
    server = BookingServer(settings, clock=clock)
    port = await server.start()
    try:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            yield RunningService(
                server,
                clock,
                port,
                channel,
                catalog_pb2_grpc.CatalogServiceStub(channel),
                booking_pb2_grpc.BookingServiceStub(channel),
                payment_pb2_grpc.PaymentServiceStub(channel),
                review_pb2_grpc.ReviewServiceStub(channel),
                profile_pb2_grpc.ProfileServiceStub(channel),
            )
    finally:
        await server.stop()


def day(value: date) -> Date:
    return Date(year=value.year, month=value.month, day=value.day)


def after(days: int) -> Date:
    """The day `days` after FIRST_DAY."""
    return day(FIRST_DAY + timedelta(days=days))


def euro(cents: int) -> Money:
    units, rest = divmod(cents, 100)
    return Money(currency_code="EUR", units=units, nanos=rest * 10_000_000)


def package_of(vendor_id: str, **fields: Any) -> catalog_pb2.Package:
    """A valid package; `fields` replace some of it."""
    good: dict[str, Any] = {
        "vendor_id": vendor_id,
        "title": "Room with a view",
        "type": "hotel_room",
        "location": "Lisbon",
        "time_zone": "Europe/Lisbon",
        "base_price": euro(8050),
    }
    return catalog_pb2.Package(**(good | fields))


def start_of(package_id: str, **fields: Any) -> booking_pb2.StartBookingRequest:
    """A valid request: one unit, two days from FIRST_DAY."""
    good: dict[str, Any] = {
        "package_id": package_id,
        "user_id": "ana",
        "start_date": after(0),
        "end_date": after(2),
    }
    return booking_pb2.StartBookingRequest(**(good | fields))


def confirm_of(booking: booking_pb2.Booking, **fields: Any) -> booking_pb2.ConfirmBookingRequest:
    """The payment of a booking's price, with a new payment id."""
    good: dict[str, Any] = {
        "booking_id": booking.id,
        "provider": "stripe",
        "payment_id": f"pay-{uuid4()}",
        "amount": booking.price,
    }
    return booking_pb2.ConfirmBookingRequest(**(good | fields))


async def refusal_of(call: Awaitable[object]) -> Refusal:
    """How an RPC was refused; fails when it was not."""
    try:
        answer = await call
    except grpc.aio.AioRpcError as error:
        return Refusal(error)
    raise AssertionError(f"was not refused but answered: {answer}")


class Refusal:
    """A rich status, as a client reads it."""

    def __init__(self, error: grpc.aio.AioRpcError) -> None:
        self.code = error.code()
        self.message = error.details() or ""
        # Its signature is of the blocking calls; an AioRpcError has what it reads.
        self._status = from_call(error)  # type: ignore[arg-type]

    @property
    def reason(self) -> str:
        info = self.detail(error_details_pb2.ErrorInfo)
        return str(info.reason)

    @property
    def metadata(self) -> dict[str, str]:
        return dict(self.detail(error_details_pb2.ErrorInfo).metadata)

    @property
    def fields(self) -> set[str]:
        """The fields that a BadRequest names."""
        violations = self.detail(error_details_pb2.BadRequest).field_violations
        assert all(each.description for each in violations)
        return {each.field for each in violations}

    @property
    def resource(self) -> tuple[str, str]:
        info = self.detail(error_details_pb2.ResourceInfo)
        return info.resource_type, info.resource_name

    @property
    def precondition(self) -> Any:
        """The one violation of a PreconditionFailure."""
        (violation,) = self.detail(error_details_pb2.PreconditionFailure).violations
        return violation

    def detail(self, kind: Callable[[], D]) -> D:
        """The detail of a type; fails when the status has none."""
        found = kind()
        assert self._status is not None, f"{self.code}: {self.message}"
        for packed in self._status.details:
            if packed.Unpack(found):
                return found
        raise AssertionError(f"no {found.DESCRIPTOR.name} in {self._status}")
