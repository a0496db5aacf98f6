"""What the parts of alerting share: rules, what was measured for them, and what came of it. Alerts
themselves are messages of the contract.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from enum import Enum
from types import MappingProxyType
from typing import Final, Literal, TypeAlias

from protos.metrics.v1 import alert_pb2, metrics_pb2

Severity: TypeAlias = Literal["info", "warning", "critical"]
SEVERITIES: Final[Mapping[str, alert_pb2.AlertSeverity.ValueType]] = MappingProxyType(
    {
        "info": alert_pb2.ALERT_SEVERITY_INFO,
        "warning": alert_pb2.ALERT_SEVERITY_WARNING,
        "critical": alert_pb2.ALERT_SEVERITY_CRITICAL,
    }
)

Labels: TypeAlias = tuple[tuple[str, str], ...]
"""What tells the alerts of one rule apart, as (name, value), by name."""

Change: TypeAlias = Literal[
    "pending",
    "cancelled",
    "fired",
    "recovering",
    "fired_again",
    "resolved",
    "no_data",
    "inhibited",
    "released",
]
"""What happened to an alert. cancelled: it was pending and its condition no longer holds.
fired_again: it was recovering. no_data: an alert of its own, that a rule has nothing to judge.
inhibited and released: an alert of another rule began or ceased to hold back its notifications.
"""


class Verdict(Enum):
    """What a measured value means for a rule."""

    BAD = "bad"
    """The condition holds."""
    GOOD = "good"
    """It does not, and the value is beyond the line that resolves."""
    BETWEEN = "between"
    """It does not, and the value is not good enough to resolve."""
    UNKNOWN = "unknown"
    """There is too little data to judge."""


@dataclass(frozen=True, slots=True)
class Rule:
    """A rule: when an alert of it begins and ends.

    The condition is a value below or above `line`; `resolve` is the value that ends it. `line`,
    `resolve` and `good` have the unit of the metric. Durations are microseconds. min_samples: the
    least denominator of a ratio or count of a mean. none_of: a ratio of 0 with this denominator
    fires without waiting; 0: never. no_data_after_us: how long without data is an alert of its own;
    0: never. max_alerts: how many alerts it has at once, each with its own labels.

    Rules are equal if they judge alike: the fields for people are not compared.
    """

    name: str
    severity: Severity
    metric: str
    comparison: Literal["below", "above"]
    line: float
    resolve: float
    unit: str = "count"
    windows_us: tuple[int, ...] = ()
    min_samples: int = 1
    none_of: int = 0
    for_us: int = 0
    keep_firing_for_us: int = 0
    no_data_after_us: int = 0
    inhibited_by: tuple[str, ...] = ()
    max_alerts: int = 20
    good: tuple[float, float] | None = field(default=None, compare=False)
    title: str = field(default="", compare=False)
    reason: str = field(default="", compare=False)
    action: str = field(default="", compare=False)
    line_number: int = field(default=0, compare=False)

    @property
    def key(self) -> tuple[str, str]:
        """Name and severity, which no two rules of a file share."""
        return self.name, self.severity

    @property
    def digest(self) -> str:
        """16 hex digits, the same for equal rules in every process."""
        judged = [repr(getattr(self, each.name)) for each in fields(self) if each.compare]
        return hashlib.sha256("\0".join(judged).encode()).hexdigest()[:16]


@dataclass(frozen=True, slots=True)
class Sample:
    """What was found for one set of labels of a rule.

    summary: one sentence with value, line and window. urgent: it fires without waiting. threshold:
    the line it was compared with, where that is not the rule's.
    """

    labels: Labels
    verdict: Verdict
    summary: str = ""
    value: float | None = None
    threshold: float | None = None
    ratio: metrics_pb2.Rate | None = None
    window_us: int = 0
    urgent: bool = False


@dataclass(frozen=True, slots=True)
class Measurement:
    """What was found for a rule now; `absent` is the verdict on labels that have no sample."""

    rule: Rule
    samples: Sequence[Sample]
    absent: Verdict = Verdict.GOOD


@dataclass(frozen=True, slots=True)
class AlertEvent:
    """One change of an alert, which is given as it was after it, at a time of the log."""

    alert: alert_pb2.Alert
    change: Change
    time_us: int
