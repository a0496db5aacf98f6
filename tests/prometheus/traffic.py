"""Books on a running pair, so that every metric of the business has figures."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from typing import Any
from uuid import uuid4

import grpc
import pytest
from google.type.date_pb2 import Date
from google.type.money_pb2 import Money

from protos.booking.v1 import (
    booking_pb2,
    booking_pb2_grpc,
    catalog_pb2,
    catalog_pb2_grpc,
)
from protos.metrics.v1 import deployment_pb2, deployment_pb2_grpc
from tests.pair.real_pair import Pair

TIMEOUT_S = 10.0
UNITS = 20
PRICE = Money(currency_code="EUR", units=80, nanos=500_000_000)


class Traffic:
    """One package, and those who book it."""

    def __init__(self, pair: Pair) -> None:
        self._booking = grpc.insecure_channel(pair.booking)
        self._metrics = grpc.insecure_channel(pair.metrics)
        # Their types are of grpc.aio.
        self.catalog: Any = catalog_pb2_grpc.CatalogServiceStub(self._booking)
        self.bookings: Any = booking_pb2_grpc.BookingServiceStub(self._booking)
        self._deployments: Any = deployment_pb2_grpc.DeploymentServiceStub(self._metrics)
        self._day, self._after = (
            _day(datetime.now(UTC).date() + timedelta(days=each)) for each in (30, 31)
        )
        self._package_id = self._make_package()

    def close(self) -> None:
        self._booking.close()
        self._metrics.close()

    def run(self, confirmed: int) -> None:
        """Confirms so many bookings, and has each other end and each kind of refusal once."""
        for _ in range(confirmed):
            self._confirm(self._complete(self._start()))
        self.bookings.CancelBooking(
            booking_pb2.CancelBookingRequest(
                booking_id=self._confirm(self._complete(self._start())).id
            ),
            timeout=TIMEOUT_S,
        )
        self.bookings.AbandonBooking(
            booking_pb2.AbandonBookingRequest(booking_id=self._start().id), timeout=TIMEOUT_S
        )
        pending = self._complete(self._start())
        # One that counts as an error, and one that does not.
        self._refused(lambda: self._confirm(pending, Money(currency_code="EUR", units=1)))
        self._refused(lambda: self._start(units=UNITS + 1))

    def view(self, traceparent: str) -> None:
        """Views the package, as a part of a caller's trace."""
        self._get_package(("traceparent", traceparent))

    def deploy(self, version: str) -> None:
        """Marks a deployment."""
        request = deployment_pb2.MarkDeploymentRequest(version=version)
        self._deployments.MarkDeployment(request, timeout=TIMEOUT_S)

    def _make_package(self) -> str:
        vendor = self.catalog.CreateVendor(
            catalog_pb2.CreateVendorRequest(vendor=catalog_pb2.Vendor(name="Costa Tours")),
            timeout=TIMEOUT_S,
        )
        package = self.catalog.CreatePackage(
            catalog_pb2.CreatePackageRequest(
                package=catalog_pb2.Package(
                    vendor_id=vendor.id,
                    title='Room "with" <b>a view</b>\\n',
                    type="hotel_room",
                    location="Lisbon",
                    time_zone="Europe/Lisbon",
                    base_price=PRICE,
                )
            ),
            timeout=TIMEOUT_S,
        )
        self.catalog.SetCapacity(
            catalog_pb2.SetCapacityRequest(
                package_id=package.id,
                ranges=[
                    catalog_pb2.CapacityRange(
                        start_date=self._day, end_date=self._after, capacity=UNITS
                    )
                ],
            ),
            timeout=TIMEOUT_S,
        )
        return str(package.id)

    def _get_package(self, *metadata: tuple[str, str]) -> None:
        request = catalog_pb2.GetPackageRequest(package_id=self._package_id)
        self.catalog.GetPackage(request, metadata=metadata, timeout=TIMEOUT_S)

    def _start(self, units: int = 1) -> Any:
        """Views the package and holds it, in a session of its own."""
        session = ("x-session-id", str(uuid4()))
        self._get_package(session)
        request = booking_pb2.StartBookingRequest(
            package_id=self._package_id,
            user_id="ana",
            start_date=self._day,
            quantity=units,
        )
        return self.bookings.StartBooking(request, metadata=[session], timeout=TIMEOUT_S)

    def _complete(self, held: Any) -> Any:
        request = booking_pb2.CompleteBookingRequest(booking_id=held.id)
        return self.bookings.CompleteBooking(request, timeout=TIMEOUT_S)

    def _confirm(self, pending: Any, amount: Money | None = None) -> Any:
        request = booking_pb2.ConfirmBookingRequest(
            booking_id=pending.id,
            provider="stripe",
            payment_id=f"pay-{uuid4()}",
            amount=amount or pending.price,
        )
        return self.bookings.ConfirmBooking(request, timeout=TIMEOUT_S)

    def _refused(self, call: Callable[[], object]) -> None:
        with pytest.raises(grpc.RpcError, match="FAILED_PRECONDITION"):
            call()


def _day(of: date) -> Date:
    return Date(year=of.year, month=of.month, day=of.day)
