"""Steps a machine through verdicts, one minute apart."""

from __future__ import annotations

from typing import Final

from metrics_service.alerts.engine.machine import Machine
from metrics_service.alerts.model import AlertEvent, Labels, Measurement, Rule, Sample, Verdict

MINUTE_US: Final = 60_000_000
BAD, GOOD, BETWEEN, UNKNOWN = Verdict.BAD, Verdict.GOOD, Verdict.BETWEEN, Verdict.UNKNOWN

LOW: Final = Rule(
    name="low",
    severity="warning",
    metric="view_to_start",
    comparison="below",
    line=0.15,
    resolve=0.165,
    for_us=5 * MINUTE_US,
    title="Few views lead to a start",
)


class Steps:
    """A machine, and the minute that it is at."""

    def __init__(self, *rules: Rule, machine: Machine | None = None, minute: float = 1_000) -> None:
        self.machine = machine or Machine(rules)
        self.minute = minute

    def take(
        self,
        rule: Rule,
        *verdicts: Verdict,
        labels: Labels = (),
        urgent: bool = False,
        absent: Verdict = GOOD,
    ) -> list[str]:
        """Take verdicts on one rule, one each minute; returns what has changed, in words."""
        return [
            word(event)
            for verdict in verdicts
            for event in self.step(
                Measurement(rule, (Sample(labels, verdict, urgent=urgent),), absent)
            )
        ]

    def step(self, *measurements: Measurement) -> list[AlertEvent]:
        self.minute += 1
        return self.machine.step(measurements, int(self.minute * MINUTE_US))


def word(event: AlertEvent) -> str:
    return f"{event.alert.rule} {event.change}"
