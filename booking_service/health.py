"""What this process knows of its own database, told twice: to grpc.health.v1 here, and with every
heartbeat to metrics_service. It needs neither to be there.

An RPC service stops serving when the probe fails or the schema is missing, never for a percentile;
"database" carries the verdict on the last five minutes.
"""

import time
from collections.abc import Callable
from typing import Final

import structlog

from booking_service.database import Database
from booking_service.outbox import OutboxRelay
from booking_service.probe import DatabaseProbe, ProbeResult
from booking_service.telemetry import SERVICES
from metrics_service.client.emitter import Emitter
from metrics_service.client.health import Criteria, HealthWindow, Status, VerdictKeeper, judge
from protos.tracking.v1 import tracking_pb2
from servicekit.health import Health

DATABASE: Final = "database"
"""The name that grpc.health.v1 answers the verdict under."""

_GOOD: Final = (Status.HEALTHY, Status.DEGRADED)

log = structlog.get_logger(__name__)


class OwnHealth:
    """Judges at each result of the probe; `signals` is for heartbeats."""

    def __init__(
        self,
        health: Health,
        window: HealthWindow,
        emitter: Emitter,
        criteria: Criteria,
        *,
        monotonic_ns: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        self._health = health
        self._window = window
        self._emitter = emitter
        self._criteria = criteria
        self._monotonic_ns = monotonic_ns
        self._keeper = VerdictKeeper(criteria, monotonic_ns=monotonic_ns)
        self._health.set(DATABASE, False)

    def on_probe(self, result: ProbeResult) -> bool:
        """The database was looked at. Answers whether there is news that should not wait."""
        self._emitter.set_clock_offset_us(result.clock_offset_us)
        for service in SERVICES:
            self._health.set(service.full_name, result.ok)
        probe = result.to_proto(self._monotonic_ns())
        news = self._keeper.update(judge(self._window.figures(), probe, self._criteria))
        if news:
            reasons = [reason.message for reason in self._keeper.reasons]
            log.info("database health", status=self._keeper.status.name, reasons=reasons)
        self._health.set(DATABASE, self._keeper.status in _GOOD)
        return news

    def signals(
        self, probe: DatabaseProbe, database: Database, relay: OutboxRelay
    ) -> tracking_pb2.Signals:
        """The state of the database at this moment; counts are since the last call."""
        queries, operations = self._window.beat()
        result = probe.result
        return tracking_pb2.Signals(
            probe=result.to_proto(self._monotonic_ns()) if result else None,
            pool=database.pool.gauges(),
            queries=queries,
            operations=operations,
            telemetry_dropped=self._emitter.dropped,
            facts_pending=relay.facts_pending,
        )
