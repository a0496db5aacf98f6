"""Figures are judged by the hour of the week, by set clocks: learning, two hours in a row, one
metric at a time.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final

import pytest

from metrics_service.alerts.engine import anomalies
from metrics_service.alerts.engine.anomalies import (
    NEEDED_DAYS,
    WATCHED,
    Watched,
    measure_anomalies,
    progress,
)
from metrics_service.alerts.model import Rule, Sample, Verdict
from metrics_service.state.business import BusinessCell
from metrics_service.state.errors import ErrorCell
from metrics_service.state.funnel.cell import FunnelCell
from metrics_service.state.history.series_metrics import METRICS
from metrics_service.state.queries.cell import QueryTotals
from metrics_service.state.series.rings import HOUR_US, MINUTE_US

RULE: Final = Rule("anomaly", "info", "anomaly", "above", line=1.0, resolve=0.9)
# Monday, 30 November 2026, 15 h: the last complete hour is 14 to 15 h.
NOW: Final = int(datetime(2026, 11, 30, 15, tzinfo=UTC).timestamp()) // 3600
LAST: Final = NOW - 1
EMPTY: Final = {
    "business": BusinessCell(),
    "errors": ErrorCell(),
    "query_totals": QueryTotals(),
}
VIEWS: Final = Watched("funnel_entered", "views")
STARTS: Final = Watched("view_to_start", "of views start a booking")


class Hours:
    """(views, starts) by the number of the hour; any other hour has those of `usual`."""

    def __init__(
        self,
        given: Mapping[int, tuple[int, int]],
        *,
        usual: tuple[int, int] = (100, 30),
        days: float = 30,
    ) -> None:
        self.as_of_us = NOW * HOUR_US
        self.read: list[int] = []
        self._given = given
        self._usual = usual
        self._oldest_us = round(LAST * HOUR_US - days * 24 * HOUR_US)

    def hour(self, table: str, time_us: int) -> Any:
        assert time_us >= self._oldest_us
        self.read.append(time_us // HOUR_US)
        if table in EMPTY:
            return EMPTY[table]
        cell = FunnelCell(4)
        cell.reached[:2] = self._given.get(time_us // HOUR_US, self._usual)
        return cell

    def oldest_hour_us(self, table: str) -> int | None:
        return self._oldest_us


def judged(hours: Hours, watched: Watched, monkeypatch: pytest.MonkeyPatch) -> Sample:
    monkeypatch.setattr(anomalies, "WATCHED", (watched,))
    (sample,) = measure_anomalies(RULE, hours).samples
    assert sample.labels == (("metric", watched.metric),)
    return sample


def test_a_fall_of_views_in_two_hours(monkeypatch: pytest.MonkeyPatch) -> None:
    sample = judged(Hours({LAST - 1: (12, 4), LAST: (12, 4)}), VIEWS, monkeypatch)
    assert sample.verdict is Verdict.BAD
    assert sample.summary == "12 views; Mondays 14 to 15 h: 100 to 100"
    assert sample.value == pytest.approx(1.76)


@pytest.mark.parametrize(
    ("before", "last", "verdict"),
    [
        (12, 12, Verdict.BAD),
        (200, 200, Verdict.BAD),
        (100, 12, Verdict.BETWEEN),
        (200, 12, Verdict.BETWEEN),
        (12, 52, Verdict.BETWEEN),
        (12, 100, Verdict.GOOD),
        (100, 100, Verdict.GOOD),
    ],
)
def test_it_takes_two_hours_on_one_side(
    before: int, last: int, verdict: Verdict, monkeypatch: pytest.MonkeyPatch
) -> None:
    hours = Hours({LAST - 1: (before, 0), LAST: (last, 0)})
    assert judged(hours, VIEWS, monkeypatch).verdict is verdict


def test_a_fall_of_a_ratio(monkeypatch: pytest.MonkeyPatch) -> None:
    hours = Hours({LAST - 1: (500, 50), LAST: (500, 50)})
    sample = judged(hours, STARTS, monkeypatch)
    assert sample.verdict is Verdict.BAD
    assert sample.summary.startswith("10% of views start a booking; Mondays 14 to 15 h: 27")
    hours = Hours({LAST - 1: (0, 0), LAST: (0, 0)})
    assert judged(hours, STARTS, monkeypatch).verdict is Verdict.UNKNOWN


@pytest.mark.parametrize(
    ("days", "said"),
    [(0, "learning, 0 of 14 days"), (9.5, "learning, 9 of 14 days"), (13.99, "13 of 14 days")],
)
def test_it_learns_for_two_weeks(days: float, said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    sample = judged(Hours({LAST: (0, 0), LAST - 1: (0, 0)}, days=days), VIEWS, monkeypatch)
    assert sample.verdict is Verdict.UNKNOWN
    assert said in sample.summary


@pytest.mark.parametrize(
    ("days", "said"),
    [(0, "learning, 0 of 14 days"), (9.5, "learning, 9 of 14 days"), (15, "judged")],
)
def test_the_progress_is_that_of_the_metric_known_least(days: float, said: str) -> None:
    hours = Hours({}, days=days)
    assert progress(hours) == said
    newest = {"errors": None}

    class Lacking(Hours):
        def oldest_hour_us(self, table: str) -> int | None:
            return newest.get(table, super().oldest_hour_us(table))

    assert progress(Lacking({}, days=days)) == "learning, 0 of 14 days"


def test_with_two_weeks_it_judges_by_what_there_is(monkeypatch: pytest.MonkeyPatch) -> None:
    hours = Hours({LAST: (0, 0), LAST - 1: (0, 0)}, days=NEEDED_DAYS)
    assert judged(hours, VIEWS, monkeypatch).verdict is Verdict.BAD
    assert min(hours.read) == LAST - NEEDED_DAYS * 24


def test_small_counts_are_well(monkeypatch: pytest.MonkeyPatch) -> None:
    hours = Hours({LAST: (0, 0), LAST - 1: (0, 0)}, usual=(19, 5))
    assert judged(hours, VIEWS, monkeypatch).verdict is Verdict.GOOD


def test_conversions_are_judged_once_they_are_final(monkeypatch: pytest.MonkeyPatch) -> None:
    (after_us,) = {each.after_us for each in WATCHED if each.metric == "view_to_start"}
    assert after_us == 40 * MINUTE_US
    watched = Watched("view_to_start", "of views start a booking", MINUTE_US // 2)
    hours = Hours({LAST: (500, 0), LAST - 1: (500, 0)})
    assert judged(hours, watched, monkeypatch).verdict is Verdict.BETWEEN
    assert max(hours.read) == LAST - 1
    hours.as_of_us += MINUTE_US // 2
    assert judged(hours, watched, monkeypatch).verdict is Verdict.BAD


def test_each_minute_of_an_hour_judges_one_metric() -> None:
    hours = Hours({})
    found = []
    for _ in range(60):
        measured = measure_anomalies(RULE, hours)
        assert measured.absent is Verdict.UNKNOWN
        found += [dict(sample.labels)["metric"] for sample in measured.samples]
        hours.as_of_us += MINUTE_US
    assert found == [each.metric for each in WATCHED]


def test_every_metric_can_be_charted() -> None:
    assert {each.metric for each in WATCHED} <= METRICS.keys()
