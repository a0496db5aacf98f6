"""Measures operations whose queries have become slower than over the last day."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from metrics_service.alerts.engine.sources import Figures
from metrics_service.alerts.model import Labels, Measurement, Rule, Sample, Verdict
from metrics_service.measure.sketch import Sketch
from metrics_service.state.series.rings import HOUR_US, MINUTE_US
from protos.metrics.v1 import alert_pb2

RECENT_US: Final = 5 * MINUTE_US
DAY_US: Final = 24 * HOUR_US
DAY_STEP_US: Final = 10 * MINUTE_US
"""The day that is compared with ends with one of these steps, and is added up once for each: with
many operations that takes a tenth of a second.
"""
SLOWER_MS: Final = 50.0
MIN_RECENT_SAMPLES: Final = 100
MIN_DAY_SAMPLES: Final = 1_000


class Regressions:
    """An operation has regressed when its p95 of RECENT_US is above `line` times, and more than
    SLOWER_MS above, its p95 of the day before. It ends below `resolve` / `line` of the limit at its
    begin, which the regression itself does not raise, or after a day as the new normal. With too
    few samples nothing changes.
    """

    def __init__(self) -> None:
        self._day_ms: dict[str, float] = {}
        self._day_step = -1

    def measure(
        self, rule: Rule, figures: Figures, active: Mapping[Labels, alert_pb2.Alert]
    ) -> Measurement:
        """Measure by the alerts of the rule that are active."""
        recent_ms = _p95s_ms(figures.execute_times(RECENT_US), MIN_RECENT_SAMPLES)
        samples = []
        for labels, alert in active.items():
            operation = dict(labels)["operation"]
            if figures.as_of_us - alert.start_time.ToMicroseconds() >= DAY_US:
                samples.append(Sample(labels, Verdict.GOOD, f"{operation}: this is the new normal"))
            elif operation in recent_ms:
                value_ms, limit_ms = recent_ms[operation], alert.threshold
                ended = value_ms <= limit_ms * rule.resolve / rule.line
                verdict = Verdict.GOOD if ended else Verdict.BAD
                samples.append(_sample(operation, verdict, value_ms, limit_ms))
        known = {dict(labels)["operation"] for labels in active}
        suspects = {
            operation: value_ms
            for operation, value_ms in recent_ms.items()
            if value_ms > SLOWER_MS and operation not in known
        }
        for operation, value_ms in suspects.items():
            day_ms = self._day(figures).get(operation)
            if day_ms is not None:
                limit_ms = max(rule.line * day_ms, day_ms + SLOWER_MS)
                if value_ms > limit_ms:
                    samples.append(_sample(operation, Verdict.BAD, value_ms, limit_ms))
        return Measurement(rule, samples, absent=Verdict.UNKNOWN)

    def _day(self, figures: Figures) -> Mapping[str, float]:
        """Return p95 of the day that ended before the recent samples of the current step."""
        step = figures.as_of_us // DAY_STEP_US
        if step != self._day_step:
            minutes = figures.as_of_us % DAY_STEP_US // MINUTE_US
            # The step of now is not over, so that it is one more.
            ended_us = minutes * MINUTE_US + RECENT_US + MINUTE_US
            window_us = DAY_US - DAY_STEP_US - RECENT_US
            times = figures.execute_times(window_us, ended_us)
            self._day_ms, self._day_step = _p95s_ms(times, MIN_DAY_SAMPLES), step
        return self._day_ms


def _sample(operation: str, verdict: Verdict, value_ms: float, limit_ms: float) -> Sample:
    summary = f"{operation}: p95 {value_ms:,.0f} ms over 5 min, limit {limit_ms:,.0f} ms by the day"
    labels = (("operation", operation),)
    return Sample(labels, verdict, summary, value_ms, limit_ms, window_us=RECENT_US)


def _p95s_ms(execute_us: Mapping[str, Sketch], min_samples: int) -> dict[str, float]:
    """Return the p95 of each operation that has at least min_samples."""
    return {
        operation: p95_us / 1000
        for operation, sketch in execute_us.items()
        if sketch.count >= min_samples and (p95_us := sketch.quantile(0.95)) is not None
    }
