"""Judges database health by its criteria: a pure function of exact counts, never of an estimated
percentile.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

from protos.metrics.v1 import health_pb2
from protos.tracking.v1 import tracking_pb2

MAX_OPERATIONS_IN_REASON: Final = 3


class Status(IntEnum):
    """Has the numbers of metrics.v1.DatabaseHealth.Status."""

    UNKNOWN = 0
    HEALTHY = 1
    DEGRADED = 2
    UNHEALTHY = 3
    STALE = 4

    def to_proto(self) -> health_pb2.DatabaseHealth.Status.ValueType:
        """Convert to the contract's type."""
        return _STATUSES[self]


_STATUSES: Final = {
    Status.UNKNOWN: health_pb2.DatabaseHealth.STATUS_UNSPECIFIED,
    Status.HEALTHY: health_pb2.DatabaseHealth.HEALTHY,
    Status.DEGRADED: health_pb2.DatabaseHealth.DEGRADED,
    Status.UNHEALTHY: health_pb2.DatabaseHealth.UNHEALTHY,
    Status.STALE: health_pb2.DatabaseHealth.STALE,
}


@dataclass(frozen=True, slots=True)
class Criteria:
    """UNHEALTHY: p99 > 2000 ms, or failed > failed_max, or the probe fails. HEALTHY: p95 < 1000 ms
    and p99 < 2000 ms and failed < failed_max and slow <= slow_max. DEGRADED: everything else.

    The limits in milliseconds are fixed, since QueryCounts counts at them. Percentiles are judged
    from min_samples on: below a hundred samples the p99 is the maximum.
    """

    failed_max: int = 10
    slow_max: int = 20
    min_samples: int = 100
    worse_after_s: float = 10.0
    """How long a worse verdict must last before it shows; a hard failure shows at once."""
    better_after_s: float = 30.0
    """How long a better verdict must last before it shows."""
    gap_s: float = 60.0
    """The minimum time between two changes, unless the second is a hard failure."""
    probe_age_max_s: float = 5.0
    """A probe whose newest result is older than this counts as failing."""


@dataclass(frozen=True, slots=True)
class OperationFigures:
    """Counts of one operation over the window."""

    operation: str
    total: int
    failed: int
    slow: int


@dataclass(frozen=True, slots=True)
class Figures:
    """Counts over the window, without cancelled, misuse and internal queries.

    The percentiles are of the execute time, within 1%, None without samples. operations are those
    that were slow or failed, worst first.
    """

    samples: int = 0
    failed: int = 0
    slow: int = 0
    at_least_1000ms: int = 0
    over_1000ms: int = 0
    at_least_2000ms: int = 0
    over_2000ms: int = 0
    p50_ms: float | None = None
    p95_ms: float | None = None
    p99_ms: float | None = None
    operations: tuple[OperationFigures, ...] = ()

    def to_proto(self) -> health_pb2.HealthFigures:
        """Convert to the contract's message."""
        return health_pb2.HealthFigures(
            samples=self.samples,
            failed=self.failed,
            slow=self.slow,
            p50_ms=self.p50_ms,
            p95_ms=self.p95_ms,
            p99_ms=self.p99_ms,
        )


@dataclass(frozen=True, slots=True)
class Reason:
    """One criterion that is not met; operations are the worst contributors first."""

    criterion: str
    value: float
    threshold: float
    samples: int
    operations: tuple[str, ...]
    message: str

    def to_proto(self, instance: str = "") -> health_pb2.HealthReason:
        """Convert to the contract's message."""
        return health_pb2.HealthReason(
            criterion=self.criterion,
            value=self.value,
            threshold=self.threshold,
            samples=self.samples,
            operations=self.operations,
            message=self.message,
            instance=instance,
        )


@dataclass(frozen=True, slots=True)
class Verdict:
    """A judgement; hard means that it must show at once: the probe or too many queries failed."""

    status: Status
    reasons: tuple[Reason, ...] = ()
    hard: bool = False


DEFAULT: Final = Criteria()


