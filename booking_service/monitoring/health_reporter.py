"""Reports the state of this process's database: to grpc.health.v1, and in heartbeats.

A service is NOT_SERVING when the probe fails or hangs or the schema is missing, never because of a
percentile; "database" carries the verdict on the last five minutes.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Final

import structlog

from booking_service.delivery.relay import OutboxRelay
from booking_service.delivery.segments import Trouble
from booking_service.monitoring.probe import ProbeResult
from booking_service.monitoring.telemetry import SERVICES
from booking_service.storage.database import Database
from metrics_service.client.host import (
    Criteria,
    Emitter,
    HealthWindow,
    QueryInspector,
    Reason,
    Status,
    Verdict,
    VerdictHysteresis,
    judge,
    monitor_cost,
    with_budgets,
)
from protos.tracking.v1 import tracking_pb2
from servicekit.background import BackgroundTask
from servicekit.health import Health
from servicekit.pauses import pause_between

DATABASE: Final = "database"
"""The service name of grpc.health.v1 that carries the verdict."""

AGE_CHECK_S: Final = 1.0
"""How often the age of the probe's newest result is checked."""

_GOOD: Final = (Status.HEALTHY, Status.DEGRADED)

log = structlog.get_logger(__name__)


def with_lane(verdict: Verdict, trouble: Trouble | None) -> Verdict:
    """Add the trouble of the lane of facts, which shows at once.

    It degrades this service and no more: bookings are taken and their facts kept, so that nobody is
    to be sent away. metrics_service, whose figures stand still, is unhealthy by it.
    """
    if trouble is None:
        return verdict
    reason = Reason(trouble.state, 1, 0, 1, (), trouble.reason)
    status = Status.UNHEALTHY if verdict.status is Status.UNHEALTHY else Status.DEGRADED
    return Verdict(status, (*verdict.reasons, reason), hard=True)


def _lane_signal(relay: OutboxRelay) -> tracking_pb2.LaneSignal:
    trouble = relay.trouble
    if trouble is None:
        return tracking_pb2.LaneSignal(state=tracking_pb2.LaneSignal.OK)
    forked = trouble.state == "forked"
    state = tracking_pb2.LaneSignal.FORKED if forked else tracking_pb2.LaneSignal.FENCED
    return tracking_pb2.LaneSignal(state=state, reason=trouble.reason)


class HealthReporter:
    """Judges the database at each result of the probe, and when results stop coming."""

    def __init__(
        self,
        health: Health,
        window: HealthWindow,
        emitter: Emitter,
        criteria: Criteria,
        *,
        monotonic_ns: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        self.lane_trouble: Callable[[], Trouble | None] = lambda: None
        self.budget_lines: Callable[[], list[str]] = list
        self._health = health
        self._window = window
        self._emitter = emitter
        self._criteria = criteria
        self._monotonic_ns = monotonic_ns
        self._verdict = VerdictHysteresis(criteria, monotonic_ns=monotonic_ns)
        self._result: ProbeResult | None = None
        self._checked_ns: int | None = None
        # Pauses of this process since the newest result, which are not part of its age.
        self._paused_ns = 0
        self._task = BackgroundTask("probe-age")
        self._health.set(DATABASE, False)

    def start(self, *, on_news: Callable[[], None]) -> None:
        """Check the probe's age from now on; call `on_news` when that changes the verdict."""
        self._task.start(self._run(on_news))

    async def stop(self) -> None:
        await self._task.stop()

    def on_probe(self, result: ProbeResult) -> bool:
        """Judge a new result of the probe. Returns whether the verdict changed."""
        self._emitter.set_clock_offset_us(result.clock_offset_us)
        self._result = result
        now_ns = self._monotonic_ns()
        self._paused_ns = 0
        if self._checked_ns is not None:
            # A pause before this result is not part of its age, even if the next check ends it.
            self._checked_ns = now_ns
        return self._judge(result.to_proto(now_ns))

    @property
    def status(self) -> Status:
        """The current verdict."""
        return self._verdict.status

    def check_age(self) -> bool:
        """Judge again if the probe's newest result is too old; to be called every AGE_CHECK_S.

        Returns whether the verdict changed.
        """
        now_ns = self._monotonic_ns()
        self._paused_ns += self._pause_ns(now_ns)
        self._checked_ns = now_ns
        probe = self._probed()
        return probe is not None and self._overdue(probe) and self._judge(probe)

    def signals(
        self, database: Database, relay: OutboxRelay, inspector: QueryInspector | None = None
    ) -> tracking_pb2.Signals:
        """Return the state of the database for a heartbeat; counts are since the last call."""
        queries, operations = self._window.beat()
        return tracking_pb2.Signals(
            probe=self._probed(),
            pool=database.pool.gauges(),
            queries=queries,
            operations=operations,
            telemetry_dropped=self._emitter.dropped,
            telemetry=self._emitter.lane_signal(),
            facts_pending=relay.facts_pending,
            facts_withheld=relay.facts_withheld,
            delivers_facts=True,
            monitor=monitor_cost(database.tracker, self._emitter, inspector),
            lane=_lane_signal(relay) if relay.leading else None,
            over_budget=self.budget_lines(),
        )

    def _judge(self, probe: tracking_pb2.Probe) -> bool:
        answers = probe.result == tracking_pb2.Probe.REACHABLE and not self._overdue(probe)
        for service in SERVICES:
            self._health.set(service.full_name, answers)
        verdict = judge(self._window.figures(), probe, self._criteria)
        verdict = with_budgets(with_lane(verdict, self.lane_trouble()), self.budget_lines())
        changed = self._verdict.update(verdict)
        if changed:
            reasons = [reason.message for reason in self._verdict.reasons]
            log.info("database_health_changed", status=self._verdict.status.name, reasons=reasons)
        self._health.set(DATABASE, self._verdict.status in _GOOD)
        return changed

    def _probed(self) -> tracking_pb2.Probe | None:
        """Return the newest result; its age leaves out pauses of this process."""
        if self._result is None:
            return None
        now_ns = self._monotonic_ns()
        return self._result.to_proto(now_ns - self._paused_ns - self._pause_ns(now_ns))

    def _pause_ns(self, now_ns: int) -> int:
        """Return how long a pause has delayed the next check."""
        if self._checked_ns is None:
            return 0
        return pause_between(self._checked_ns + int(AGE_CHECK_S * 1e9), now_ns)

    def _overdue(self, probe: tracking_pb2.Probe) -> bool:
        return probe.age_ms > self._criteria.probe_age_max_s * 1000

    async def _run(self, on_news: Callable[[], None]) -> None:
        while True:
            try:
                if self.check_age():
                    on_news()
            except Exception:
                # A listener failed; the checks go on.
                log.exception("probe_age_check_failed")
            await asyncio.sleep(AGE_CHECK_S)
