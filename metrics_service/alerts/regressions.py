"""Notifies people once when an operation's queries have become slower than over the last day, and
once when they no longer are.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Protocol

import structlog

from metrics_service.alerts.notify import Notice, Notifier
from metrics_service.measure.sketch import Sketch
from metrics_service.state.series.rings import SECOND_US

log = structlog.get_logger()

INTERVAL_S: Final = 60.0
DAY_INTERVAL_S: Final = 600.0
"""The day is merged at most this often: with many operations a merge takes a tenth of a second."""

RECENT_S: Final = 300
DAY_S: Final = 24 * 3600
RATIO: Final = 2.0
SLOWER_MS: Final = 50.0
MIN_RECENT_SAMPLES: Final = 100
MIN_DAY_SAMPLES: Final = 1_000
ENDED_RATIO: Final = 0.9
"""A regression ends below this share of its limit, so that it is not reported again and again."""

MAX_OPEN: Final = 200
RULE: Final = "query_regression"


class Source(Protocol):
    """Where execute times come from: metrics_service.state.fold.State."""

    def execute_times(self, window_us: int, ended_us: int = 0) -> dict[str, Sketch]: ...


@dataclass(frozen=True, slots=True)
class _Open:
    """A regression that was reported: the day's p95 it was compared with, and when."""

    day_ms: float
    reported_s: float


class RegressionAlert:
    """The rule query_regression. `observe` may be called at any rate.

    An operation has regressed when its p95 over RECENT_S is above RATIO times, and more than
    SLOWER_MS above, its p95 over the rest of the day that ends now. Its end is judged by the same
    p95 of the day, which the regression itself does not change; after a day a regression is the new
    normal. With too few samples nothing changes.
    """

    def __init__(
        self,
        source: Callable[[], Source],
        notifier: Notifier,
        *,
        monotonic_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._source = source
        self._notifier = notifier
        self._monotonic_s = monotonic_s
        self._next_s = monotonic_s()
        self._open: dict[str, _Open] = {}
        self._day_ms: dict[str, float] = {}
        self._day_until_s = monotonic_s()

    def observe(self) -> None:
        """Compare at most once in INTERVAL_S."""
        now_s = self._monotonic_s()
        if now_s < self._next_s:
            return
        self._next_s = now_s + INTERVAL_S
        self._open = {
            operation: known
            for operation, known in self._open.items()
            if now_s - known.reported_s < DAY_S
        }
        recent = self._source().execute_times(RECENT_S * SECOND_US)
        recent_ms = _p95s_ms(recent, MIN_RECENT_SAMPLES)
        for operation, p95_ms in recent_ms.items():
            known = self._open.get(operation)
            if known is not None and p95_ms <= ENDED_RATIO * _limit_ms(known.day_ms):
                del self._open[operation]
                self._report(operation, p95_ms, known.day_ms, ended=True)
        self._find_new(recent_ms, now_s)

    def _find_new(self, recent_ms: dict[str, float], now_s: float) -> None:
        suspects = {
            operation: p95_ms
            for operation, p95_ms in recent_ms.items()
            if p95_ms > SLOWER_MS and operation not in self._open
        }
        if suspects and now_s >= self._day_until_s:
            self._day_until_s = now_s + DAY_INTERVAL_S
            # The day is kept by the minute: one minute more excludes the recent samples.
            ended_us = (RECENT_S + 60) * SECOND_US
            day = self._source().execute_times(DAY_S * SECOND_US - ended_us, ended_us)
            self._day_ms = _p95s_ms(day, MIN_DAY_SAMPLES)
        for operation, p95_ms in suspects.items():
            day_ms = self._day_ms.get(operation)
            if day_ms is None or p95_ms <= _limit_ms(day_ms):
                continue
            if len(self._open) < MAX_OPEN:
                self._open[operation] = _Open(day_ms, now_s)
                self._report(operation, p95_ms, day_ms, ended=False)

    def _report(self, operation: str, p95_ms: float, day_ms: float, *, ended: bool) -> None:
        facts: dict[str, str | float] = {
            "operation": operation,
            "p95_ms": p95_ms,
            "day_p95_ms": day_ms,
        }
        figures = f"{operation} p95 {p95_ms:.0f} ms, {day_ms:.0f} ms over the day"
        key = (RULE, operation)
        if ended:
            log.info("query_regression_ended", **facts)
            message = f"Query as fast as before: {figures}"
            self._notifier.send(Notice(RULE, "info", message, key, operation, facts))
        else:
            log.warning("query_regression_found", **facts)
            message = f"Query slower: {figures}"
            self._notifier.send(Notice(RULE, "warning", message, key, operation, facts))


def _p95s_ms(execute_us: dict[str, Sketch], min_samples: int) -> dict[str, float]:
    """Return the p95 of each operation that has at least min_samples."""
    return {
        operation: p95_us / 1000
        for operation, sketch in execute_us.items()
        if sketch.count >= min_samples and (p95_us := sketch.quantile(0.95)) is not None
    }


def _limit_ms(day_ms: float) -> float:
    return max(RATIO * day_ms, day_ms + SLOWER_MS)
