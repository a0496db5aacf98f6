"""Each item of a deployment's report at its boundary, and its verdicts."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

import pytest

from metrics_service.alerts.deployments.hours import MATURE_US, Fired, Watch
from metrics_service.alerts.deployments.items import (
    MIN_SAMPLES,
    conversion,
    critical_alerts,
    error_rate,
    query_p95,
    query_p99,
    slow_queries,
)
from metrics_service.state.series.rings import HOUR_US
from protos.metrics.v1.deployment_pb2 import DeploymentItem, DeploymentReport
from tests.metrics.alerts.deployments.watches import (
    BEGIN_US,
    DEPLOYED_US,
    END_US,
    Hours,
    good,
    hour,
    watch,
)

PASS, FAIL = DeploymentReport.PASS, DeploymentReport.FAIL
RUNNING, TOO_LITTLE = DeploymentReport.RUNNING, DeploymentReport.TOO_LITTLE_DATA

Item = Callable[[Watch], DeploymentItem]


def at(number: int, bad: Hours) -> Callable[[int], Hours]:
    """Good hours, and one that is not."""
    return lambda each: bad if each == number else good(each)


# One value alone gives it back exactly, since the greatest value is kept.
@pytest.mark.parametrize(
    ("item", "ms", "verdict"),
    [
        (query_p95, 299.999, PASS),
        (query_p95, 300.0, FAIL),
        (query_p99, 499.999, PASS),
        (query_p99, 500.0, FAIL),
    ],
)
def test_a_percentile_stays_below_its_line(item: Item, ms: float, verdict: int) -> None:
    judged = item(watch(lambda number: hour(number, ms={ms: 200})))
    assert judged.verdict == verdict
    assert judged.observed == judged.worst == pytest.approx(ms)
    assert (judged.unit, judged.samples) == ("ms", 72 * 200)


@pytest.mark.parametrize(("item", "ms"), [(query_p95, 400), (query_p99, 600)])
def test_a_percentile_stays_below_its_line_in_the_worst_hour_too(item: Item, ms: float) -> None:
    judged = item(watch(at(30, hour(30, ms={ms: MIN_SAMPLES}))))
    assert judged.verdict == FAIL
    assert judged.observed < 50
    assert judged.worst == pytest.approx(ms)
    assert judged.worst_hour.ToMicroseconds() == BEGIN_US + 30 * HOUR_US
    assert judged.before == pytest.approx(5 if item is query_p95 else 40, rel=0.01)
    began = datetime.fromtimestamp((BEGIN_US + 30 * HOUR_US) / 1e6, UTC)
    assert f"{ms} ms in the hour of {began:%Y-%m-%d %H:%M} UTC" in judged.summary


def test_an_hour_of_few_queries_is_no_worst_hour() -> None:
    judged = query_p95(watch(at(30, hour(30, ms={400: MIN_SAMPLES - 1}))))
    assert (judged.verdict, judged.worst_hour.ToMicroseconds()) == (PASS, BEGIN_US)


@pytest.mark.parametrize(("slow", "verdict"), [(9, PASS), (10, FAIL)])
def test_no_hour_has_ten_slow_queries(slow: int, verdict: int) -> None:
    judged = slow_queries(watch(at(71, hour(71, ms={600: slow}, slow=slow))))
    assert (judged.verdict, judged.observed, judged.worst, judged.before) == (
        verdict,
        slow,
        slow,
        1,
    )
    assert judged.worst_hour.ToMicroseconds() == BEGIN_US + 71 * HOUR_US


# Wilson's upper bound of 0 in 380 is 1.0008%, and of 0 in 381 it is 0.9982%.
@pytest.mark.parametrize(
    ("errors", "writes", "verdict"),
    [
        (0, 380, TOO_LITTLE),
        (0, 381, PASS),
        (60, 10_000, PASS),
        (100, 10_000, TOO_LITTLE),
        (122, 10_000, FAIL),
        (99, 99, TOO_LITTLE),
        (100, 100, FAIL),
    ],
)
def test_the_error_rate_is_judged_by_its_bounds(errors: int, writes: int, verdict: int) -> None:
    judged = error_rate(watch([hour(0, errors=(errors, writes))]))
    assert (judged.verdict, judged.samples) == (verdict, writes)
    assert judged.observed == judged.worst == pytest.approx(errors / writes)
    assert judged.low <= judged.observed <= judged.high
    assert judged.before == pytest.approx(0.001)


@pytest.mark.parametrize(
    ("converted", "entered", "verdict"),
    [
        (1700, 10_000, PASS),
        (1500, 10_000, TOO_LITTLE),
        (1400, 10_000, FAIL),
        (99, 99, TOO_LITTLE),
        (0, 99, TOO_LITTLE),
        (0, 100, FAIL),
        (100, 100, PASS),
    ],
)
def test_the_conversion_is_judged_by_its_bounds(converted: int, entered: int, verdict: int) -> None:
    judged = conversion(watch([hour(0, actors=(converted, entered))]))
    assert (judged.verdict, judged.samples, judged.before) == (verdict, entered, 0.25)


def test_the_worst_hour_of_a_ratio_is_the_surest_one() -> None:
    hours = [
        hour(0, errors=(3, 100), actors=(0, 2)),
        hour(1, errors=(20, 1000), actors=(20, 200)),
        hour(2, errors=(0, 0), actors=(0, 0)),
    ]
    assert error_rate(watch(hours)).worst_hour.ToMicroseconds() == BEGIN_US + HOUR_US
    assert conversion(watch(hours)).worst_hour.ToMicroseconds() == BEGIN_US + HOUR_US


def test_only_final_conversions_are_judged() -> None:
    bad_end = at(71, hour(71, actors=(0, 20_000)))
    early = conversion(watch(bad_end, as_of_us=END_US + MATURE_US - 1))
    assert (early.verdict, early.observed) == (RUNNING, 0.25)
    assert conversion(watch(bad_end)).verdict == FAIL


def test_a_critical_alert_that_fires_within_the_72_hours_fails() -> None:
    alerts = [Fired("ingest_stalled", DEPLOYED_US - 1), Fired("slow", END_US)]
    judged = critical_alerts(watch(good, alerts=alerts))
    assert (judged.verdict, judged.observed, judged.before) == (PASS, 0, 1)
    for fired_us in (DEPLOYED_US, END_US - 1):
        judged = critical_alerts(watch(good, alerts=[Fired("high_error_rate", fired_us)]))
        assert (judged.verdict, judged.observed) == (FAIL, 1)
        assert "high_error_rate" in judged.summary


def test_without_records_of_alerts_nothing_is_said_of_them() -> None:
    judged = critical_alerts(watch(good, recorded=False))
    assert (judged.verdict, judged.HasField("observed")) == (TOO_LITTLE, False)


ITEMS = [query_p95, query_p99, slow_queries, error_rate, conversion, critical_alerts]
BAD: dict[Item, Hours] = {
    query_p95: hour(3, ms={301: 200}),
    query_p99: hour(3, ms={1: 190, 501: 10}),
    slow_queries: hour(3, ms={501: 10}, slow=10),
    error_rate: hour(3, errors=(50, 100)),
    conversion: hour(3, actors=(1, 500)),
}


@pytest.mark.parametrize("item", BAD)
def test_an_item_fails_early(item: Item) -> None:
    at_four = BEGIN_US + 4 * HOUR_US + MATURE_US
    assert item(watch([BAD[item]], as_of_us=at_four)).verdict == FAIL


@pytest.mark.parametrize("item", ITEMS)
def test_an_item_passes_only_at_the_end(item: Item) -> None:
    assert item(watch(good, as_of_us=END_US - 1)).verdict == RUNNING
    assert item(watch(good)).verdict == PASS


@pytest.mark.parametrize("item", ITEMS[:-1])
def test_without_data_nothing_passes(item: Item) -> None:
    judged = item(watch([]))
    assert (judged.verdict, judged.samples) == (TOO_LITTLE, 0)
    assert not judged.HasField("observed")
    assert not judged.HasField("worst_hour")
    assert item(watch([], as_of_us=DEPLOYED_US)).verdict == RUNNING


@pytest.mark.parametrize("item", ITEMS)
def test_hours_that_are_not_kept_let_nothing_pass(item: Item) -> None:
    judged = item(watch(good, missing=12))
    assert judged.verdict == TOO_LITTLE
    assert "12 of the 72 hours are not kept" in judged.summary
