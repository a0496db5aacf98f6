"""One process that reports here, and its form in the contract."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from metrics_service.client.host import (
    Criteria,
    Figures,
    HealthWindow,
    Reason,
    Status,
    Verdict,
    VerdictHysteresis,
    judge,
    with_budgets,
)
from metrics_service.health.signals import monitor_cost, without_sketch
from metrics_service.health.undelivered import Undelivered
from protos.metrics.v1.health_pb2 import InstanceHealth
from protos.tracking.v1 import tracking_pb2

PROBE_RESULTS: Final = {
    tracking_pb2.Probe.REACHABLE: "reachable",
    tracking_pb2.Probe.UNREACHABLE: "unreachable",
    tracking_pb2.Probe.SCHEMA_MISSING: "schema_missing",
}


LANE_CRITERIA: Final = {
    tracking_pb2.LaneSignal.FORKED: "forked",
    tracking_pb2.LaneSignal.FENCED: "fenced",
}


@dataclass(slots=True, eq=False)
class Instance:
    """Times are monotonic: its first appearance, its last heartbeat, and when it closed its stream
    without a Goodbye (None once it reports again). One that is not detailed has exact counts, but
    no percentiles and operations.
    """

    name: str
    service: str
    verdict: VerdictHysteresis
    window: HealthWindow
    undelivered: Undelivered
    began_ns: int
    last_beat_ns: int
    closed_ns: int | None = None
    signals: tracking_pb2.Signals | None = None
    figures: Figures = field(default_factory=Figures)
    detailed: bool = True

    @property
    def key(self) -> tuple[str, str]:
        return self.service, self.name

    def silent_ns(self, now_ns: int) -> int:
        """Return the time since its last heartbeat."""
        return max(0, now_ns - self.last_beat_ns)

    def count(
        self,
        queries: tracking_pb2.QueryCounts,
        operations: list[tracking_pb2.OperationCounts],
    ) -> None:
        """Count the queries of a heartbeat."""
        if self.detailed:
            self.window.add_counts(queries, operations)
        else:
            self.window.add_counts(without_sketch(queries))

    def assess(self, criteria: Criteria) -> Verdict:
        """Judge its newest heartbeat and its window; unknown while it has reported nothing."""
        probe = self.signals.probe if self.signals is not None else None
        probed = probe is not None and probe.result in PROBE_RESULTS
        verdict = Verdict(Status.UNKNOWN)
        if probed or self.figures.samples:
            verdict = judge(self.figures, probe, criteria)
        telemetry = self._telemetry_reason()
        if telemetry is not None:
            status = max(verdict.status, Status.DEGRADED)
            verdict = Verdict(status, (*verdict.reasons, telemetry), verdict.hard)
        own = (self._lane_reason(), self.undelivered.reason, self._withheld_reason())
        if facts := tuple(each for each in own if each):
            verdict = Verdict(Status.UNHEALTHY, (*verdict.reasons, *facts), hard=True)
        if self.signals is not None:
            verdict = with_budgets(verdict, self.signals.over_budget)
        return verdict

    def _withheld_reason(self) -> Reason | None:
        withheld = self.signals.facts_withheld if self.signals is not None else 0
        if not withheld:
            return None
        message = f"{withheld} facts are in the audit trail alone, until a refill sends them"
        return Reason("withheld", withheld, 0, withheld, (), message)

    def _lane_reason(self) -> Reason | None:
        """Return why its lane of facts stands still, until a person mends it."""
        lane = self.signals.lane if self.signals is not None else None
        if lane is None or (criterion := LANE_CRITERIA.get(lane.state)) is None:
            return None
        return Reason(criterion, 1, 0, 1, (), lane.reason or f"the lane of facts is {criterion}")

    def _telemetry_reason(self) -> Reason | None:
        """Return a reason for the minute after its lane of telemetry was taken from it."""
        if self.signals is None or self.signals.telemetry.state != tracking_pb2.LaneSignal.FENCED:
            return None
        message = self.signals.telemetry.reason or "its lane of telemetry was taken from it"
        return Reason("telemetry_fenced", 1, 0, 1, (), message)

    def to_proto(self, now_ns: int, *, watched: bool, gone: bool) -> InstanceHealth:
        answer = InstanceHealth(
            instance=self.name,
            service=self.service,
            status=self.verdict.status.to_proto(),
            reasons=(reason.to_proto(self.name) for reason in self.verdict.reasons),
            figures=self.figures.to_proto(),
            watched=watched,
            gone=gone,
        )
        answer.since.FromMicroseconds(self.verdict.since_us)
        answer.heartbeat_age.FromNanoseconds(self.silent_ns(now_ns))
        if (signals := self.signals) is not None:
            answer.probe = PROBE_RESULTS.get(signals.probe.result, "")
            answer.probe_latency_ms = signals.probe.latency_us / 1000
            answer.pool_size = signals.pool.size
            answer.pool_idle = signals.pool.idle
            answer.pool_max = signals.pool.max
            answer.pool_waiting = signals.pool.waiting
            if signals.HasField("facts_pending"):
                answer.facts_pending = signals.facts_pending
            if signals.HasField("monitor"):
                answer.monitor.CopyFrom(monitor_cost(signals.monitor))
        return answer
