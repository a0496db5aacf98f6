"""The verdict of a deployment, and the hours it is made from."""

from __future__ import annotations

from typing import Any

import pytest

from metrics_service.alerts.deployments.hours import HOURS, Fired, HourReader
from metrics_service.alerts.deployments.report import report
from metrics_service.state.series.rings import HOUR_US, MINUTE_US, SECOND_US
from protos.metrics.v1.deployment_pb2 import Deployment, DeploymentReport
from tests.metrics.alerts.deployments.watches import (
    BEGIN_US,
    DEPLOYED_US,
    END_US,
    good,
    hour,
    watch,
)
from tests.metrics.state.log import Fact, Log

DEPLOYMENT = Deployment(version="v1")


@pytest.mark.parametrize(
    ("given", "verdict"),
    [
        (watch(good), "PASS"),
        (watch(good, as_of_us=END_US), "RUNNING"),
        (watch(good, alerts=[Fired("x", END_US - 1)], as_of_us=END_US - 1), "FAIL"),
        (watch(good, recorded=False), "TOO_LITTLE_DATA"),
        (watch([hour(0)]), "TOO_LITTLE_DATA"),
        (watch([hour(0, slow=10, ms={600: 10})]), "FAIL"),
    ],
)
def test_the_verdict_is_the_worst_of_its_items(given: Any, verdict: str) -> None:
    answer = report(DEPLOYMENT, given)
    assert DeploymentReport.Verdict.Name(answer.verdict) == verdict
    assert [item.name for item in answer.items] == [
        "query_p95",
        "query_p99",
        "slow_queries",
        "error_rate",
        "conversion",
        "critical_alerts",
    ]
    assert all(item.summary and item.target and item.unit for item in answer.items)
    assert answer.as_of.ToMicroseconds() == given.as_of_us
    assert answer.end_time.ToMicroseconds() == END_US


def read(log: Log, deployed_us: int) -> HourReader:
    reader = HourReader(log.state.hour, deployed_us, log.state.as_of_us)
    for _ in reader.steps():
        pass
    return reader


def test_the_hours_are_those_of_the_state() -> None:
    """Also the hour of now, and what arrives late for one that is closed."""
    log = Log(BEGIN_US - 2 * HOUR_US)
    log.append(log.queries([1_000, 600_000]), log.queries([9_000_000], internal=True))
    log.jump(DEPLOYED_US)
    log.append(log.refused(log.now_us), log.tally(log.now_us, ok=7, refused=1))
    log.append(log.refused(log.now_us, "SOLD_OUT", counts=False))
    log.jump(BEGIN_US + 5 * HOUR_US)
    at_us = log.now_us
    log.append(
        log.view(at_us),
        log.fact(Fact.STARTED, at_us + 1, hold_us=at_us + 1),
        log.fact(Fact.COMPLETED, at_us + 2),
        log.fact(Fact.CONFIRMED, at_us + 3, confirm_us=at_us + 3),
        log.view(at_us, "another"),
        log.queries([700_000], at_us=BEGIN_US + 30 * MINUTE_US),
    )
    found = read(log, DEPLOYED_US).watch([])
    assert [each.begin_us for each in found.after] == [
        BEGIN_US + number * HOUR_US for number in range(5)
    ]
    log.jump(at_us + SECOND_US)
    found = read(log, DEPLOYED_US).watch([])
    assert (len(found.before), len(found.after), found.missing) == (72, 6, 0)
    before, first, last = found.before[-2], found.after[0], found.after[5]
    assert (before.queries, before.slow) == (2, 1)
    assert (first.errors, first.writes, first.queries, first.slow) == (1, 8, 1, 1)
    assert (last.entered, last.converted) == (2, 1)
    assert (found.times_before.count, found.times_after.count) == (2, 1)
    assert sum(each.entered for each in (*found.before, *found.after)) == 2


@pytest.mark.parametrize("missing", [0, 12, HOURS])
def test_hours_before_the_first_that_is_kept_are_missing(missing: int) -> None:
    log = Log(BEGIN_US)
    log.append(log.queries([1_000] * 200))
    log.jump(END_US)
    reader = HourReader(log.state.hour, DEPLOYED_US, END_US, kept_us=BEGIN_US + missing * HOUR_US)
    for _ in reader.steps():
        pass
    found = reader.watch([])
    assert (found.missing, len(found.before), len(found.after)) == (missing, 0, HOURS - missing)
    assert found.times_after.count == (0 if missing else 200)


def test_hours_that_have_not_begun_are_not_missing() -> None:
    log = Log(BEGIN_US)
    found = read(log, log.now_us + HOUR_US).watch([])
    assert (found.missing, found.after) == (0, [])
