"""A caller that books while something else is done to the pair, and what the metrics make of it."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Final

import grpc
from google.protobuf.duration_pb2 import Duration
from google.type.money_pb2 import Money

from protos.booking.v1 import booking_pb2, booking_pb2_grpc, catalog_pb2, catalog_pb2_grpc
from protos.metrics.v1 import metrics_pb2, metrics_pb2_grpc
from tests.allowance import Stopwatch, allowed_s
from tests.attacks.strike import ANSWER_S, Tally
from tests.attacks.town import CAPACITY, in_days

HEALS_S: Final = 30.0


class Trade:
    """Starts bookings at a booking_service. Each of these calls is one that was tried."""

    def __init__(self, target: str, tally: Tally) -> None:
        self._tally = tally
        self._target = target
        self._package = ""
        self._users = 0

    def open(self) -> None:
        """Put a package on sale."""
        with grpc.insecure_channel(self._target) as channel:
            catalog: Any = catalog_pb2_grpc.CatalogServiceStub(channel)
            vendor = catalog.CreateVendor(
                catalog_pb2.CreateVendorRequest(vendor=catalog_pb2.Vendor(name="Costa"))
            )
            package = catalog_pb2.Package(
                vendor_id=vendor.id,
                title="Room",
                type="hotel_room",
                location="Lisbon",
                time_zone="Europe/Lisbon",
                base_price=Money(currency_code="EUR", units=80),
            )
            made = catalog.CreatePackage(catalog_pb2.CreatePackageRequest(package=package))
            days = catalog_pb2.CapacityRange(
                start_date=in_days(0), end_date=in_days(10), capacity=CAPACITY
            )
            catalog.SetCapacity(catalog_pb2.SetCapacityRequest(package_id=made.id, ranges=[days]))
        self._package = made.id

    def book(self, count: int) -> None:
        with grpc.insecure_channel(self._target) as channel:
            bookings: Any = booking_pb2_grpc.BookingServiceStub(channel)
            for _ in range(count):
                self._users += 1
                request = booking_pb2.StartBookingRequest(
                    package_id=self._package,
                    user_id=f"trader {self._users}",
                    start_date=in_days(2),
                    end_date=in_days(3),
                )
                code = "OK"
                try:
                    bookings.StartBooking(request, timeout=ANSWER_S)
                except grpc.RpcError as error:
                    code = str(error.code().name)
                self._tally.check(code == "OK", f"StartBooking answered {code}")


def metrics_of(target: str, window_s: int = 0) -> metrics_pb2.MetricsSnapshot:
    """What GetMetrics answers; empty where it does not."""
    with grpc.insecure_channel(target) as channel:
        stub: Any = metrics_pb2_grpc.MetricsServiceStub(channel)
        window = Duration(seconds=window_s) if window_s else None
        try:
            answer = stub.GetMetrics(metrics_pb2.GetMetricsRequest(window=window), timeout=ANSWER_S)
        except grpc.RpcError:
            return metrics_pb2.MetricsSnapshot()
    assert isinstance(answer, metrics_pb2.MetricsSnapshot)
    return answer


def comes_true(holds: Callable[[], bool], within_s: float = HEALS_S) -> bool:
    """Whether something of other processes becomes true in time."""
    with Stopwatch() as passed:
        while not (true := holds()) and passed.s < allowed_s(within_s):
            time.sleep(0.1)
    return true
