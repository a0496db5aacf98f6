"""Values on both sides of a line, and on it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from metrics_service.alerts.engine.judge import (
    Interval,
    judge_intervals,
    judge_none,
    judge_value,
    mean,
    share,
)
from metrics_service.alerts.model import Rule, Verdict
from metrics_service.state.series.rings import HOUR_US

BELOW = Rule("low", "warning", "view_to_start", "below", 0.15, 0.165, "1", min_samples=10)
ABOVE = Rule("high", "warning", "form_abandonment", "above", 0.4, 0.36, "1", min_samples=10)
COUNT = Rule("many", "critical", "errors_in_5_minutes", "above", 10, 9)
TIME = Rule("slow", "warning", "query_mean", "above", 300_000, 270_000, "ms", min_samples=20)


def ratio(rule: Rule, *shares: tuple[int, int]) -> Verdict:
    """The verdict on windows of so many hours, each as (numerator, denominator)."""
    windows = (share((n + 1) * HOUR_US, *each) for n, each in enumerate(shares))
    return judge_intervals(rule, windows, ratio=True).verdict


@pytest.mark.parametrize(
    ("shares", "verdict"),
    [
        # Exactly 15% is healthy, however many there are; it is too little to resolve.
        ([(15, 100)], Verdict.BETWEEN),
        ([(150_000, 1_000_000)], Verdict.BETWEEN),
        ([(149_000, 1_000_000)], Verdict.BAD),
        # Chance is none: 1 of 10 is well within what 25% give.
        ([(1, 10)], Verdict.BETWEEN),
        ([(0, 9)], Verdict.UNKNOWN),
        ([(0, 10)], Verdict.BETWEEN),
        ([(0, 22)], Verdict.BAD),
        # The shortest window that decides.
        ([(1, 10), (3, 60)], Verdict.BAD),
        ([(60, 200), (3, 60)], Verdict.GOOD),
        ([(3, 60), (600, 2_000)], Verdict.BAD),
        # A longer window does not resolve what a shorter one contradicts.
        ([(4, 40), (600, 2_000)], Verdict.BETWEEN),
        ([(7, 40), (600, 2_000)], Verdict.GOOD),
        # None decides: the longest by its value.
        ([(3, 20), (5, 30)], Verdict.GOOD),
        ([(3, 20), (4, 26)], Verdict.BETWEEN),
        # Nothing has come of late: what is old says nothing.
        ([(0, 0), (3, 600)], Verdict.UNKNOWN),
        ([(1, 3), (3, 60)], Verdict.BAD),
    ],
)
def test_a_ratio_that_is_not_to_fall(shares: list[tuple[int, int]], verdict: Verdict) -> None:
    assert ratio(BELOW, *shares) is verdict


@pytest.mark.parametrize(
    ("shares", "verdict"),
    [
        ([(40, 100)], Verdict.BETWEEN),
        ([(6, 10)], Verdict.BETWEEN),
        ([(9, 10)], Verdict.BAD),
        ([(10, 100)], Verdict.GOOD),
        ([(36, 100)], Verdict.GOOD),
        ([(37, 100)], Verdict.BETWEEN),
    ],
)
def test_a_ratio_that_is_not_to_rise(shares: list[tuple[int, int]], verdict: Verdict) -> None:
    assert ratio(ABOVE, *shares) is verdict


@pytest.mark.parametrize(
    ("value", "verdict"),
    [(11, Verdict.BAD), (10, Verdict.BETWEEN), (9, Verdict.GOOD), (0, Verdict.GOOD)],
)
def test_a_count(value: float, verdict: Verdict) -> None:
    assert judge_value(COUNT, value).verdict is verdict


@pytest.mark.parametrize(
    ("samples", "value_ms", "deviation_ms", "verdict"),
    [
        (20, 300_000, 0, Verdict.BETWEEN),
        (20, 300_001, 0, Verdict.BAD),
        (19, 900_000, 0, Verdict.UNKNOWN),
        # 1.96 x 600 s / sqrt(20) = 263 s.
        (20, 560_000, 600_000, Verdict.BETWEEN),
        (20, 565_000, 600_000, Verdict.BAD),
        (20, 150_000, 60_000, Verdict.GOOD),
    ],
)
def test_a_mean(samples: int, value_ms: float, deviation_ms: float, verdict: Verdict) -> None:
    found: Interval = mean(HOUR_US, samples, value_ms, deviation_ms**2)
    assert judge_intervals(TIME, [found], ratio=False).verdict is verdict


def test_no_conversion_at_all_fires_without_waiting() -> None:
    rule = replace(BELOW, none_of=60)
    sample = judge_none(rule, share(HOUR_US // 2, 0, 60))
    assert sample is not None
    assert sample.urgent
    assert "0% (0 of 60) over 30 min, line 15%" in sample.summary
    assert judge_none(rule, share(HOUR_US // 2, 0, 59)) is None
    assert judge_none(rule, share(HOUR_US // 2, 1, 600)) is None
    assert judge_none(BELOW, share(HOUR_US // 2, 0, 600)) is None


def test_a_sample_says_value_parts_window_and_line() -> None:
    sample = judge_intervals(BELOW, [share(HOUR_US, 3, 60)], ratio=True)
    assert sample.summary == ": 5% (3 of 60) over 1 h, line 15%"
    assert sample.ratio is not None
    assert (sample.ratio.numerator, sample.ratio.denominator) == (3, 60)
    assert 0 < sample.ratio.low < 0.05 < sample.ratio.high < 0.15
    assert sample.window_us == HOUR_US
