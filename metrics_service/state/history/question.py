"""What GetSeries asks, in the terms of the state: metrics, and steps of time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from metrics_service.state.history.figure import Figures, Split
from metrics_service.state.history.series_metrics import SeriesMetric
from metrics_service.state.series.rings import HOUR_US, MINUTE_US, RESOLUTIONS

DAY_US: Final = 24 * HOUR_US
HOURS_KEPT_US: Final = 400 * DAY_US
DAYS_KEPT_US: Final = 5 * 366 * DAY_US
MAX_POINTS: Final = 1_000

_TEN_SECONDS_US, _, _ = (resolution.step_us for resolution in RESOLUTIONS)
KEPT: Final = (
    (DAY_US, DAYS_KEPT_US, "1 day for 5 years"),
    (HOUR_US, HOURS_KEPT_US, "1 h for 400 days"),
    (MINUTE_US, DAY_US, "1 min for 24 h"),
    (_TEN_SECONDS_US, HOUR_US, "10 s for 1 h"),
)
"""How far back steps of a multiple of so much are kept."""


@dataclass(frozen=True, slots=True)
class Question:
    """The metrics, what they are split by, "" for nothing, and the window in steps."""

    metrics: tuple[SeriesMetric, ...]
    by: str
    window_us: int
    ended_us: int
    step_us: int

    def span(self, now_us: int) -> tuple[int, int]:
        """Return begin and end of all steps; the last one has now in it, or what was `ended`."""
        high_us = (now_us // self.step_us + 1) * self.step_us - self.ended_us
        return high_us - self.window_us, high_us

    @property
    def slot_us(self) -> int:
        """The step of the ring that the steps are made of."""
        fine, minute, hour = (resolution.step_us for resolution in RESOLUTIONS)
        if self.step_us % hour == 0:
            return hour
        return fine if self.step_us % minute else minute

    def reads(self) -> dict[str, list[tuple[SeriesMetric, Split]]]:
        """Return the metrics by the table whose cells have them."""
        found: dict[str, list[tuple[SeriesMetric, Split]]] = {}
        for metric in self.metrics:
            split = metric.by[self.by] if self.by else Split(metric.table, metric.read)
            found.setdefault(split.table, []).append((metric, split))
        return found


Steps = dict[int, Figures]
"""The figures of a metric by the begin of their step, in microseconds."""
