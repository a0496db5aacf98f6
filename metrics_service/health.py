"""Health of the databases behind the instances that report here: signals apply at once, silence is
never taken for health, and what is kept of instances is bounded.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Final

import structlog

from metrics_service.client.health import (
    Criteria,
    Figures,
    HealthWindow,
    Reason,
    Status,
    Verdict,
    VerdictKeeper,
    judge,
)
from metrics_service.client.health.window import WINDOW_S
from metrics_service.signals import countable, monitor_cost
from protos.metrics.v1.health_pb2 import DatabaseHealth, HealthReason, InstanceHealth, LogHealth
from protos.tracking.v1 import tracking_pb2

log = structlog.get_logger()

INSTANCES_MAX: Final = 100
MISSED_BEATS: Final = 3

REPLACED_AFTER_S: Final = 60.0
"""A stale instance is forgotten after this when another one of its service reports."""
FORGOTTEN_AFTER_S: Final = 24 * 3600.0
"""A stale instance is forgotten after this in any case."""

# The worst of several; an unknown one says nothing about the others.
_SEVERITY: Final = (
    Status.UNKNOWN,
    Status.HEALTHY,
    Status.DEGRADED,
    Status.STALE,
    Status.UNHEALTHY,
)
_PROBE: Final = {
    tracking_pb2.Probe.REACHABLE: "reachable",
    tracking_pb2.Probe.UNREACHABLE: "unreachable",
    tracking_pb2.Probe.SCHEMA_MISSING: "schema_missing",
}


@dataclass(slots=True, eq=False)
class _Instance:
    """What is known of one process."""

    name: str
    service: str
    keeper: VerdictKeeper
    window: HealthWindow
    heard_ns: int
    signals: tracking_pb2.Signals | None = None
    figures: Figures = field(default_factory=Figures)


class HealthRegistry:
    """The instances that report here and the verdict on them, each and together.

    heartbeat_s is what producers are told; three missed make an instance stale. log_health gives
    the state of the database that this service itself writes to. `tick` must be called about once
    a second, since time alone changes a verdict.
    """

    def __init__(
        self,
        *,
        heartbeat_s: float,
        log_health: Callable[[], LogHealth],
        criteria: Criteria,
        now_us: Callable[[], int] = lambda: time.time_ns() // 1000,
        monotonic_ns: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        self._stale_after_s = heartbeat_s * MISSED_BEATS
        self._log_health = log_health
        self._criteria = criteria
        self._now_us = now_us
        self._monotonic_ns = monotonic_ns
        self._instances: dict[str, _Instance] = {}
        self._together = self._new_window()
        self._together_keeper = self._new_keeper()
        self._together_figures = Figures()
        # Known from the first: a burst must not show before it has lasted.
        self._judge_together()
        self._log_keeper = self._new_keeper()
        self._listeners: list[Callable[[DatabaseHealth], None]] = []
        self._told: tuple[object, ...] = ()
        self._since_us = now_us()

    def on_change(self, listener: Callable[[DatabaseHealth], None]) -> None:
        """Call listener with the verdict whenever a status or the criteria not met have changed."""
        self._listeners.append(listener)

    def on_hello(self, instance: str, service: str) -> None:
        """A process has connected. Of its database only its next heartbeat tells."""
        if self._entry(instance, service) is not None:
            self._tell()

    def on_heartbeat(self, instance: str, service: str, signals: tracking_pb2.Signals) -> None:
        """Take the state of a process's database at this moment."""
        entry = self._entry(instance, service)
        if entry is None:
            return
        entry.heard_ns = self._monotonic_ns()
        entry.signals = signals
        queries, operations = countable(signals)
        entry.window.add_counts(queries, operations)
        self._together.add_counts(queries, operations)
        self._judge(entry)
        self._judge_together()
        self._tell()

    def on_goodbye(self, instance: str) -> None:
        """A process has ended as it should: it is forgotten."""
        if self._instances.pop(instance, None) is not None:
            self._tell()

    def tick(self) -> None:
        """Judge everything anew: time has passed, or the log has gone or come back."""
        self._forget()
        for entry in self._instances.values():
            self._judge(entry)
        self._judge_together()
        self._tell()

    def verdict(self) -> DatabaseHealth:
        """The verdict now, with every figure behind it."""
        self._tell()
        return self._build()

    # Judging.

    def _judge(self, entry: _Instance) -> None:
        entry.figures = entry.window.figures()
        if self._silent_s(entry) < self._stale_after_s:
            entry.keeper.update(self._assess(entry))

    def _assess(self, entry: _Instance) -> Verdict:
        probe = entry.signals.probe if entry.signals is not None else None
        probed = probe is not None and probe.result in _PROBE
        if not probed and not entry.figures.samples:
            return Verdict(Status.UNKNOWN)
        return judge(entry.figures, probe, self._criteria)

    def _judge_together(self) -> None:
        self._together_figures = self._together.figures()
        self._together_keeper.update(judge(self._together_figures, None, self._criteria))

    def _judge_silence(self) -> None:
        for entry in self._instances.values():
            silent_s = self._silent_s(entry)
            if silent_s >= self._stale_after_s:
                message = f"no heartbeat for {silent_s:.1f} s"
                reason = Reason("heartbeat", silent_s, self._stale_after_s, 1, (), message)
                entry.keeper.update(Verdict(Status.STALE, (reason,)))

    def _judge_log(self) -> None:
        health = self._log_health()
        verdict = Verdict(Status.HEALTHY)
        if not health.writable:
            message = f"the log cannot be written: {health.message}"
            reason = Reason("log", 0, 1, 1, (), message)
            verdict = Verdict(Status.UNHEALTHY, (reason,), hard=True)
        self._log_keeper.update(verdict)

    def _status(self) -> Status:
        """The worst of all; unknown while nothing reports, unless the log itself is down."""
        known = [entry.keeper.status for entry in self._instances.values()]
        if any(status is not Status.UNKNOWN for status in known):
            known.append(self._together_keeper.status)
        if self._log_keeper.status is Status.UNHEALTHY:
            known.append(Status.UNHEALTHY)
        return max(known, key=_SEVERITY.index, default=Status.UNKNOWN)

    def _reasons(self) -> Iterator[HealthReason]:
        """Of the log, of each instance, and what only all together do not meet."""
        for reason in self._log_keeper.reasons:
            yield reason.to_proto()
        blamed = set()
        for entry in self._instances.values():
            for reason in entry.keeper.reasons:
                blamed.add(reason.criterion)
                yield reason.to_proto(entry.name)
        if self._instances:
            for reason in self._together_keeper.reasons:
                if reason.criterion not in blamed:
                    yield reason.to_proto()

    def _tell(self) -> None:
        """Apply what time alone decides, and tell the listeners if anything is different."""
        self._judge_silence()
        self._judge_log()
        status = self._status()
        if not self._told or status is not self._told[0]:
            self._since_us = self._now_us()
        told = (
            status,
            *((each.criterion, each.instance) for each in self._reasons()),
            *((entry.name, entry.keeper.status) for entry in self._instances.values()),
        )
        if told == self._told:
            return
        self._told = told
        health = self._build()
        for listener in self._listeners:
            listener(health)

    # Instances.

    def _entry(self, instance: str, service: str) -> _Instance | None:
        """The instance, new or known; None when there are too many that report."""
        entry = self._instances.get(instance)
        if entry is not None:
            return entry
        if len(self._instances) >= INSTANCES_MAX and not self._evict():
            log.warning("health_instances_full", instance=instance, limit=INSTANCES_MAX)
            return None
        entry = _Instance(
            instance, service, self._new_keeper(), self._new_window(), self._monotonic_ns()
        )
        self._instances[instance] = entry
        return entry

    def _evict(self) -> bool:
        """Forget the instance that has been silent for longest, if it is stale."""
        oldest = min(self._instances.values(), key=lambda entry: entry.heard_ns)
        if self._silent_s(oldest) < self._stale_after_s:
            return False
        del self._instances[oldest.name]
        return True

    def _forget(self) -> None:
        reporting = {
            entry.service
            for entry in self._instances.values()
            if self._silent_s(entry) < self._stale_after_s
        }
        for entry in list(self._instances.values()):
            limit_s = FORGOTTEN_AFTER_S
            if entry.service in reporting:
                limit_s = max(REPLACED_AFTER_S, self._stale_after_s)
            if self._silent_s(entry) >= limit_s:
                del self._instances[entry.name]

    def _silent_s(self, entry: _Instance) -> float:
        return (self._monotonic_ns() - entry.heard_ns) / 1e9

    def _new_window(self) -> HealthWindow:
        return HealthWindow(self._criteria, monotonic_ns=self._monotonic_ns)

    def _new_keeper(self) -> VerdictKeeper:
        return VerdictKeeper(self._criteria, monotonic_ns=self._monotonic_ns, now_us=self._now_us)

    # The answer.

    def _build(self) -> DatabaseHealth:
        health = DatabaseHealth(
            status=self._status().to_proto(),
            reasons=self._reasons(),
            instances=(self._build_instance(entry) for entry in self._instances.values()),
            figures=self._together_figures.to_proto(),
            log=self._log_health(),
        )
        health.since.FromMicroseconds(self._since_us)
        health.check_time.FromMicroseconds(self._now_us())
        health.window.FromSeconds(WINDOW_S)
        return health

    def _build_instance(self, entry: _Instance) -> InstanceHealth:
        answer = InstanceHealth(
            instance=entry.name,
            service=entry.service,
            status=entry.keeper.status.to_proto(),
            reasons=(reason.to_proto(entry.name) for reason in entry.keeper.reasons),
            figures=entry.figures.to_proto(),
        )
        answer.since.FromMicroseconds(entry.keeper.since_us)
        answer.heartbeat_age.FromNanoseconds(self._monotonic_ns() - entry.heard_ns)
        if (signals := entry.signals) is not None:
            answer.probe = _PROBE.get(signals.probe.result, "")
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
