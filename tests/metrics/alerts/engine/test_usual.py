"""An hour is unusual beside the same hour of the week, at each boundary of the rule."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

import pytest

from metrics_service.alerts.engine.usual import (
    DEVIATIONS,
    HOURS_A_WEEK,
    Found,
    Part,
    hours_of,
    judge_count,
    judge_ratio,
    learning,
    sentence,
)

# Monday, 30 November 2026, 14 to 15 h.
HOUR = int(datetime(2026, 11, 30, 14, tzinfo=UTC).timestamp()) // 3600


def test_the_usual_hours_are_the_same_of_the_week_and_their_neighbours() -> None:
    hours = hours_of(HOUR)
    assert len(hours) == 12
    assert hours[:3] == [HOUR - HOURS_A_WEEK + shift for shift in (1, 0, -1)]
    times = [datetime.fromtimestamp(hour * 3600, UTC) for hour in hours]
    assert {(time.strftime("%A"), time.hour) for time in times} == {
        ("Monday", 13),
        ("Monday", 14),
        ("Monday", 15),
    }


# Of a median of 100 without deviations: 50 is half of it; 3 roots of 100 are 30.
@pytest.mark.parametrize(
    ("value", "deviation"), [(100, 0), (150, 1), (151, 1.02), (50, -1), (49, -1.02), (0, -2)]
)
def test_half_of_the_median_is_the_limit_of_regular_hours(value: int, deviation: float) -> None:
    found = judge_count(value, [100] * 12)
    assert found is not None
    assert found.deviation == pytest.approx(deviation)


@pytest.mark.parametrize(
    ("usual", "limit"),
    [
        ([80, 90, 100, 110, 120], DEVIATIONS * 10),
        ([20] * 5, 3 * 20**0.5),
        ([100] * 5, 50),
    ],
    ids=["deviation", "root", "half"],
)
def test_the_widest_of_three_limits_counts(usual: Sequence[int], limit: float) -> None:
    middle = sorted(usual)[2]
    for value in (middle + limit, middle - limit):
        found = judge_count(value, usual)
        assert found is not None
        assert abs(found.deviation) == pytest.approx(1)
    assert found is not None
    assert (found.low, found.high) == (min(usual), max(usual))


def test_small_counts_are_never_unusual() -> None:
    assert judge_count(1000, [19] * 12) is None
    assert judge_count(1000, [20] * 12) is not None
    assert judge_count(1000, []) is None


@pytest.mark.parametrize(
    ("part", "deviation"),
    [
        (Part(250, 1000), 0),
        # Intervals that touch: 25% of 12,000 is 24.2 to 25.8%.
        (Part(225, 1000), 0),
        # Disjoint, and changed by 16% only.
        (Part(2100, 10_000), -0.8),
        (Part(2000, 10_000), -1),
        (Part(1500, 10_000), -2),
        (Part(4, 10), 0),
        (Part(5000, 10_000), 5),
    ],
)
def test_a_ratio_is_unusual_beyond_both_intervals_and_a_fifth(part: Part, deviation: float) -> None:
    found = judge_ratio(part, [Part(250, 1000)] * 12)
    assert found is not None
    assert found.deviation == pytest.approx(deviation)


def test_a_ratio_needs_samples_now_and_then() -> None:
    assert judge_ratio(Part(0, 0), [Part(1, 10)]) is None
    assert judge_ratio(Part(1, 10), []) is None
    never = judge_ratio(Part(500, 1000), [Part(0, 1000)] * 12)
    assert never is not None
    assert never.deviation > 1


def test_the_texts() -> None:
    found = Found(12, 80, 140, -1.5)
    assert sentence("views", "count", HOUR, found) == "12 views; Mondays 14 to 15 h: 80 to 140"
    found = Found(0.1, 0.25, 0.31, -3)
    said = sentence("of views start a booking", "1", HOUR - 15, found)
    assert said == "10% of views start a booking; Sundays 23 to 24 h: 25% to 31%"
    assert learning(9, 14) == "learning, 9 of 14 days"
