"""A whole metrics_service inside the test's loop, on real PostgreSQL and real ports, and a producer
that sends facts and signals to it over the real stream.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Any, Final

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from metrics_service.client.stream.client import StreamClient
from metrics_service.client.stream.source import ForkError, LaneDrained, OutBatch
from metrics_service.config import MetricsSettings
from metrics_service.server import MetricsServer
from protos.metrics.v1 import health_pb2_grpc as database_pb2_grpc
from protos.metrics.v1 import metrics_pb2_grpc
from protos.tracking.v1 import tracking_pb2
from protos.tracking.v1.event_pb2 import BookingFact, Event, EventList, PaymentFact
from protos.tracking.v1.tracking_pb2 import Probe, Signals

BOUND_S: Final = 20.0
START_US: Final = 1_800_000_000_000_000
MINUTE_US: Final = 60_000_000


class Service:
    """A running service and stubs to it."""

    def __init__(self, server: MetricsServer, port: int, http_port: int) -> None:
        self.server = server
        self.port = port
        self.http_port = http_port
        self.target = f"127.0.0.1:{port}"
        self.channel = grpc.aio.insecure_channel(
            self.target, options=[("grpc.use_local_subchannel_pool", 1)]
        )
        self.metrics = metrics_pb2_grpc.MetricsServiceStub(self.channel)
        self.health = database_pb2_grpc.HealthServiceStub(self.channel)
        # The stubs package does not know its methods.
        self._serving: Any = health_pb2_grpc.HealthStub(self.channel)

    async def serving(self, name: str) -> bool:
        """Whether grpc.health.v1 reports a service as serving."""
        answer = await self._serving.Check(health_pb2.HealthCheckRequest(service=name))
        return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)


@contextlib.asynccontextmanager
async def running(dsn: str, **variables: str) -> AsyncIterator[Service]:
    """A service on the database at dsn, without dwell unless a variable sets it."""
    environ = {
        "METRICS_DATABASE_URL": dsn,
        "METRICS_PORT": "0",
        "METRICS_HTTP_PORT": "0",
        "METRICS_HEALTH_DOWN_AFTER_S": "0",
        "METRICS_HEALTH_UP_AFTER_S": "0",
        "METRICS_HEALTH_GAP_S": "0",
        "METRICS_DRAIN_TIMEOUT_S": "1",
        **variables,
    }
    server = MetricsServer(MetricsSettings.load(environ))
    try:
        service = Service(server, *await server.start())
        try:
            yield service
        finally:
            await service.channel.close()
    finally:
        await server.stop()


class Facts:
    """A LaneSource of the batches that a test gives it."""

    producer_id = "relay-of-the-test"
    epoch = 1
    succeeds: tuple[str, ...] = ()

    def __init__(self, lane: tracking_pb2.Lane.ValueType = tracking_pb2.LANE_FACTS) -> None:
        self.lane = lane
        self.acknowledged = 0
        self._batches: list[OutBatch] = []
        self._sent = 0
        self._more = asyncio.Event()
        self._draining = False

    def add(self, events: list[Event]) -> None:
        """One more batch."""
        payload = EventList(events=events).SerializeToString()
        self._batches.append(OutBatch(len(self._batches) + 1, len(events), payload))
        self._more.set()

    async def open(
        self, resume_after: int, batch_hash: bytes, *, sink_id: str = "", events: int | None = None
    ) -> None:
        """Go on after what the server has."""
        self._sent = resume_after

    async def next(self) -> OutBatch:
        """The next batch."""
        while self._sent >= len(self._batches):
            if self._draining:
                raise LaneDrained
            self._more.clear()
            await self._more.wait()
        self._sent += 1
        return self._batches[self._sent - 1]

    async def acked(self, seq: int) -> None:
        """Stored up to seq."""
        self.acknowledged = seq

    async def fenced(self, epoch: int, sink_id: str) -> bool:
        """The end."""
        return False

    async def forked(self, fork: ForkError) -> None:
        """Nothing."""

    def drain(self) -> None:
        """No further batch comes."""
        self._draining = True
        self._more.set()


class Producer:
    """A booking_service as metrics_service sees it."""

    def __init__(self, service: Service, instance: str = "booking-1") -> None:
        self.facts = Facts()
        self.signals = Signals(probe=Probe(result=Probe.REACHABLE, latency_us=900))
        self.stream = StreamClient(
            service.target,
            service="booking_service",
            instance=instance,
            signals=lambda: self.signals,
        )
        self.stream.add_lane(self.facts)
        self._booked = 0

    async def __aenter__(self) -> Producer:
        await self.stream.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stream.stop(BOUND_S)

    def report(self, result: Probe.Result.ValueType) -> None:
        """Report a probe's result now and from now on."""
        self.signals = Signals(probe=Probe(result=result))
        self.stream.beat()

    def book(self, count: int = 1) -> None:
        """One batch with bookings that were started, completed, confirmed and paid for."""
        events: list[Event] = []
        for _ in range(count):
            self._booked += 1
            events += confirmed_booking(self._booked)
        self.facts.add(events)


def confirmed_booking(number: int) -> list[Event]:
    """The facts of one booking of 100.00 EUR, a minute after the one before."""
    start_us = START_US + number * MINUTE_US
    fact = BookingFact(
        booking_id=f"00000000-0000-4000-8000-{number:012}",
        package_id="00000000-0000-4000-8000-00000000aaaa",
        vendor_id="00000000-0000-4000-8000-00000000bbbb",
        package_type="stay",
        user_id=f"user-{number}",
        quantity=1,
        hold_time_us=start_us,
        amount_minor=10_000,
        currency="EUR",
    )
    events = []
    steps = (
        (BookingFact.STARTED, 0),
        (BookingFact.COMPLETED, 120_000_000),
        (BookingFact.CONFIRMED, 180_000_000),
    )
    for version, (transition, after_us) in enumerate(steps, start=1):
        event = Event(
            event_id=number.to_bytes(8, "big") + version.to_bytes(8, "big"),
            time_us=start_us + after_us,
            session_id=f"session-{number}",
            booking=fact,
        )
        event.booking.transition = transition
        event.booking.version = version
        if version >= 2:
            event.booking.complete_time_us = start_us + 120_000_000
        if version >= 3:
            event.booking.confirm_time_us = start_us + 180_000_000
        events.append(event)
    paid = Event(
        event_id=number.to_bytes(8, "big") + b"captured",
        time_us=start_us + 180_000_000,
        session_id=f"session-{number}",
        payment=PaymentFact(
            kind=PaymentFact.CAPTURED,
            booking_id=fact.booking_id,
            provider="test",
            payment_id=f"payment-{number}",
            amount_minor=10_000,
            currency="EUR",
            confirm_time_us=start_us + 180_000_000,
            package_id=fact.package_id,
            user_id=fact.user_id,
        ),
    )
    return [*events, paid]


async def until(condition: Callable[[], object], what: str) -> None:
    """Wait until a condition of this process holds."""
    try:
        async with asyncio.timeout(BOUND_S):
            while not condition():  # noqa: ASYNC110 - no event to wait for
                await asyncio.sleep(0.01)
    except TimeoutError:
        raise AssertionError(f"{what} did not come within {BOUND_S} s") from None
