"""Measures figures that differ from those of the same hour of the week."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, Protocol

from metrics_service.alerts.engine.usual import (
    Found,
    Part,
    hours_of,
    judge_count,
    judge_ratio,
    learning,
    sentence,
)
from metrics_service.alerts.model import Measurement, Rule, Sample, Verdict
from metrics_service.state.funnel.funnel import MATURES_US
from metrics_service.state.history.series_metrics import METRICS, RATIO
from metrics_service.state.series.rings import HOUR_US, MINUTE_US

NEEDED_DAYS: Final = 14
_DAY_US: Final = 24 * HOUR_US


@dataclass(frozen=True, slots=True)
class Watched:
    """A metric that can be charted, and what its text says of its value. An hour is judged
    `after_us` after its end.
    """

    metric: str
    words: str
    after_us: int = 0


WATCHED: Final = (
    Watched("funnel_entered", "views"),
    Watched("bookings_started", "bookings started"),
    Watched("bookings_confirmed", "bookings confirmed"),
    Watched("errors", "errors"),
    Watched("queries", "queries"),
    Watched("view_to_start", "of views start a booking", MATURES_US),
    Watched("start_to_complete", "of started ones complete", MATURES_US),
    Watched("complete_to_confirm", "of completed ones confirm", MATURES_US),
    Watched("error_rate", "of changes fail"),
)


class Hours(Protocol):
    """The figures of a state by the clock hour."""

    @property
    def as_of_us(self) -> int: ...

    def hour(self, table: str, time_us: int) -> Any: ...

    def oldest_hour_us(self, table: str) -> int | None: ...


def measure_anomalies(rule: Rule, hours: Hours) -> Measurement:
    """Judge the last hour of one of WATCHED: the first in the first minute of an hour, and so on;
    of the others nothing is known now. One reads up to 26 hours, which takes milliseconds.

    A metric is unusual where its deviation is above the rule's line in two hours in a row, on the
    same side; its value is that deviation.
    """
    minute = hours.as_of_us // MINUTE_US % 60
    samples = [_sample(rule, each, hours) for each in WATCHED[minute : minute + 1]]
    return Measurement(rule, samples, absent=Verdict.UNKNOWN)


def progress(hours: Hours) -> str:
    """Return such as "learning, 9 of 14 days" until each of WATCHED is judged, then "judged"."""
    days = min(_known_days(each, hours) for each in WATCHED)
    return learning(days, NEEDED_DAYS) if days < NEEDED_DAYS else "judged"


def _known_days(watched: Watched, hours: Hours) -> int:
    """Return how many whole days before the hour that is judged are known."""
    oldest_us = hours.oldest_hour_us(METRICS[watched.metric].table)
    hour_us = _hour(watched, hours) * HOUR_US
    return 0 if oldest_us is None else max(hour_us - oldest_us, 0) // _DAY_US


def _hour(watched: Watched, hours: Hours) -> int:
    return (hours.as_of_us - watched.after_us) // HOUR_US - 1


def _sample(rule: Rule, watched: Watched, hours: Hours) -> Sample:
    hour = _hour(watched, hours)
    labels = (("metric", watched.metric),)
    metric = METRICS[watched.metric]
    oldest_us, known_days = hours.oldest_hour_us(metric.table), _known_days(watched, hours)
    if oldest_us is None or known_days < NEEDED_DAYS:
        return Sample(labels, Verdict.UNKNOWN, learning(known_days, NEEDED_DAYS))
    found = _found(watched, hours, hour, oldest_us)
    if found is None:
        verdict = Verdict.UNKNOWN if metric.unit == RATIO else Verdict.GOOD
        return Sample(labels, verdict, f"too little to compare of {watched.metric}")
    verdict = Verdict.BETWEEN
    if abs(found.deviation) > rule.line:
        before = _found(watched, hours, hour - 1, oldest_us)
        if before is not None and _both(found.deviation, before.deviation, rule.line):
            verdict = Verdict.BAD
    elif abs(found.deviation) <= rule.resolve:
        verdict = Verdict.GOOD
    said = sentence(watched.words, metric.unit, hour, found)
    return Sample(labels, verdict, said, abs(found.deviation), window_us=HOUR_US)


def _found(watched: Watched, hours: Hours, hour: int, oldest_us: int) -> Found | None:
    metric = METRICS[watched.metric]

    def read(number: int) -> Any:
        return metric.read(hours.hour(metric.table, number * HOUR_US))[""]

    usual = [read(each) for each in hours_of(hour) if each * HOUR_US >= oldest_us]
    now = read(hour)
    if metric.unit == RATIO:
        return judge_ratio(_part(now), [_part(each) for each in usual])
    return judge_count(now.value, [each.value for each in usual])


def _part(figure: Any) -> Part:
    return Part(int(figure.numerator), int(figure.denominator))


def _both(one: float, other: float, line: float) -> bool:
    return min(one, other) > line or max(one, other) < -line
