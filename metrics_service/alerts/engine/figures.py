"""Measures the rules over figures, which any fold of the same log gives again."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from metrics_service.alerts.engine.judge import (
    Interval,
    judge_intervals,
    judge_none,
    judge_value,
    mean,
    share,
)
from metrics_service.alerts.engine.sources import Figures
from metrics_service.alerts.model import Measurement, Rule, Sample
from metrics_service.alerts.rules.metrics import MATURED, METRICS, Metric
from metrics_service.measure.sketch import Sketch
from metrics_service.state.history.figure import Figure
from metrics_service.state.series.rings import MINUTE_US

RECENT_US: Final = 30 * MINUTE_US
RECENT_ENDED_US: Final = 10 * MINUTE_US
"""No conversion at all is looked for among those who began in half an hour and at least ten
minutes ago: most of those who convert have done so by then.
"""

SLOW_US: Final = 5 * MINUTE_US
"""How long ago a slow query may have ended."""

_US_PER_MS: Final = 1000


class Cells:
    """The cells that the rules of one step read, each of which is added up once."""

    def __init__(self, figures: Figures) -> None:
        self._figures = figures
        self._cells: dict[tuple[str, int, int | None], Any] = {}

    def window(self, table: str, window_us: int, ended_us: int = 0) -> Any:
        return self._cell(table, window_us, ended_us)

    def matured(self, table: str, window_us: int) -> Any:
        return self._cell(table, window_us, None)

    def _cell(self, table: str, window_us: int, ended_us: int | None) -> Any:
        key = table, window_us, ended_us
        if key not in self._cells:
            self._cells[key] = (
                self._figures.matured(table, window_us)
                if ended_us is None
                else self._figures.cell(table, window_us, ended_us)
            )
        return self._cells[key]


def measure_windows(rule: Rule, cells: Cells) -> Measurement:
    """Measure a rule over windows. Raises WindowError for one that is not kept."""
    metric = METRICS[rule.metric]
    if metric.kind == "ratio":
        return Measurement(rule, (_ratio(rule, metric, cells),))
    if metric.kind == "mean":
        return Measurement(rule, (judge_intervals(rule, _means(rule, cells), ratio=False),))
    (window_us,) = rule.windows_us
    found = _read(metric, cells.window(_table(metric), window_us))
    if metric.kind == "count":
        sample = judge_value(rule, found.value or 0.0, window_us=window_us)
    else:
        count = int(found.denominator or 0)
        sample = judge_value(rule, found.value or 0.0, samples=count, window_us=window_us)
    return Measurement(rule, (sample,))


def measure_errors(rule: Rule, figures: Figures) -> Measurement:
    """Measure errors within five minutes, by their own times."""
    count = figures.errors_in_five_minutes
    return Measurement(rule, (judge_value(rule, float(count), window_us=5 * MINUTE_US),))


def measure_slow_queries(rule: Rule, figures: Figures) -> Measurement:
    """Measure the slowest query of each fingerprint that ended within SLOW_US."""
    slowest: dict[tuple[str, str], float] = {}
    for slow, query in figures.critical_queries(figures.as_of_us - SLOW_US):
        key = query.fingerprint, query.operation
        slowest[key] = max(slowest.get(key, 0.0), slow.execute_us / _US_PER_MS)
    samples = [
        judge_value(
            rule,
            value_ms,
            labels=(("fingerprint", fingerprint), ("operation", operation)),
            summary=f"{operation} took {value_ms:,.0f} ms, line {rule.line:,.0f} ms",
        )
        for (fingerprint, operation), value_ms in sorted(slowest.items())
    ]
    return Measurement(rule, samples)


def _ratio(rule: Rule, metric: Metric, cells: Cells) -> Sample:
    matured = metric.name in MATURED
    if matured and rule.none_of:
        found = _read(metric, cells.window(_table(metric), RECENT_US, RECENT_ENDED_US))
        if (none := judge_none(rule, _share(RECENT_US, found))) is not None:
            return none
    return judge_intervals(rule, _shares(rule, metric, cells, matured=matured), ratio=True)


def _shares(rule: Rule, metric: Metric, cells: Cells, *, matured: bool) -> Iterator[Interval]:
    read = cells.matured if matured else cells.window
    for window_us in rule.windows_us:
        yield _share(window_us, _read(metric, read(_table(metric), window_us)))


def _share(window_us: int, found: Figure) -> Interval:
    return share(window_us, int(found.numerator or 0), int(found.denominator or 0))


def _means(rule: Rule, cells: Cells) -> Iterator[Interval]:
    for window_us in rule.windows_us:
        times_us: Sketch = cells.window("business", window_us).booking_time_us
        value_us, variance = times_us.mean or 0.0, times_us.variance or 0.0
        yield mean(window_us, times_us.count, value_us / _US_PER_MS, variance / _US_PER_MS**2)


def _table(metric: Metric) -> str:
    if metric.series is None:
        raise ValueError(f"{metric.name} has no windows")
    return metric.series.table


def _read(metric: Metric, cell: Any) -> Figure:
    if metric.series is None:
        raise ValueError(f"{metric.name} has no windows")
    return metric.series.read(cell)[""]
