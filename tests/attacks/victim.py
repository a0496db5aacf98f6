"""Another caller of the pair: a process of its own, which calls at a fixed rate whatever the
answers are, and writes a line for each: when it was due, how long it took, its status, what it was,
and how many others wait. With each call of the pair it makes one of the same method at the bare
server.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import sys
import time
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any, Final

import grpc

from protos.booking.v1 import booking_pb2, booking_pb2_grpc, catalog_pb2, catalog_pb2_grpc
from protos.metrics.v1 import health_pb2, health_pb2_grpc, metrics_pb2, metrics_pb2_grpc
from tests.attacks.strike import OWN_CONNECTION
from tests.attacks.town import Town, in_days

CALLS_PER_S: Final = 60
ANSWER_S: Final = 10.0
WRITE_EVERY_S: Final = 0.2
NO_QUEUE: Final = 50
"""Held bookings that wait for their completion; older ones are left to expire."""

# Of each ten calls.
TURNS: Final = "SCSCAHSCAM"
PATHS: Final = {
    "S": "/booking.v1.BookingService/StartBooking",
    "C": "/booking.v1.BookingService/CompleteBooking",
    "A": "/booking.v1.CatalogService/CheckAvailability",
    "H": "/metrics.v1.HealthService/GetDatabaseHealth",
    "M": "/metrics.v1.MetricsService/GetMetrics",
}
BARE: Final = "bare"
"""What a call of the bare server is called."""


class Victim:
    """Starts and completes bookings, looks for free days, and reads health and metrics."""

    def __init__(self, booking: Any, metrics: Any, bare: Any, town: Town) -> None:
        self._town = town
        self._bookings: Any = booking_pb2_grpc.BookingServiceStub(booking)
        self._catalog: Any = catalog_pb2_grpc.CatalogServiceStub(booking)
        self._health: Any = health_pb2_grpc.HealthServiceStub(metrics)
        self._metrics: Any = metrics_pb2_grpc.MetricsServiceStub(metrics)
        self._held: deque[str] = deque(maxlen=NO_QUEUE)
        self._number = itertools.count()
        self._lines: list[str] = []
        self._running: set[asyncio.Task[None]] = set()
        self._bare: dict[str, Any] = {turn: bare.unary_unary(path) for turn, path in PATHS.items()}
        self._calls: dict[str, Callable[[], Awaitable[object]]] = {
            "S": self._start,
            "C": self._complete,
            "A": self._availability,
            "H": lambda: self._health.GetDatabaseHealth(
                health_pb2.GetDatabaseHealthRequest(), timeout=ANSWER_S
            ),
            "M": lambda: self._metrics.GetMetrics(
                metrics_pb2.GetMetricsRequest(), timeout=ANSWER_S
            ),
        }

    async def run(self) -> None:
        """Call until the standard output is closed."""
        due_s = time.monotonic()
        written_s = due_s
        for turn in itertools.cycle(TURNS):
            due_s += 1 / CALLS_PER_S
            await asyncio.sleep(max(0.0, due_s - time.monotonic()))
            self._begin(self._calls[turn](), turn, due_s)
            self._begin(self._bare[turn](b"", timeout=ANSWER_S), BARE, due_s)
            if due_s - written_s >= WRITE_EVERY_S and self._lines:
                written_s = due_s
                print(*self._lines, sep="\n", flush=True)
                self._lines.clear()

    def _begin(self, call: Awaitable[object], kind: str, due_s: float) -> None:
        task = asyncio.create_task(self._one(call, kind, due_s))
        self._running.add(task)
        task.add_done_callback(self._running.discard)

    async def _one(self, call: Awaitable[object], kind: str, due_s: float) -> None:
        said = "OK"
        try:
            await call
        except grpc.aio.AioRpcError as error:
            said = error.code().name
        took_s, waiting = time.monotonic() - due_s, len(self._running)
        self._lines.append(f"{due_s:.4f} {took_s:.5f} {said} {kind} {waiting}")

    async def _start(self) -> None:
        number = next(self._number)
        booking = await self._bookings.StartBooking(
            booking_pb2.StartBookingRequest(
                package_id=self._town.packages[number % len(self._town.packages)],
                user_id=f"victim {number}",
                start_date=in_days(2 + number % 20),
                end_date=in_days(4 + number % 20),
            ),
            timeout=ANSWER_S,
        )
        self._held.append(booking.id)

    async def _complete(self) -> None:
        if not self._held:
            await self._availability()
            return
        await self._bookings.CompleteBooking(
            booking_pb2.CompleteBookingRequest(booking_id=self._held.popleft()), timeout=ANSWER_S
        )

    async def _availability(self) -> None:
        await self._catalog.CheckAvailability(
            catalog_pb2.CheckAvailabilityRequest(
                package_id=self._town.packages[0], start_date=in_days(2), end_date=in_days(9)
            ),
            timeout=ANSWER_S,
        )


async def main(booking: str, metrics: str, bare: str) -> None:
    async with (
        grpc.aio.insecure_channel(booking, options=OWN_CONNECTION) as of_booking,
        grpc.aio.insecure_channel(metrics, options=OWN_CONNECTION) as of_metrics,
        grpc.aio.insecure_channel(bare, options=OWN_CONNECTION) as of_bare,
    ):
        town = await Town.built(of_booking, packages=5, days=40)
        await Victim(of_booking, of_metrics, of_bare, town).run()


if __name__ == "__main__":
    with contextlib.suppress(BrokenPipeError, KeyboardInterrupt):
        asyncio.run(main(*sys.argv[1:]))
