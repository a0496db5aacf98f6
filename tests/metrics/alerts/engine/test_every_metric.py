"""Every metric that a rule may name is measured, with and without data."""

from __future__ import annotations

from dataclasses import replace

import pytest

from metrics_service.alerts.engine.watch import Watch
from metrics_service.alerts.rules.load import check
from metrics_service.alerts.rules.metrics import METRICS, WINDOWED
from metrics_service.state.fold import State
from protos.metrics.v1.health_pb2 import DatabaseHealth
from tests.metrics.alerts.engine.replay import Replay, Sessions
from tests.metrics.state.log import MINUTE

RULE = """
[[rule]]
name = "own"
severity = "info"
metric = "{metric}"
{condition}
{windows}
title = "A rule of one's own"
reason = "It is so."
action = "Look."
"""


def text_of(metric: str, condition: str) -> str:
    windows = 'windows = ["1h"]' if METRICS[metric].kind in WINDOWED else ""
    return RULE.format(metric=metric, condition=condition, windows=windows)


@pytest.mark.parametrize("metric", METRICS)
def test_a_rule_over_a_metric_is_measured(metric: str) -> None:
    (rule,) = check(text_of(metric, "above = 1_000_000").encode()).rules
    health = DatabaseHealth(status=DatabaseHealth.HEALTHY)
    watch = Watch([rule])
    assert watch.tick(State().watched, health) == []
    assert watch.faults == []
    replay = Replay([rule])
    replay.append(replay.define(1, "bookings.list"), replay.queries([1_500_000] * 5))
    replay.pass_minutes(60, Sessions())
    assert replay.events == []


@pytest.mark.parametrize(
    ("metric", "condition"),
    [
        ("bookings_confirmed", "below = 5"),
        ("query_p95", "above = 300"),
        ("failed_queries", "below = 1"),
        ("booking_time_p95", "above = 60_000"),
    ],
)
def test_counts_and_percentiles_are_judged_as_they_are(metric: str, condition: str) -> None:
    (rule,) = check(text_of(metric, condition).encode()).rules
    replay = Replay([replace(rule, min_samples=5)])
    replay.append(replay.define(1, "bookings.list"), replay.queries([400_000] * 5))
    replay.pass_minutes(10, Sessions(confirmed=1, took_us=2 * MINUTE))
    assert replay.changes("own") == ["fired"]
    (alert,) = replay.watch.machine.alerts()
    assert " over 1 h, line " in alert.summary
