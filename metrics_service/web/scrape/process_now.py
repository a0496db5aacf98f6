"""What this process knows now, beside the figures of the log: health, its log, alerts, readers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Final, Protocol

from metrics_service.alerts.service import Alerts
from metrics_service.health.paging import Page
from metrics_service.health.registry import HealthRegistry
from metrics_service.web.scrape import declarations as declared
from protos.metrics.v1.alert_pb2 import AlertSeverity, AlertState
from protos.metrics.v1.health_pb2 import DatabaseHealth, LogHealth
from protos.tracking.v1 import tracking_pb2
from servicekit.clock import wall_us
from servicekit.exposition.declare import Family, once

CRITERIA: Final = (
    *("probe", "failed", "p99_ms", "p95_ms", "slow", "heartbeat", "undelivered", "forked"),
    *("fenced", "telemetry_fenced", "withheld", "over_budget", "no_leader", "log", "lead_lost"),
)
"""Those that docs/health.md has."""

SUPPRESSED: Final = "suppressed"
"""Of an alert that fires or recovers, and that a silence or another alert keeps from being told."""

STATES: Final = ("pending", "firing", "recovering", SUPPRESSED, "no_data")
"""Of alerts that are not over."""

_TOLD: Final = ("firing", "recovering")

_STATUSES: Final = {
    number: "unknown" if name == "STATUS_UNSPECIFIED" else name.lower()
    for name, number in DatabaseHealth.Status.items()
}
_NO_INSTANCES: Final = Page(size=0)


class Stream(Protocol):
    """What has readers."""

    @property
    def readers(self) -> int: ...


def role(*, active: bool) -> Iterator[Family]:
    """Yield what a standby serves too."""
    yield Family(declared.ROLE, {("active",): int(active), ("standby",): int(not active)})


def verdict(health: HealthRegistry) -> Iterator[Family]:
    """Yield the verdict on the database and the criteria behind it."""
    now = health.verdict(_NO_INSTANCES)
    yield Family(
        declared.HEALTH,
        {(name,): int(number == now.status) for number, name in _STATUSES.items()},
    )
    unmet = {reason.criterion for reason in now.reasons}
    yield Family(
        declared.REASONS,
        {(name,): int(name in unmet) for name in dict.fromkeys((*CRITERIA, *sorted(unmet)))},
    )


def producers(health: HealthRegistry) -> Iterator[Family]:
    """Yield what producers report; of those that are gone, only when they were heard of."""
    heard: dict[tuple[str, ...], float] = {}
    told: dict[tuple[str, ...], tracking_pb2.Signals] = {}
    now_us = wall_us()
    for instance, silent_ns, gone in health.reporting():
        # A name that several services have is that of the watched one, which comes first.
        if (instance.name,) not in heard:
            heard[instance.name,] = round(now_us / 1e6 - silent_ns / 1e9, 3)
            if instance.signals is not None and not gone:
                told[instance.name,] = instance.signals
    yield Family(declared.HEARTBEAT, heard)
    pools = {labels: signals.pool for labels, signals in told.items()}
    yield Family(
        declared.POOL,
        {
            (*labels, state): count
            for labels, pool in pools.items()
            for state, count in (("idle", pool.idle), ("used", max(0, pool.size - pool.idle)))
        },
    )
    yield Family(declared.POOL_MAX, {labels: pool.max for labels, pool in pools.items()})
    yield Family(declared.POOL_WAITING, {labels: pool.waiting for labels, pool in pools.items()})
    probed = {labels: each.probe for labels, each in told.items() if each.HasField("probe")}
    reachable = tracking_pb2.Probe.REACHABLE
    yield Family(
        declared.PROBE_UP,
        {labels: int(each.result == reachable) for labels, each in probed.items()},
    )
    yield Family(
        declared.PROBE_TIME, {labels: each.latency_us / 1e6 for labels, each in probed.items()}
    )
    yield Family(
        declared.PENDING,
        {
            labels: each.facts_pending
            for labels, each in told.items()
            if each.HasField("facts_pending")
        },
    )
    costs = {labels: each.monitor for labels, each in told.items() if each.HasField("monitor")}
    yield Family(
        declared.OVERHEAD, {labels: each.overhead_ns / 1e9 for labels, each in costs.items()}
    )
    yield Family(declared.HELD, {labels: each.bytes_held for labels, each in costs.items()})


def log(health: LogHealth, checkpoint_us: int) -> Iterator[Family]:
    """Yield how the log is; checkpoint_us: the time of its newest checkpoint, or 0."""
    yield once(declared.LAG, health.lag)
    yield once(declared.WRITABLE, int(health.writable))
    if checkpoint_us:
        yield once(declared.CHECKPOINT, checkpoint_us / 1e6)


def alerts(alerts: Alerts) -> Iterator[Family]:
    """Yield the alerts of every rule, and what became of notifications."""
    if alerts.leads:
        states = {
            (rule, severity, state): 0
            for rule, severity in alerts.evaluator.rules
            for state in STATES
        }
        for alert in alerts.present:
            severity = AlertSeverity.Name(alert.severity).removeprefix("ALERT_SEVERITY_").lower()
            state = AlertState.Name(alert.state).removeprefix("ALERT_STATE_").lower()
            if state in _TOLD and (alert.inhibited_by or alerts.silences.holding(alert)):
                state = SUPPRESSED
            states[alert.rule, severity, state] = 1
        yield Family(declared.ALERTS, states)
        yield once(declared.SILENCES, alerts.silences.active)
    if alerts.evaluator.judged_us:
        yield once(declared.EVALUATED, alerts.evaluator.judged_us / 1e6)
    yield Family(declared.NOTIFICATIONS, alerts.targets.counts())


def readers(streams: Mapping[str, Sequence[Stream]]) -> Iterator[Family]:
    """Yield the readers of streams by transport."""
    counts = {(name,): sum(each.readers for each in found) for name, found in streams.items()}
    yield Family(declared.READERS, counts)
