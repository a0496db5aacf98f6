"""Both services on real databases and ports, and what a fork of their lane leaves behind."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from itertools import count
from uuid import NAMESPACE_OID, uuid5

import asyncpg

from booking_service.delivery import fork
from booking_service.delivery.fork import Lane
from booking_service.storage.database import Database
from protos.metrics.v1 import alert_pb2, health_pb2, metrics_pb2
from protos.tracking.v1.event_pb2 import BookingFact, Event, EventList
from servicekit import binaries
from servicekit.postgres import PostgresServer
from tests.booking.running_service import NOON, RunningService
from tests.booking.running_service import running as running_booking
from tests.metrics.running_service import BOUND_S, Service
from tests.metrics.running_service import running as running_metrics

_copies = count()


async def commit(dsn: str, *names: str) -> None:
    """Commit one fact for each name, as bookings do; the same name is the same fact."""
    connection = await asyncpg.connect(dsn)
    try:
        for name in names:
            event = Event(event_id=uuid5(NAMESPACE_OID, name).bytes)
            event.time_us = int(NOON.timestamp()) * 1_000_000
            event.booking.CopyFrom(
                BookingFact(transition=BookingFact.STARTED, booking_id=name, version=1)
            )
            row = EventList(events=[event]).SerializeToString()
            await connection.execute("INSERT INTO outbox (count, events) VALUES (1, $1)", row)
    finally:
        await connection.close()


async def execute(dsn: str, statement: str) -> None:
    connection = await asyncpg.connect(dsn)
    try:
        await connection.execute(statement)
    finally:
        await connection.close()


def fired(metrics: Service) -> set[str]:
    """The rules whose alerts fire."""
    return {
        alert.rule
        for alert in metrics.server.alerts.present
        if alert.state == alert_pb2.ALERT_STATE_FIRING
    }


async def lane(dsn: str, condition: Callable[[Lane], object] = lambda _: True) -> Lane:
    """The lane once the condition is true of it."""
    async with asyncio.timeout(BOUND_S):
        while True:
            found = await fork.show(Database(dsn))
            if condition(found):
                return found
            await asyncio.sleep(0.02)


async def delivered(dsn: str) -> Lane:
    return await lane(dsn, lambda found: found.fork is None and found.pending == 0)


async def send(dsn: str, *segments: str) -> Lane:
    """Commit facts, named between spaces, and wait until each segment of them is stored."""
    for names in segments:
        await commit(dsn, *names.split())
        await delivered(dsn)
    return await delivered(dsn)


async def forked(dsn: str, text: str = "") -> Lane:
    return await lane(dsn, lambda found: found.fork is not None and text in found.fork.reason)


async def quality(metrics: Service) -> metrics_pb2.QualityMetrics:
    """What GetMetrics says once everything that is stored is folded."""
    engine, log = metrics.server.engine, metrics.server.event_log
    async with asyncio.timeout(BOUND_S):
        while engine.position < log.last_position:  # noqa: ASYNC110 - any position
            await asyncio.sleep(0.01)
    return (await metrics.metrics.GetMetrics(metrics_pb2.GetMetricsRequest())).quality


async def criteria(metrics: Service, wanted: str, *gone: str) -> health_pb2.DatabaseHealth:
    """The verdict once it has this reason, or none of these, by default of a fork, for ""."""
    unwanted = set(gone or ("forked", "fenced"))
    async with asyncio.timeout(BOUND_S):
        while True:
            health = await metrics.health.GetDatabaseHealth(health_pb2.GetDatabaseHealthRequest())
            found = {reason.criterion for reason in health.reasons}
            if wanted in found or (not wanted and not found & unwanted):
                return health
            await asyncio.sleep(0.02)


class LanePair:
    """Starts either service on any database, its own by default; metrics_service always at the same
    port.
    """

    def __init__(self, postgres: PostgresServer, booking_dsn: str, metrics_dsn: str) -> None:
        self.booking_dsn = booking_dsn
        self.metrics_dsn = metrics_dsn
        self._postgres = postgres
        self._port = binaries.free_port()
        self._made: list[str] = []

    def copy(self, dsn: str) -> str:
        """A backup of a database that nobody is connected to."""
        return self._create(dsn.rsplit("/", 1)[1].split("?")[0])

    def create(self, template: str) -> str:
        return self._create(template)

    def close(self) -> None:
        for name in self._made:
            self._postgres.drop_database(name)

    async def backup_of_metrics(self, before: str, *after: str) -> str:
        """A backup of the metrics between two sends of booking_service, which runs."""
        async with self.metrics():
            await send(self.booking_dsn, before)
        backup = self.copy(self.metrics_dsn)
        async with self.metrics():
            await send(self.booking_dsn, *after)
        return backup

    @asynccontextmanager
    async def metrics(self, dsn: str = "") -> AsyncIterator[Service]:
        options = {"METRICS_PORT": str(self._port), "METRICS_HEARTBEAT_MS": "100"}
        async with running_metrics(dsn or self.metrics_dsn, **options) as service:
            yield service

    @asynccontextmanager
    async def booking(self, dsn: str = "", **settings: str) -> AsyncIterator[RunningService]:
        options = {"BOOKING_METRICS_TARGET": f"127.0.0.1:{self._port}", **settings}
        async with running_booking(dsn or self.booking_dsn, **options) as service:
            yield service

    def _create(self, template: str) -> str:
        name = f"lane_copy_{next(_copies)}"
        dsn = self._postgres.create_database(name, template=template)
        self._made.append(name)
        return dsn
