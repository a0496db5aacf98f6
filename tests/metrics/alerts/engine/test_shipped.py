"""Each shipped rule over a replayed log: it fires, holds, stays without data, and resolves.
Folding the log again gives the same alerts.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import pytest

from protos.metrics.v1 import alert_pb2
from protos.metrics.v1.health_pb2 import DatabaseHealth
from tests.metrics.alerts.engine.replay import SHIPPED, Replay, Sessions, again
from tests.metrics.state.log import HOUR, MINUTE, SECOND

Act = Callable[[Replay], None]
GOOD = Sessions()


@dataclass(frozen=True)
class Scenario:
    """What makes a rule fire, what is well, and what leaves nothing to judge. missing: whether that
    is an alert of its own.
    """

    bad: Act
    good: Act
    nothing: Act
    missing: bool = False


def minutes(count: int) -> Act:
    return lambda replay: replay.pass_minutes(count)


def of_sessions(**bad: int) -> Scenario:
    """A rule over what becomes of sessions."""
    return Scenario(
        lambda replay: replay.pass_minutes(110, replace(GOOD, **bad)),
        lambda replay: replay.pass_minutes(110, GOOD),
        lambda replay: replay.pass_hours(30),
        missing=True,
    )


def of_health(criterion: str) -> Scenario:
    """A rule over an issue of health; a verdict of nothing known leaves nothing to judge."""
    return Scenario(
        lambda replay: replay.unwell(criterion, "booking-1"),
        lambda replay: replay.judge(DatabaseHealth(status=DatabaseHealth.HEALTHY)),
        of_the_log_unknown if criterion in ("log", "lead_lost") else unknown,
    )


def unknown(replay: Replay) -> None:
    replay.unwell("heartbeat", "booking-1", "STALE")
    replay.judge(DatabaseHealth())


def of_the_log_unknown(replay: Replay) -> None:
    """Nothing is known of a log without a verdict on it."""
    before = replay.health
    replay.health = DatabaseHealth(status=DatabaseHealth.STARTING)
    replay.jump(replay.now_us + SECOND)
    replay.health = before


def many_errors(replay: Replay) -> None:
    replay.append(*[replay.refused(replay.now_us) for _ in range(11)])
    replay.pass_minutes(4)


def errors_of_rpcs(failed: int) -> Act:
    """100 RPCs each half hour, for eight hours."""

    def act(replay: Replay) -> None:
        for _ in range(16):
            refused = [replay.refused(replay.now_us) for _ in range(failed)]
            replay.append(replay.tally(replay.now_us, 100 - failed, failed), *refused)
            replay.jump(replay.now_us + HOUR // 2)

    return act


def slow_query(replay: Replay) -> None:
    replay.append(replay.define(1, "bookings.list"), replay.queries([1_000_001]))
    replay.pass_minutes(4)


def queries(execute_us: int, minutes: int) -> Act:
    def act(replay: Replay) -> None:
        for _ in range(minutes):
            replay.append(replay.define(1, "bookings.list"), replay.queries([execute_us] * 30))
            replay.pass_minutes(1)

    return act


def failed(count: int) -> Act:
    def act(replay: Replay) -> None:
        health = DatabaseHealth(status=DatabaseHealth.DEGRADED)
        health.figures.failed = count
        replay.judge(health)

    return act


def crowd(replay: Replay) -> None:
    """More slow fingerprints than the rule has places for."""
    for number in range(30):
        replay.append(
            replay.define(number, f"bookings.list_{number}"),
            replay.queries([2_000_000], fingerprint=number),
        )
    replay.pass_minutes(1)


def hourly(queries: int, hours: int) -> Callable[[Replay], None]:
    """So many queries in each hour, which is judged in minute 4 of the next one."""

    def act(replay: Replay) -> None:
        for _ in range(hours):
            replay.jump(replay.now_us // HOUR * HOUR + HOUR)
            if queries:
                replay.append(replay.queries([1_000] * queries))
            replay.jump(replay.now_us + 4 * MINUTE)

    return act


SCENARIOS = {
    "high_error_rate": Scenario(many_errors, minutes(12), minutes(0)),
    "error_ratio": Scenario(
        errors_of_rpcs(5), errors_of_rpcs(0), lambda replay: replay.pass_hours(30)
    ),
    "view_to_start": of_sessions(started=2, completed=2, confirmed=2),
    "start_to_complete": of_sessions(completed=2, confirmed=2),
    "complete_to_confirm": of_sessions(confirmed=2),
    "overall_conversion": of_sessions(confirmed=1),
    "form_abandonment": of_sessions(abandoned=4, completed=2, confirmed=2),
    "avg_booking_time": of_sessions(took_us=9 * MINUTE),
    "slow_query": Scenario(slow_query, minutes(2), minutes(0)),
    "query_regression": Scenario(
        queries(200_000, 12), queries(20_000, 60), lambda replay: replay.pass_hours(2)
    ),
    "failed_queries": Scenario(failed(11), failed(0), unknown),
    "database_unhealthy": of_health("p99_ms"),
    "ingest_stalled": Scenario(
        lambda replay: replay.unwell("heartbeat", "booking-1", "STALE"),
        lambda replay: replay.judge(DatabaseHealth(status=DatabaseHealth.HEALTHY)),
        lambda replay: replay.judge(DatabaseHealth()),
    ),
    "log_unwritable": of_health("log"),
    "lead_lost": of_health("lead_lost"),
    "facts_undelivered": of_health("undelivered"),
    "facts_without_leader": of_health("no_leader"),
    "facts_forked": of_health("forked"),
    "facts_withheld": of_health("withheld"),
    "facts_fenced": of_health("fenced"),
    "anomaly": Scenario(hourly(0, 3), hourly(30, 16 * 24), minutes(2)),
    "alerts_overflow": Scenario(crowd, minutes(12), minutes(0)),
}


def test_every_shipped_rule_has_a_scenario() -> None:
    assert SCENARIOS.keys() == {rule.name for rule in SHIPPED}


@pytest.mark.parametrize("name", SCENARIOS)
def test_a_rule_fires_holds_keeps_its_state_without_data_and_resolves(name: str) -> None:
    scenario, replay = SCENARIOS[name], Replay()
    scenario.good(replay)
    assert replay.changes(name) == []
    scenario.bad(replay)
    assert replay.changes(name) == ["fired"]
    (alert,) = [each for each in replay.watch.machine.alerts() if each.rule == name]
    assert alert.state == alert_pb2.ALERT_STATE_FIRING
    assert alert.summary
    scenario.bad(replay)
    assert replay.changes(name) == []
    scenario.nothing(replay)
    assert replay.changes(name) == (["no_data"] if scenario.missing else [])
    scenario.good(replay)
    ended = replay.changes(name)
    assert ended[-1] == "resolved"
    assert set(ended) <= {"recovering", "fired_again", "resolved"}
    scenario.nothing(replay)
    assert "fired" not in replay.changes(name)
    assert again(replay) == replay.seen
    assert again(replay, restarts=3) == replay.seen
