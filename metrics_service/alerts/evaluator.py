"""Judges the rules of the process that leads: what changes is recorded, and told to the targets
while the figures keep up with the log.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Final

import structlog

from metrics_service.alerts.engine.anomalies import progress
from metrics_service.alerts.engine.sources import Figures
from metrics_service.alerts.engine.watch import Watch
from metrics_service.alerts.model import AlertEvent as AlertChange
from metrics_service.alerts.model import Rule
from metrics_service.alerts.recorder import Present
from metrics_service.alerts.rules.load import RuleFileError, load
from metrics_service.eventlog.recovery import UnreadableError
from metrics_service.storage.alerts import Stored
from metrics_service.storage.errors import line_of
from protos.metrics.v1 import alert_pb2
from protos.metrics.v1.alert_pb2 import Alert
from protos.metrics.v1.health_pb2 import DatabaseHealth
from servicekit.clock import wall_us
from servicekit.handlers import LineLimit

MAX_LAG_US: Final = 10_000_000
"""While the figures are further behind the log, nobody is told of alerts: one that is over by then
is told as one that was found late.
"""

MAX_UNTOLD: Final = 1_000
"""Changes that nobody is told of yet; beyond it all are told."""

LINE_GAP_S: Final = 60.0

STATE_LOST: Final = "its state was lost"
LEAD_LOST: Final = "lead_lost"
"""The metric of the rules that a process still judges once another one leads. Their alerts are its
own: they are not handed on.
"""

ANOMALY: Final = "anomaly"

log = structlog.get_logger()


class Evaluator:
    """The rules, what they find, and who is told.

    figures raises UnreadableError while there are none. lag_us: how far the figures are behind the
    log. record and tell take changes; they must not block.
    """

    def __init__(
        self,
        rules: Sequence[Rule],
        rules_file: Path | None,
        *,
        figures: Callable[[], Figures],
        health: Callable[[], DatabaseHealth],
        lag_us: Callable[[], int],
        record: Callable[[Iterable[AlertChange]], None],
        tell: Callable[[Iterable[AlertChange]], None],
        monotonic_s: Callable[[], float] = time.monotonic,
    ) -> None:
        """Begin with rules; rules_file is read again when it is reloaded, None: those shipped."""
        self.as_of_us = 0
        """The time of the log at which rules were judged last."""

        self.judged_us = 0
        """When that was, by the clock of this process; 0 before the first time."""

        self._rules_file = rules_file
        self._figures = figures
        self._health = health
        self._lag_us = lag_us
        self._record = record
        self._tell = tell
        self._watch, self._lead_watch = Watch(()), Watch(())
        self._use(rules)
        self._untold: list[AlertChange] = []
        self._fault_lines = LineLimit(monotonic_s, gap_s=LINE_GAP_S)

    def restore(self, stored: Stored, now_us: int) -> None:
        """Go on from what is stored; the alerts that the engine's state does not have end."""
        rules = self._watch.machine.rules
        self.as_of_us = 0
        if stored.machine:
            try:
                self._watch = Watch.load(rules, stored.machine)
                self.as_of_us = stored.saved_us
            except ValueError as problem:
                log.error("alert_state_rejected", reason=line_of(problem))
        known = {alert.id for alert in self._watch.machine.alerts()}
        lost = [_ended(each, now_us) for each in stored.alerts if each.id not in known]
        self._record(lost)
        self._offer(lost)

    @property
    def rules(self) -> list[tuple[str, str]]:
        """Name and severity of each rule."""
        watches = (self._watch, self._lead_watch)
        return sorted(rule.key for watch in watches for rule in watch.machine.rules)

    @property
    def rule_names(self) -> list[str]:
        """The names of the rules."""
        return sorted({name for name, _ in self.rules})

    @property
    def anomalies(self) -> str:
        """Whether anomalies are judged, or for how long they are still learned; empty without such
        a rule, or without figures.
        """
        figures = self._readable()
        ruled = any(rule.metric == ANOMALY for rule in self._watch.machine.rules)
        return progress(figures) if ruled and figures is not None else ""

    def alerts(self) -> list[Alert]:
        """Return the alerts that are not over; callers must not change them."""
        return self._lead_watch.machine.alerts() + self._watch.machine.alerts()

    def present(self) -> Present:
        """Return what is to be stored now."""
        return Present(self.alerts(), self._watch.dump(), self.as_of_us)

    def is_due(self, as_of_us: int) -> bool:
        """Whether figures of this time have not been judged yet."""
        return self._watch.is_due(as_of_us)

    def judge(self, *, leads: bool) -> None:
        """Judge what is due by the figures and the health of now; where another process leads, no
        more than that it does: the other one tells of the rest.
        """
        figures = self._readable()
        if figures is not None:
            self.as_of_us = figures.as_of_us
        elif not self.as_of_us:
            # Health is judged also while the figures are repaired, but the time is that of figures.
            return
        health = self._health()
        changes = self._lead_watch.tick(figures, health)
        if leads:
            changes += self._watch.tick(figures, health)
        self._report_faults()
        self._record(changes)
        self._offer(changes)
        self.judged_us = wall_us()

    def reload(self) -> None:
        """Read the rule file again: all of it or, with one log line, nothing."""
        try:
            rules = load(self._rules_file)
        except (RuleFileError, OSError) as error:
            log.error("alert_rules_refused", reason=line_of(error))
            return
        self._use(rules)
        log.info("alert_rules_loaded", rules=len(rules))

    def _readable(self) -> Figures | None:
        try:
            return self._figures()
        except UnreadableError:
            return None

    def _use(self, rules: Iterable[Rule]) -> None:
        by_lead: tuple[list[Rule], list[Rule]] = ([], [])
        for rule in rules:
            by_lead[rule.metric == LEAD_LOST].append(rule)
        self._watch.replace_rules(by_lead[False])
        self._lead_watch.replace_rules(by_lead[True])

    def _offer(self, changes: Sequence[AlertChange]) -> None:
        self._untold += changes
        if self._untold and (self._lag_us() <= MAX_LAG_US or len(self._untold) > MAX_UNTOLD):
            told, self._untold = self._untold, []
            self._tell(told)

    def _report_faults(self) -> None:
        for fault in (*self._watch.faults, *self._lead_watch.faults):
            suppressed = self._fault_lines.take()
            if suppressed is not None:
                log.error(
                    "alert_rule_failed",
                    rule=fault.rule.name,
                    suppressed=suppressed,
                    exc_info=fault.error,
                )


def _ended(alert: Alert, now_us: int) -> AlertChange:
    pending = alert.state == alert_pb2.ALERT_STATE_PENDING
    alert.state = alert_pb2.ALERT_STATE_INACTIVE if pending else alert_pb2.ALERT_STATE_RESOLVED
    alert.resolve_time.FromMicroseconds(now_us)
    alert.end_reason = STATE_LOST
    return AlertChange(alert, "cancelled" if pending else "resolved", now_us)
