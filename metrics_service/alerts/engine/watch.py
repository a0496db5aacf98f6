"""Measures all rules of a file when they are due, and steps the machine of their alerts."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple, Self

from google.protobuf.message import DecodeError

from metrics_service.alerts.engine.anomalies import measure_anomalies
from metrics_service.alerts.engine.figures import (
    Cells,
    measure_errors,
    measure_slow_queries,
    measure_windows,
)
from metrics_service.alerts.engine.machine import Machine
from metrics_service.alerts.engine.regressions import Regressions
from metrics_service.alerts.engine.signals import measure_signals
from metrics_service.alerts.engine.sources import Figures
from metrics_service.alerts.engine.why import Evidence, causes
from metrics_service.alerts.model import AlertEvent, Measurement, Rule, Sample
from metrics_service.alerts.rules.metrics import METRICS, WINDOWED
from metrics_service.state.series.rings import HOUR_US, MINUTE_US, SECOND_US
from protos.metrics.v1 import alert_pb2, checkpoint_pb2
from protos.metrics.v1.health_pb2 import DatabaseHealth

MAX_DROPPED_MARKS: Final = 61


class Fault(NamedTuple):
    """A rule that could not be measured: it stays as it is."""

    rule: Rule
    error: Exception


class Watch:
    """The rules and their alerts.

    Rules over figures are measured at most once in a second of the log, those over windows once in
    a minute: call `tick` after each record, or at least as often as the log has one. The same log
    then gives the same alerts. Rules over signals are measured by each tick that has a verdict.

    `faults` are those of the last tick.
    """

    def __init__(self, rules: Iterable[Rule]) -> None:
        self.machine = Machine(rules)
        self.faults: Sequence[Fault] = ()
        self._regressions = Regressions()
        self._second = self._minute = -1
        # (time, telemetry dropped until then), once a minute of the last hour.
        self._dropped: deque[tuple[int, int]] = deque(maxlen=MAX_DROPPED_MARKS)

    def dump(self) -> bytes:
        """Serialize; the same alerts give the same bytes."""
        return checkpoint_pb2.AlertWatch(
            machine=self.machine.to_proto(),
            second=self._second,
            minute=self._minute,
            dropped=[
                checkpoint_pb2.DroppedMark(at_us=at_us, dropped=dropped)
                for at_us, dropped in self._dropped
            ],
        ).SerializeToString(deterministic=True)

    @classmethod
    def load(cls, rules: Iterable[Rule], data: bytes) -> Self:
        """Return what dumped `data`, with rules that may have changed since. Raises ValueError for
        data that cannot be read.
        """
        try:
            message = checkpoint_pb2.AlertWatch.FromString(data)
        except DecodeError as problem:
            raise ValueError("alerts that cannot be read") from problem
        watch = cls(())
        watch.machine = Machine.from_proto(rules, message.machine)
        watch._second, watch._minute = message.second, message.minute
        watch._dropped.extend((each.at_us, each.dropped) for each in message.dropped)
        return watch

    def replace_rules(self, rules: Iterable[Rule]) -> None:
        """Go on with other rules: the next tick ends the alerts of those that judge otherwise."""
        self.machine.rules = tuple(rules)

    def is_due(self, as_of_us: int) -> bool:
        """Whether rules over figures are to be measured at this time of the log."""
        return as_of_us // SECOND_US != self._second

    def tick(self, figures: Figures | None, health: DatabaseHealth | None) -> list[AlertEvent]:
        """Measure what is due and return what has changed; without figures, as while the state is
        repaired, nothing that needs them. The time of the events is that of the log.
        """
        now_us = self._second * SECOND_US if figures is None else figures.as_of_us
        due = figures is not None and self.is_due(now_us)
        minutely = due and now_us // MINUTE_US != self._minute
        if figures is not None and due:
            self._second = now_us // SECOND_US
            if minutely:
                self._minute = now_us // MINUTE_US
                self._dropped.append((now_us, figures.dropped))
        cells = None if figures is None else Cells(figures)
        faults, measurements = [], []
        for rule in self.machine.rules:
            metric = METRICS[rule.metric]
            try:
                if metric.signals:
                    if health is not None:
                        measurements.append(measure_signals(rule, health))
                elif figures is not None and cells is not None and due:
                    measurements += self._measure(rule, figures, cells, minutely=minutely)
            except Exception as error:
                faults.append(Fault(rule, error))
        self.faults = faults

        def why(rule: Rule, sample: Sample) -> Sequence[alert_pb2.AlertCause]:
            dropped = self._dropped_since(now_us - HOUR_US)
            return causes(rule, sample, Evidence(figures, health, dropped, self.machine.rules))

        return self.machine.step(measurements, max(now_us, 0), why, whole=due)

    def _measure(
        self, rule: Rule, figures: Figures, cells: Cells, *, minutely: bool
    ) -> list[Measurement]:
        """Measure one rule over figures, if it is due."""
        if METRICS[rule.metric].kind in WINDOWED:
            return [measure_windows(rule, cells)] if minutely else []
        if rule.metric == "query_regression":
            active = self.machine.active(rule)
            return [self._regressions.measure(rule, figures, active)] if minutely else []
        if rule.metric == "anomaly":
            return [measure_anomalies(rule, figures)] if minutely else []
        if rule.metric == "critical_query":
            return [measure_slow_queries(rule, figures)]
        if rule.metric == "errors_in_5_minutes":
            return [measure_errors(rule, figures)]
        return []

    def _dropped_since(self, since_us: int) -> int:
        """Return how much telemetry was dropped since a time, as far as it was watched."""
        marks = [dropped for at_us, dropped in self._dropped if at_us >= since_us]
        return marks[-1] - marks[0] if marks else 0
