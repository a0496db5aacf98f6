"""A period and the one before it: of the same length, whole, and exactly so far apart."""

from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metrics_service.cli.periods import Against, PeriodError, Window, duration, periods, shift
from metrics_service.state.series.windows import RESOLUTIONS, ring_of, span_of

US = timedelta(microseconds=1)
NOW_US = 1_800_000_000_000_000


@given(
    st.integers(NOW_US, NOW_US + 7 * 86_400_000_000),
    st.sampled_from([10, 60, 600, 900, 3_600, 21_600, 86_400, 7 * 86_400, 14 * 86_400]),
    st.sampled_from([0, 10, 60, 3_600, 86_400, 7 * 86_400]),
    st.sampled_from(Against),
)
def test_both_are_kept_whole_and_alike(
    now_us: int, length_s: int, ended_s: int, against: Against
) -> None:
    window = Window(timedelta(seconds=length_s), timedelta(seconds=ended_s))
    try:
        now, before = periods(now_us, window, against)
    except PeriodError:
        # Beyond a day only whole hours are kept, and 30 days in all.
        back_s = ended_s + length_s + shift(timedelta(seconds=length_s), against).total_seconds()
        assert length_s % 3_600 or back_s + 3_600 > 30 * 86_400
        return
    spans = []
    for each in (now, before):
        assert each.length is not None
        length_us, ended_us = each.length // US, each.ended // US
        low_us, high_us = span_of(now_us, length_us, ended_us)
        assert high_us - low_us == length_s * 1_000_000
        # Up to the newest step that is over.
        assert high_us <= now_us - window.ended // US
        step_us = RESOLUTIONS[ring_of(length_us, ended_us)].step_us
        assert low_us % step_us == high_us % step_us == 0
        spans.append(low_us)
    assert (spans[0] - spans[1]) * US == shift(timedelta(seconds=length_s), against)
    assert now_us - window.ended // US - spans[0] - length_s * 1_000_000 < 3_600_000_000


def test_an_hour_that_is_not_over_is_not_compared_with_a_whole_one() -> None:
    day_us = 86_400_000_000
    now_us = NOW_US // day_us * day_us + 14 * 3_600_000_000 + 1_200_000_000
    now, before = periods(now_us, Window(timedelta(hours=1)), Against.WEEK)
    assert span_of(now_us, now.length // US, now.ended // US)[1] == now_us - 1_200_000_000  # type: ignore[operator]
    assert before.ended == timedelta(days=7, hours=1)


@pytest.mark.parametrize(
    ("words", "seconds"),
    [("90", 90), ("15m", 900), ("1h", 3_600), ("7d", 604_800), ("2w", 1_209_600)],
)
def test_durations(words: str, seconds: int) -> None:
    assert duration(words) == timedelta(seconds=seconds)


@pytest.mark.parametrize("words", ["", "0", "1x", "-1h", "1.5h", "1H", " 1h", "1" * 10])
def test_what_is_no_duration(words: str) -> None:
    with pytest.raises(PeriodError):
        duration(words)


def test_all_time_has_no_period_before() -> None:
    with pytest.raises(PeriodError):
        periods(NOW_US, Window(None), Against.PREVIOUS)
