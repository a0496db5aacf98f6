"""What this process knows of its own database, told twice: to grpc.health.v1 here, and with every
heartbeat to metrics_service. It needs neither to be there.

An RPC service stops serving when the probe fails or hangs or the schema is missing, never for a
percentile; "database" carries the verdict on the last five minutes.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Final

import structlog

from booking_service.delivery.relay import OutboxRelay
from booking_service.monitoring.probe import ProbeResult
from booking_service.monitoring.telemetry import SERVICES
from booking_service.storage.database import Database
from metrics_service.client.host import (
    Criteria,
    Emitter,
    HealthWindow,
    QueryInspector,
    Status,
    VerdictHysteresis,
    judge,
    monitor_cost,
)
from protos.tracking.v1 import tracking_pb2
from servicekit.health import Health
from servicekit.pauses import pause_between

DATABASE: Final = "database"
"""The name that grpc.health.v1 answers the verdict under."""

LOOK_S: Final = 1.0
"""How often the age of the probe's newest result is looked at."""

_GOOD: Final = (Status.HEALTHY, Status.DEGRADED)

log = structlog.get_logger(__name__)


class HealthReporter:
    """Judges at each result of the probe, and when none comes; `signals` is for heartbeats."""

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
        self._keeper = VerdictHysteresis(criteria, monotonic_ns=monotonic_ns)
        self._result: ProbeResult | None = None
        self._looked_ns: int | None = None
        # Pauses of this process since the newest result, which are not part of its age.
        self._paused_ns = 0
        self._task: asyncio.Task[None] | None = None
        self._health.set(DATABASE, False)

    def start(self, *, on_news: Callable[[], None]) -> None:
        """Look at the probe's age from now on; on_news is called when that changes the verdict."""
        self._task = asyncio.create_task(self._watch(on_news), name="probe watch")

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None

    def on_probe(self, result: ProbeResult) -> bool:
        """The database was looked at. Answers whether there is news that should not wait."""
        self._emitter.set_clock_offset_us(result.clock_offset_us)
        self._result = result
        now_ns = self._monotonic_ns()
        self._paused_ns = 0
        if self._looked_ns is not None:
            # A pause before this result is not part of its age, even if the next check ends it.
            self._looked_ns = now_ns
        return self._judge(result.to_proto(now_ns))

    @property
    def status(self) -> Status:
        """The verdict as it is shown."""
        return self._keeper.status

    def look(self) -> bool:
        """Judge anew if the probe's newest result is too old; to be called every LOOK_S. Answers
        whether there is news that should not wait.
        """
        now_ns = self._monotonic_ns()
        self._paused_ns += self._pause_ns(now_ns)
        self._looked_ns = now_ns
        probe = self._probed()
        return probe is not None and self._overdue(probe) and self._judge(probe)

    def _judge(self, probe: tracking_pb2.Probe) -> bool:
        answers = probe.result == tracking_pb2.Probe.REACHABLE and not self._overdue(probe)
        for service in SERVICES:
            self._health.set(service.full_name, answers)
        news = self._keeper.update(judge(self._window.figures(), probe, self._criteria))
        if news:
            reasons = [reason.message for reason in self._keeper.reasons]
            log.info("database health", status=self._keeper.status.name, reasons=reasons)
        self._health.set(DATABASE, self._keeper.status in _GOOD)
        return news

    def signals(
        self, database: Database, relay: OutboxRelay, inspector: QueryInspector | None = None
    ) -> tracking_pb2.Signals:
        """The state of the database at this moment; counts are since the last call."""
        queries, operations = self._window.beat()
        return tracking_pb2.Signals(
            probe=self._probed(),
            pool=database.pool.gauges(),
            queries=queries,
            operations=operations,
            telemetry_dropped=self._emitter.dropped,
            facts_pending=relay.facts_pending,
            monitor=monitor_cost(database.tracker, self._emitter, inspector),
        )

    def _probed(self) -> tracking_pb2.Probe | None:
        """The newest result, its age without pauses of this process."""
        if self._result is None:
            return None
        now_ns = self._monotonic_ns()
        return self._result.to_proto(now_ns - self._paused_ns - self._pause_ns(now_ns))

    def _pause_ns(self, now_ns: int) -> int:
        """How long a pause has held up the next check."""
        if self._looked_ns is None:
            return 0
        return pause_between(self._looked_ns + int(LOOK_S * 1e9), now_ns)

    def _overdue(self, probe: tracking_pb2.Probe) -> bool:
        return probe.age_ms > self._criteria.probe_age_max_s * 1000

    async def _watch(self, on_news: Callable[[], None]) -> None:
        while True:
            try:
                if self.look():
                    on_news()
            except Exception:
                # Whoever listens failed; the looking goes on.
                log.exception("probe watch failed")
            await asyncio.sleep(LOOK_S)
