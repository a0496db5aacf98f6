"""The states of alerts: inactive, pending, firing, recovering, resolved, and no data. The same
measurements at the same times always give the same alerts, with the same ids.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Final, Self, TypeAlias

from metrics_service.alerts.engine.entry import Entry, Key, new_entry
from metrics_service.alerts.engine.inhibition import inhibit
from metrics_service.alerts.model import (
    SEVERITIES,
    AlertEvent,
    Change,
    Labels,
    Measurement,
    Rule,
    Sample,
    Verdict,
)
from protos.metrics.v1 import alert_pb2, checkpoint_pb2

MAX_ALERTS: Final = 200
"""Alerts that are not over, of all rules. The last place is kept for that of ALERTS_DROPPED."""

ALERTS_DROPPED: Final = "alerts_dropped"
"""The metric that the machine measures itself: alerts that did not fit in one step."""

MAX_CAUSES: Final = 20

RULE_CHANGED: Final = "rule changed"
DATA_AGAIN: Final = "data again"

Why: TypeAlias = Callable[[Rule, Sample], Sequence[alert_pb2.AlertCause]]

_STATES: Final[dict[Change, alert_pb2.AlertState.ValueType]] = {
    "pending": alert_pb2.ALERT_STATE_PENDING,
    "cancelled": alert_pb2.ALERT_STATE_INACTIVE,
    "fired": alert_pb2.ALERT_STATE_FIRING,
    "recovering": alert_pb2.ALERT_STATE_RECOVERING,
    "fired_again": alert_pb2.ALERT_STATE_FIRING,
    "resolved": alert_pb2.ALERT_STATE_RESOLVED,
    "no_data": alert_pb2.ALERT_STATE_NO_DATA,
}
# From most to least urgent; within a state the newest first.
_ORDER: Final = (
    alert_pb2.ALERT_STATE_FIRING,
    alert_pb2.ALERT_STATE_RECOVERING,
    alert_pb2.ALERT_STATE_NO_DATA,
    alert_pb2.ALERT_STATE_PENDING,
)


def no_causes(_rule: Rule, _sample: Sample) -> Sequence[alert_pb2.AlertCause]:
    return ()


class Machine:
    """The alerts of some rules that are not over.

    `rules` may be replaced at any time: the next step ends the alerts of rules that are gone or
    judge otherwise. `dropped` counts the alerts that found no place.
    """

    def __init__(self, rules: Iterable[Rule]) -> None:
        self.rules = tuple(rules)
        self.dropped = 0
        self._entries: dict[Key, Entry] = {}
        self._incidents = 0
        # By rule: since when it has had no data; 0 while it has.
        self._missing_us: dict[tuple[str, str], int] = {}
        self._changes: list[tuple[Entry, Change]] = []
        self._dropped_now = 0

    @property
    def rules(self) -> Sequence[Rule]:
        return self._rules

    @rules.setter
    def rules(self, rules: Iterable[Rule]) -> None:
        self._rules = tuple(rules)
        self._digests = {rule.key: rule.digest for rule in self._rules}

    def alerts(self) -> list[alert_pb2.Alert]:
        """Return the alerts that are not over, firing ones first, each state newest first. They are
        shared: callers must not change them.
        """
        return sorted(
            (entry.alert for entry in self._entries.values()),
            key=lambda alert: (
                _ORDER.index(alert.state),
                -alert.start_time.ToMicroseconds(),
                alert.rule,
                alert.id,
            ),
        )

    def active(self, rule: Rule) -> dict[Labels, alert_pb2.Alert]:
        """Return the alerts of a rule's condition by their labels, pending ones included."""
        return {
            key.labels: entry.alert
            for key, entry in self._entries.items()
            if key[:2] == rule.key and not key.no_data
        }

    def step(
        self,
        measurements: Iterable[Measurement],
        now_us: int,
        why: Why = no_causes,
        *,
        whole: bool = True,
    ) -> list[AlertEvent]:
        """Judge by what was measured now, a time of the log, and return what has changed, in order.

        Measurements are of `rules`; those without one stay as they are. `why` is asked once for
        each alert that fires. whole: every rule that may have many alerts was measured, so that
        none was dropped if none is.
        """
        self._changes, self._dropped_now = [], 0
        self._end_changed_rules(now_us)
        own: Rule | None = None
        for rule in self.rules:
            own = rule if rule.metric == ALERTS_DROPPED else own
        for measurement in measurements:
            self._judge(measurement, now_us, why)
        if own is not None and (whole or self._dropped_now):
            self._judge(Measurement(own, (self._overflow(),)), now_us, why)
        self.dropped += self._dropped_now
        changed = {id(entry) for entry, _ in self._changes}
        for entry, change in inhibit(self._entries, self.rules):
            if id(entry) not in changed:
                self._changes.append((entry, change))
        return [AlertEvent(_copy(entry.alert), change, now_us) for entry, change in self._changes]

    def to_proto(self) -> checkpoint_pb2.AlertMachine:
        """Convert to the message that is stored; the same alerts give the same message."""
        return checkpoint_pb2.AlertMachine(
            entries=[
                checkpoint_pb2.AlertEntry(
                    alert=entry.alert, digest=entry.digest, good_since_us=entry.good_since_us
                )
                for _, entry in sorted(self._entries.items())
            ],
            incidents=self._incidents,
            dropped=self.dropped,
            data=[
                checkpoint_pb2.RuleData(
                    rule=name, severity=SEVERITIES[severity], missing_since_us=since_us
                )
                for (name, severity), since_us in sorted(self._missing_us.items())
            ],
        )

    @classmethod
    def from_proto(cls, rules: Iterable[Rule], message: checkpoint_pb2.AlertMachine) -> Self:
        """Return the machine that was stored, with rules that may have changed since."""
        names = {number: name for name, number in SEVERITIES.items()}
        machine = cls(rules)
        for stored in message.entries:
            entry = Entry(_copy(stored.alert), stored.digest, stored.good_since_us)
            machine._entries[entry.key] = entry
        machine._incidents = message.incidents
        machine.dropped = message.dropped
        machine._missing_us = {
            (each.rule, names[each.severity]): each.missing_since_us for each in message.data
        }
        return machine

    # One rule.

    def _judge(self, measurement: Measurement, now_us: int, why: Why) -> None:
        rule = measurement.rule
        seen = set()
        for sample in sorted(measurement.samples, key=lambda sample: sample.labels):
            seen.add(sample.labels)
            self._move(rule, sample, now_us, why)
        absent = measurement.absent
        for labels in sorted(self.active(rule).keys() - seen):
            self._move(rule, Sample(labels, absent), now_us, why)
        if rule.no_data_after_us:
            known = {sample.verdict for sample in measurement.samples} or {absent}
            self._watch_data(rule, now_us, missing=known == {Verdict.UNKNOWN})

    def _move(self, rule: Rule, sample: Sample, now_us: int, why: Why) -> None:
        key = Key(*rule.key, sample.labels)
        entry = self._entries.get(key)
        if sample.verdict is Verdict.BAD:
            if entry is None:
                entry = self._open(rule, key, now_us)
            if entry is not None:
                entry.show(rule, sample)
                self._worsen(rule, entry, sample, now_us, why)
            return
        if entry is None or sample.verdict is Verdict.UNKNOWN:
            return
        if sample.summary:
            entry.show(rule, sample)
        if entry.alert.state == alert_pb2.ALERT_STATE_PENDING:
            self._close(key, "cancelled", now_us)
        elif sample.verdict is Verdict.GOOD:
            self._improve(rule, key, entry, now_us)

    def _worsen(self, rule: Rule, entry: Entry, sample: Sample, now_us: int, why: Why) -> None:
        alert = entry.alert
        entry.good_since_us = 0
        if alert.state == alert_pb2.ALERT_STATE_RECOVERING:
            self._set(entry, "fired_again")
        if alert.state == alert_pb2.ALERT_STATE_FIRING:
            return
        start_us = alert.start_time.ToMicroseconds()
        if start_us > now_us:
            # The clock of the log was corrected.
            alert.start_time.FromMicroseconds(now_us)
        if sample.urgent or now_us - start_us >= rule.for_us:
            alert.fire_time.FromMicroseconds(now_us)
            alert.causes.extend(why(rule, sample)[:MAX_CAUSES])
            self._set(entry, "fired")
        elif alert.state != alert_pb2.ALERT_STATE_PENDING:
            self._set(entry, "pending")

    def _improve(self, rule: Rule, key: Key, entry: Entry, now_us: int) -> None:
        entry.good_since_us = min(entry.good_since_us or now_us, now_us)
        if now_us - entry.good_since_us >= rule.keep_firing_for_us:
            self._close(key, "resolved", now_us)
        elif entry.alert.state != alert_pb2.ALERT_STATE_RECOVERING:
            self._set(entry, "recovering")

    def _watch_data(self, rule: Rule, now_us: int, *, missing: bool) -> None:
        """Open or close the alert of missing data. What never had data misses none."""
        key = Key(*rule.key, (), no_data=True)
        if not missing:
            self._missing_us[rule.key] = 0
            if key in self._entries:
                self._close(key, "resolved", now_us, DATA_AGAIN)
            return
        since_us = self._missing_us.get(rule.key)
        if since_us is None:
            return
        since_us = self._missing_us[rule.key] = min(since_us or now_us, now_us)
        if now_us - since_us < rule.no_data_after_us or key in self._entries:
            return
        entry = self._open(rule, key, since_us)
        if entry is not None:
            entry.alert.summary = f"{rule.title}: there is too little data to judge"
            entry.alert.fire_time.FromMicroseconds(now_us)
            self._set(entry, "no_data")

    def _overflow(self) -> Sample:
        dropped = self._dropped_now
        summary = f"{dropped} alerts found no place: at most {MAX_ALERTS} in all"
        return Sample((), Verdict.BAD if dropped else Verdict.GOOD, summary, float(dropped))

    # Entries.

    def _open(self, rule: Rule, key: Key, start_us: int) -> Entry | None:
        """Return a new entry; None where there are too many."""
        places = MAX_ALERTS if rule.metric == ALERTS_DROPPED else MAX_ALERTS - 1
        of_rule = Counter(each[:2] for each in self._entries if not each.no_data)
        if len(self._entries) >= places or of_rule[rule.key] >= rule.max_alerts:
            self._dropped_now += 1
            return None
        self._incidents += 1
        entry = self._entries[key] = new_entry(rule, key, self._incidents, start_us)
        return entry

    def _close(self, key: Key, change: Change, now_us: int, reason: str = "") -> None:
        entry = self._entries.pop(key)
        entry.alert.end_reason = reason
        entry.alert.resolve_time.FromMicroseconds(now_us)
        self._set(entry, change)

    def _set(self, entry: Entry, change: Change) -> None:
        entry.alert.state = _STATES[change]
        self._changes.append((entry, change))

    def _end_changed_rules(self, now_us: int) -> None:
        for key in sorted(self._entries):
            entry = self._entries[key]
            if self._digests.get((key.rule, key.severity)) != entry.digest:
                pending = entry.alert.state == alert_pb2.ALERT_STATE_PENDING
                self._close(key, "cancelled" if pending else "resolved", now_us, RULE_CHANGED)
        for gone in self._missing_us.keys() - self._digests.keys():
            del self._missing_us[gone]


def _copy(alert: alert_pb2.Alert) -> alert_pb2.Alert:
    copied = alert_pb2.Alert()
    copied.CopyFrom(alert)
    return copied
