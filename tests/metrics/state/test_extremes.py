"""No value of any field breaks the fold: every answer and every row can be written, numbers stay
exact in JSON, and what comes later counts as if nothing had been.
"""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from metrics_service.measure.sums import MAX_SUM
from metrics_service.state.fold import State
from metrics_service.state.queries.columns import MAX_DURATION_US, MAX_ROWS
from metrics_service.web.encode import Json, to_json
from protos.metrics.v1 import metrics_pb2
from tests.metrics.state import extreme
from tests.metrics.state.log import DAY, HOUR, MINUTE, NOW, SECOND, Fact, Log
from tests.sizes import size

WINDOWS = (None, MINUTE, HOUR, DAY, 30 * DAY)
Stats = metrics_pb2.GetQueryStatsRequest


def numbers(value: Json) -> list[float]:
    """Return all numbers of a JSON value."""
    if isinstance(value, dict):
        return [number for each in value.values() for number in numbers(each)]
    if isinstance(value, list):
        return [number for each in value for number in numbers(each)]
    return [value] if isinstance(value, int | float) else []


def written(state: State) -> list[bytes]:
    """Return every answer as bytes, after a check of its numbers."""
    answers = [
        *(state.metrics(window_us) for window_us in WINDOWS),
        state.funnel(),
        state.errors(),
        *(state.query_stats(Stats(group_by=group)) for group in Stats.GroupBy.values()),
        state.recent_queries(
            metrics_pb2.ListRecentQueriesRequest(limit=500, include_internal=True)
        ),
        state.slow_queries(metrics_pb2.ListSlowQueriesRequest(limit=500)),
    ]
    for answer in answers:
        for number in numbers(to_json(answer)):
            assert math.isfinite(number)
            assert abs(number) <= MAX_SUM
    return [answer.SerializeToString(deterministic=True) for answer in answers]


def check(log: Log) -> None:
    """Check that the state can be written, and is the same when it is read back or folded anew."""
    rows = list(log.state.dump())
    answers = written(log.state)
    loaded = State.load(rows)
    assert list(loaded.dump()) == rows
    assert written(loaded) == answers
    anew = State()
    for record in log.records:
        anew.apply(record)
    assert list(anew.dump()) == rows
    assert written(anew) == answers


def check_later_batches_count(log: Log) -> None:
    """Check that a good batch of each lane counts exactly."""
    log.jump(log.now_us + 2 * MINUTE)
    at = log.now_us
    before = log.state.metrics()
    log.append(
        log.fact(Fact.STARTED, at, "new", booking="new", hold_us=at),
        log.fact(Fact.CONFIRMED, at, "new", booking="new", confirm_us=at, amount=7, currency="XTS"),
        log.payment_failed(at),
        log.tally(at, 5, rpc="new", queries=10, most=4),
        log.define(77, "new.query"),
        log.queries([30, 50], fingerprint=77, rows=2),
    )
    after, last_minute = log.state.metrics(), log.state.metrics(MINUTE)
    assert after.quality.events - before.quality.events == 6
    assert after.business.confirmed - before.business.confirmed == 1
    assert {each.currency: each.gross_minor for each in after.business.revenue}["XTS"] == 7
    assert last_minute.errors.payment_failures == 1
    assert last_minute.errors.last_5_minutes >= 1
    assert ("new", 5, 10, 4) in [
        (each.rpc, each.calls, each.queries, each.max) for each in last_minute.performance.rpcs
    ]
    stats = log.state.query_stats(Stats(limit=500)).groups
    assert ("new.query", 2, 4, 0.08) in [
        (each.operation, each.total, each.rows, each.total_time_ms) for each in stats
    ]


@pytest.mark.parametrize("backfill", [False, True], ids=["live", "backfill"])
@pytest.mark.parametrize("body", extreme.bodies())
def test_no_value_of_a_field_breaks_the_fold(body: str, backfill: bool) -> None:
    log = Log()
    for path in extreme.fields(body):
        for variant in extreme.variants(body):
            for event in extreme.with_extremes(variant, path):
                log.append(event, event, backfill=backfill)
        log.now_us += 7 * SECOND
    quality = log.state.metrics().quality
    assert quality.events + quality.quarantined_events == 2 * len(log.records)
    assert quality.events
    check(log)
    check_later_batches_count(log)
    check(log)


@settings(max_examples=size(20, 1_000), deadline=None)
@given(st.data())
def test_no_values_together_break_the_fold(data: st.DataObject) -> None:
    log = Log()
    for _ in range(data.draw(st.integers(1, 6))):
        body = data.draw(st.sampled_from(extreme.bodies()))
        event = data.draw(st.sampled_from(list(extreme.variants(body))))
        for _ in range(data.draw(st.integers(0, 3))):
            path = data.draw(st.sampled_from(extreme.fields(body)))
            event = data.draw(st.sampled_from(list(extreme.with_extremes(event, path))))
        log.append(
            *[event] * data.draw(st.sampled_from([1, 50])), backfill=data.draw(st.booleans())
        )
        log.jump(log.now_us + data.draw(st.sampled_from([0, SECOND, 2 * MINUTE, DAY])))
    check(log)
    check_later_batches_count(log)


@pytest.mark.parametrize("column", ["rows", "execute_us", "pool_wait_us"])
def test_columns_that_add_up_beyond_an_int64_stop_at_the_bound(column: str) -> None:
    log = Log()
    count = size(300, 5_000)
    for _ in range(37):
        event = log.queries([100] * count)
        values = getattr(event.query_timings, column)
        values[:] = [MAX_ROWS if column == "rows" else MAX_DURATION_US] * count
        log.append(event)
    check(log)
    queries = log.state.metrics().performance.queries
    assert queries.total == 37 * count
    assert column != "rows" or queries.rows == MAX_SUM
    assert column != "execute_us" or queries.total_time_ms == MAX_SUM / 1000
    check_later_batches_count(log)


def test_failures_dated_far_ahead_do_not_hide_those_of_now() -> None:
    log = Log()
    ahead = log.payment_failed(NOW + 150 * 365 * DAY)
    ahead.event_id = b""
    for _ in range(22):
        log.append(*[ahead] * 5_000)
    log.append(*(log.payment_failed(NOW) for _ in range(50)))
    assert log.state.errors().last_5_minutes == 50
    log.append(*[ahead] * 5_000)
    assert log.state.errors().last_5_minutes == 50
    assert State.load(log.state.dump()).errors() == log.state.errors()