def judge(
    figures: Figures, probe: tracking_pb2.Probe | None, criteria: Criteria = DEFAULT
) -> Verdict:
    """Judge these figures now. A probe that is None or has no result is not judged; one whose
    result is too old has failed.
    """
    bad: list[Reason] = []
    poor: list[Reason] = []
    probe_reason = _probe_reason(probe, criteria)
    if probe_reason is not None:
        bad.append(probe_reason)
    samples = figures.samples
    if samples >= criteria.min_samples:
        over_p99 = samples - _ceil_percent(99, samples)
        over_p95 = samples - _ceil_percent(95, samples)
        if figures.over_2000ms > over_p99:
            bad.append(_percentile_reason(figures, "p99_ms", figures.p99_ms, 2000))
        elif figures.at_least_2000ms > over_p99:
            poor.append(_percentile_reason(figures, "p99_ms", figures.p99_ms, 2000))
        if figures.at_least_1000ms > over_p95:
            poor.append(_percentile_reason(figures, "p95_ms", figures.p95_ms, 1000))
    failed = _count_reason(figures, "failed", figures.failed, criteria.failed_max, _failed)
    if figures.failed > criteria.failed_max:
        bad.append(failed)
    elif figures.failed == criteria.failed_max:
        poor.append(failed)
    if figures.slow > criteria.slow_max:
        poor.append(_count_reason(figures, "slow", figures.slow, criteria.slow_max, _slow))
    if bad:
        hard = any(reason.criterion in ("probe", "failed") for reason in bad)
        return Verdict(Status.UNHEALTHY, (*bad, *poor), hard)
    if poor:
        return Verdict(Status.DEGRADED, tuple(poor))
    return Verdict(Status.HEALTHY)


def _ceil_percent(percent: int, count: int) -> int:
    return -(-percent * count // 100)


def _failed(operation: OperationFigures) -> int:
    return operation.failed


def _slow(operation: OperationFigures) -> int:
    return operation.slow


def _worst(figures: Figures, count: Callable[[OperationFigures], int]) -> tuple[str, ...]:
    worst = sorted((o for o in figures.operations if count(o)), key=count, reverse=True)
    return tuple(operation.operation for operation in worst[:MAX_OPERATIONS_IN_REASON])


def _probe_reason(probe: tracking_pb2.Probe | None, criteria: Criteria) -> Reason | None:
    if probe is None or probe.result == tracking_pb2.Probe.RESULT_UNSPECIFIED:
        return None
    age_s = probe.age_ms / 1000
    if probe.result == tracking_pb2.Probe.SCHEMA_MISSING:
        message = "the database answers, but its schema is missing"
    elif probe.result != tracking_pb2.Probe.REACHABLE:
        message = "the database does not answer"
    elif age_s > criteria.probe_age_max_s:
        message = f"the newest result of the probe is {age_s:.1f} s old"
        return Reason("probe", age_s, criteria.probe_age_max_s, 1, (), message)
    else:
        return None
    return Reason("probe", 0, 1, 1, (), message)


def _percentile_reason(
    figures: Figures, criterion: str, estimate: float | None, threshold_ms: int
) -> Reason:
    # The estimate may be up to 1% on the wrong side of the limit; the counts are exact.
    value_ms = max(estimate or 0.0, float(threshold_ms))
    message = (
        f"{criterion.removesuffix('_ms')} is {value_ms:.0f} ms, limit {threshold_ms} ms, "
        f"of {figures.samples} queries"
    )
    return Reason(
        criterion, value_ms, threshold_ms, figures.samples, _worst(figures, _slow), message
    )


def _count_reason(
    figures: Figures,
    criterion: str,
    value: int,
    threshold: int,
    count: Callable[[OperationFigures], int],
) -> Reason:
    message = f"{value} {criterion} of {figures.samples} queries, limit {threshold}"
    return Reason(criterion, value, threshold, figures.samples, _worst(figures, count), message)


def with_budgets(verdict: Verdict, lines: Iterable[str]) -> Verdict:
    """Add the budgets that refuse or drop something, one line each: no better than DEGRADED, shown
    at once.
    """
    reasons = tuple(Reason("over_budget", 1, 0, 1, (), line) for line in lines)
    if not reasons:
        return verdict
    good = verdict.status in (Status.UNKNOWN, Status.HEALTHY)
    status = Status.DEGRADED if good else verdict.status
    return Verdict(status, (*verdict.reasons, *reasons), hard=True)
