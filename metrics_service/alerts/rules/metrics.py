"""What rules can watch: the figures that can be charted, and what is known of the service now."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, Literal, TypeAlias

from metrics_service.measure.thresholds import CRITICAL_US
from metrics_service.state.history import series_metrics
from metrics_service.state.history.series_metrics import SeriesMetric

Kind: TypeAlias = Literal["ratio", "mean", "value", "count", "exact", "own"]
"""How a metric is judged. ratio: by Wilson's bounds, over the shortest window that decides; mean:
by the bounds of its standard error, likewise; value, count: as it is, over one window; exact, own:
as it is, over a time of its own. Rules of an "own" metric have an alert for each set of labels.
"""

WINDOWED: Final = frozenset({"ratio", "mean", "value", "count"})
SAMPLED: Final = frozenset({"ratio", "mean", "value"})

MATURED: Final = frozenset(
    {
        "view_to_start",
        "start_to_complete",
        "complete_to_confirm",
        "overall_conversion",
        "form_abandonment",
    }
)
"""Ratios that are read of slots whose actors have had their whole time, as those of charts whose
name ends so.
"""


@dataclass(frozen=True, slots=True)
class Metric:
    """signals: it is known from heartbeats, so that it is not found again by folding the log.
    series: where its figures come from, if it can be charted. least: values below are not kept.
    line_unit: that of the rule's line, where it is not that of the value.
    """

    name: str
    unit: str
    kind: Kind
    signals: bool = False
    series: SeriesMetric | None = None
    least: float = 0.0
    line_unit: str = ""


_SERIES_KINDS: Final[Mapping[str, Kind]] = {
    series_metrics.RATIO: "ratio",
    series_metrics.COUNT: "count",
    series_metrics.MS: "value",
}
_MEANS: Final = frozenset({"avg_booking_time"})


def _of_series(metric: SeriesMetric) -> Metric:
    kind: Kind = "mean" if metric.name in _MEANS else _SERIES_KINDS[metric.unit]
    return Metric(metric.name, metric.unit, kind, series=metric)


HEALTH_ISSUES: Final[Mapping[str, str]] = MappingProxyType(
    {
        "log_unwritable": "log",
        "lead_lost": "lead_lost",
        "facts_undelivered": "undelivered",
        "facts_without_leader": "no_leader",
        "facts_forked": "forked",
        "facts_withheld": "withheld",
        "facts_fenced": "fenced",
    }
)
"""The criterion of health that each metric counts the reasons of."""

METRICS: Final[Mapping[str, Metric]] = MappingProxyType(
    {
        metric.name: metric
        for metric in (
            *(
                _of_series(each)
                for each in series_metrics.METRICS.values()
                if each.unit in _SERIES_KINDS and not each.matured
            ),
            # The greatest number within any five minutes, by the times of the errors.
            Metric("errors_in_5_minutes", "count", "exact"),
            Metric("failed_queries_in_5_minutes", "count", "exact", signals=True),
            Metric("critical_query", "ms", "own", least=CRITICAL_US / 1000),
            # p95 of the last five minutes, as a multiple of that of the day before.
            Metric("query_regression", "ms", "own", line_unit="times"),
            # Of the last hour from the same hour of the week, as a multiple of what is unusual.
            Metric("anomaly", "times", "own"),
            Metric("database_unhealthy", "count", "exact", signals=True),
            *(Metric(name, "count", "exact", signals=True) for name in HEALTH_ISSUES),
            # Heartbeats that are missing, by instance, and records that are not folded yet.
            Metric("ingest_stalled", "count", "own", signals=True),
            Metric("alerts_dropped", "count", "exact"),
        )
    }
)
