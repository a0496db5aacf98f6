"""The lines that were asked for, on both sides, through the fold."""

from __future__ import annotations

import pytest

from protos.metrics.v1.health_pb2 import DatabaseHealth
from tests.metrics.alerts.engine.replay import Replay, Sessions
from tests.metrics.state.log import MINUTE, SECOND

FIVE_MINUTES = 300 * SECOND


def eleven_errors(spread_us: int, late_us: int = 0, batch: bool = False) -> list[str]:
    """What becomes of eleven errors, the first and the last so far apart. late_us: how late they
    arrive; batch: all at once, with the last.
    """
    replay = Replay()
    begun_us = replay.now_us
    times = [begun_us + spread_us * number // 10 for number in range(11)]
    errors = [replay.refused(time_us) for time_us in times]
    if batch:
        replay.now_us = times[-1] + late_us
        replay.append(*errors)
    else:
        for time_us, error in zip(times, errors, strict=True):
            replay.now_us = time_us + late_us
            replay.append(error)
    replay.jump(replay.now_us + SECOND)
    return replay.changes("high_error_rate")


@pytest.mark.parametrize("batch", [False, True])
@pytest.mark.parametrize("late_us", [0, 400_000, 2 * SECOND])
def test_the_eleventh_error_within_five_minutes_fires(late_us: int, batch: bool) -> None:
    assert eleven_errors(FIVE_MINUTES - 1_000, late_us, batch) == ["fired"]
    assert eleven_errors(FIVE_MINUTES, late_us, batch) == []


def test_it_fires_at_once_and_goes_on_for_five_minutes() -> None:
    replay = Replay()
    replay.append(*[replay.refused(replay.now_us) for _ in range(10)])
    replay.tick(replay.now_us + 10 * SECOND)
    assert replay.changes("high_error_rate") == []
    replay.append(replay.refused(replay.now_us))
    replay.tick(replay.now_us + SECOND)
    assert replay.changes("high_error_rate") == ["fired"]
    fired_us = replay.now_us
    while "resolved" not in replay.changes("high_error_rate"):
        replay.jump(replay.now_us + 10 * SECOND)
    assert 9 * MINUTE < replay.now_us - fired_us < 12 * MINUTE


def test_sold_out_is_no_error() -> None:
    replay = Replay()
    replay.append(*[replay.refused(replay.now_us, "SOLD_OUT", counts=False) for _ in range(50)])
    replay.pass_minutes(1)
    assert replay.changes("high_error_rate") == []


def test_exactly_fifteen_percent_of_views_is_healthy() -> None:
    replay = Replay()
    replay.pass_minutes(240, Sessions(started=3, completed=3, confirmed=3))
    assert replay.changes("view_to_start") == []


def test_exactly_ten_failed_queries_are_healthy() -> None:
    replay = Replay()
    for failed, changes in ((10, []), (11, ["fired"]), (10, []), (9, ["resolved"])):
        health = DatabaseHealth(status=DatabaseHealth.DEGRADED)
        health.figures.failed = failed
        replay.judge(health)
        assert replay.changes("failed_queries") == changes


def test_exactly_a_second_is_not_slow() -> None:
    replay = Replay()
    replay.append(replay.define(1, "bookings.list"), replay.queries([1_000_000]))
    replay.pass_minutes(1)
    assert replay.changes("slow_query") == []
    replay.append(replay.queries([1_000_001]))
    replay.pass_minutes(1)
    assert replay.changes("slow_query") == ["fired"]


def test_a_slow_fingerprint_is_told_once_in_five_minutes() -> None:
    replay = Replay()
    replay.append(replay.define(1, "bookings.list"), replay.define(2, "bookings.get"))
    for _ in range(4):
        replay.append(replay.queries([2 * SECOND]), replay.queries([3 * SECOND], fingerprint=2))
        replay.pass_minutes(1)
    assert replay.changes("slow_query") == ["fired", "fired"]
    replay.pass_minutes(6)
    assert replay.changes("slow_query") == ["resolved", "resolved"]
    replay.append(replay.queries([2 * SECOND]))
    replay.pass_minutes(1)
    assert replay.changes("slow_query") == ["fired"]


def test_a_regression_is_the_new_normal_after_a_day() -> None:
    replay = Replay()
    for minute in range(60):
        replay.append(
            replay.define(1, "bookings.list"),
            replay.queries([20_000 if minute < 50 else 200_000] * 30),
        )
        replay.pass_minutes(1)
    assert replay.changes("query_regression") == ["fired"]
    for _ in range(25):
        replay.append(replay.queries([200_000] * 200))
        replay.jump(replay.now_us + 60 * MINUTE)
    assert replay.changes("query_regression") == ["resolved"]
    assert "new normal" in replay.seen[-1].alert.summary
