"""One alert that is not over, and its form in the contract."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Final, NamedTuple

from metrics_service.alerts.model import SEVERITIES, Labels, Rule, Sample
from protos.metrics.v1 import alert_pb2

MAX_LABELS: Final = 8

FIRING: Final = frozenset({alert_pb2.ALERT_STATE_FIRING, alert_pb2.ALERT_STATE_RECOVERING})

_SEVERITY_NAMES: Final = {number: name for name, number in SEVERITIES.items()}


class Key(NamedTuple):
    """What an alert is of. no_data: of missing data, beside an alert of the rule's condition."""

    rule: str
    severity: str
    labels: Labels
    no_data: bool = False


@dataclass(slots=True)
class Entry:
    """An alert, the digest of its rule, and since when its condition does not hold; 0: it holds."""

    alert: alert_pb2.Alert
    digest: str
    good_since_us: int = 0

    @property
    def key(self) -> Key:
        alert = self.alert
        return Key(
            alert.rule,
            _SEVERITY_NAMES[alert.severity],
            tuple(sorted(alert.labels.items())),
            alert.state == alert_pb2.ALERT_STATE_NO_DATA,
        )

    @property
    def firing(self) -> bool:
        """Whether people are to know of it: its condition holds, or ended a moment ago."""
        return self.alert.state in FIRING

    def show(self, rule: Rule, sample: Sample) -> None:
        """Take over the value that was judged last."""
        alert = self.alert
        alert.summary = sample.summary or rule.title
        alert.threshold = rule.line if sample.threshold is None else sample.threshold
        if sample.value is None:
            alert.ClearField("value")
        else:
            alert.value = sample.value
        if sample.ratio is None:
            alert.ClearField("ratio")
        else:
            alert.ratio.CopyFrom(sample.ratio)
        if sample.window_us:
            alert.window.FromMicroseconds(sample.window_us)
        else:
            alert.ClearField("window")


def new_entry(rule: Rule, key: Key, incident: int, start_us: int) -> Entry:
    """Return the alert of the incident with this number, which has no state yet."""
    named = "\0".join((*key[:2], *map("=".join, key.labels), str(incident), str(start_us)))
    alert = alert_pb2.Alert(
        id=hashlib.sha256(named.encode()).hexdigest()[:32],
        rule=rule.name,
        severity=SEVERITIES[rule.severity],
        labels=dict(key.labels[:MAX_LABELS]),
        summary=rule.title,
        threshold=rule.line,
        unit=rule.unit,
        action=rule.action,
    )
    alert.start_time.FromMicroseconds(start_us)
    return Entry(alert, rule.digest)
