"""Query statistics: what counts as what, exact thresholds, and tables that stay bounded."""

from __future__ import annotations

import random

import pytest

from metrics_service.state.queries import stats
from metrics_service.state.queries.columns import MAX_DURATION_US
from metrics_service.state.queries.fingerprints import MAX_TRACKED
from metrics_service.state.series.rings import WindowError
from protos.metrics.v1 import metrics_pb2
from protos.tracking.v1 import event_pb2
from tests.metrics.state.log import DAY, HOUR, MINUTE, NOW, SECOND, Log

Request = metrics_pb2.GetQueryStatsRequest
OK = event_pb2.QUERY_OUTCOME_OK
ERROR = event_pb2.QUERY_OUTCOME_ERROR
MS = 1_000


def stats_of(
    log: Log,
    group_by: metrics_pb2.GetQueryStatsRequest.GroupBy.ValueType = Request.OPERATION,
    order_by: metrics_pb2.GetQueryStatsRequest.OrderBy.ValueType = Request.TOTAL_TIME,
    window_us: int | None = None,
    limit: int = 0,
) -> metrics_pb2.GetQueryStatsResponse:
    request = Request(group_by=group_by, order_by=order_by, limit=limit)
    if window_us is not None:
        request.window.FromMicroseconds(window_us)
    return log.state.query_stats(request)


@pytest.mark.parametrize(
    ("outcome", "sqlstate", "figure", "timed"),
    [
        (OK, "", "", True),
        (ERROR, "23505", "errors", True),
        (ERROR, "40001", "errors", True),
        (ERROR, "55P03", "errors", True),
        (ERROR, "42601", "errors", True),
        (ERROR, "08006", "failed", True),
        (ERROR, "53300", "failed", True),
        (ERROR, "57P01", "failed", True),
        (ERROR, "58030", "failed", True),
        (ERROR, "XX000", "failed", True),
        (ERROR, "", "errors", True),
        (event_pb2.QUERY_OUTCOME_TIMEOUT, "", "failed", True),
        (event_pb2.QUERY_OUTCOME_CONNECTION_LOST, "", "failed", True),
        (event_pb2.QUERY_OUTCOME_CANCELLED, "57014", "cancelled", False),
        (event_pb2.QUERY_OUTCOME_MISUSE, "", "misuse", False),
        (event_pb2.QUERY_OUTCOME_UNSPECIFIED, "", "", False),
    ],
)
def test_outcomes(
    outcome: event_pb2.QueryOutcome.ValueType, sqlstate: str, figure: str, timed: bool
) -> None:
    log = Log()
    log.append(log.queries([700 * MS, 3 * MS], outcome=outcome, sqlstate=sqlstate, rows=2))
    total = stats_of(log).total
    figures = {name: getattr(total, name) for name in ("failed", "errors", "cancelled", "misuse")}
    assert figures == {name: 2 if name == figure else 0 for name in figures}
    assert (total.total, total.rows) == (2, 4)
    # Durations of cancelled and misused queries do not describe the database.
    assert (total.execute.count, total.pool_wait.count) == ((2, 2) if timed else (0, 0))
    assert total.slow_warning == int(timed)


@pytest.mark.parametrize(
    ("execute_us", "warning", "critical"),
    [
        (500_000, 0, 0),
        (500_001, 1, 0),
        (1_000_000, 1, 0),
        (1_000_001, 0, 1),
        (2_000_000, 0, 1),
        (2_000_001, 0, 1),
    ],
)
def test_slow_is_counted_exactly(execute_us: int, warning: int, critical: int) -> None:
    log = Log()
    log.append(log.queries([execute_us]))
    total = stats_of(log).total
    assert (total.slow_warning, total.slow_critical) == (warning, critical)


def test_internal_queries_are_counted_separately() -> None:
    log = Log()
    log.append(
        log.define(1, "bookings.get"),
        log.queries([10 * MS]),
        log.queries([900 * MS] * 3, fingerprint=2, internal=True),
    )
    answer = stats_of(log)
    assert (answer.total.total, answer.internal.total) == (1, 3)
    assert (answer.total.slow_warning, answer.internal.slow_warning) == (0, 3)
    assert [group.operation for group in answer.groups] == ["bookings.get"]
    assert log.state.metrics().performance.queries.total == 1


def test_percentiles_of_an_operation_are_within_one_percent() -> None:
    dice = random.Random(5)
    values = sorted(int(dice.lognormvariate(9, 1)) for _ in range(2_000))
    log = Log()
    log.append(log.define(1, "bookings.get"))
    for start in range(0, 2_000, 100):
        log.append(log.queries(dice.sample(values[start : start + 100], 100), pool_wait_us=40))
    (group,) = stats_of(log).groups
    assert group.execute.count == 2_000
    for answered, rank in [
        (group.execute.p50_ms, 1_000),
        (group.execute.p90_ms, 1_800),
        (group.execute.p95_ms, 1_900),
        (group.execute.p99_ms, 1_980),
    ]:
        assert answered == pytest.approx(values[rank - 1] / MS, rel=0.01)
    assert (group.execute.min_ms, group.execute.max_ms) == (values[0] / MS, values[-1] / MS)
    assert group.execute.mean_ms == pytest.approx(sum(values) / 2_000 / MS)
    assert group.total_time_ms == pytest.approx(sum(values) / MS)
    assert group.pool_wait.p95_ms == pytest.approx(0.04, rel=0.01)


def test_percentiles_without_samples_are_absent_and_not_0() -> None:
    total = stats_of(Log()).total
    assert total.total == 0
    assert [field.name for field, _ in total.execute.ListFields()] == []


def test_queries_count_in_the_slots_of_their_start() -> None:
    log = Log()
    log.jump(NOW + 20 * MINUTE)
    # One per minute, over eleven slots.
    log.append(log.queries([MS] * 11, at_us=NOW + 10 * MINUTE, step_us=MINUTE))
    assert stats_of(log, window_us=MINUTE).total.total == 1
    assert stats_of(log, window_us=5 * MINUTE + 10 * SECOND).total.total == 6
    assert stats_of(log, window_us=HOUR).total.total == 11
    assert stats_of(log, window_us=30 * DAY).total.total == 11
    assert stats_of(log).total.total == 11


def test_reading_between_events_changes_nothing() -> None:
    quiet, asked = Log(), Log()
    for log in (quiet, asked):
        for number in range(50):
            log.now_us = NOW + number * 3 * SECOND
            log.append(log.queries([number * MS, 40_000], fingerprint=number % 7 + 1))
            if log is asked:
                stats_of(log, Request.FINGERPRINT)
                log.state.metrics(MINUTE)
                list(log.state.dump())
    assert list(quiet.state.dump()) == list(asked.state.dump())


def test_a_definition_names_the_queries_after_it() -> None:
    log = Log()
    log.append(log.queries([MS], fingerprint=7))
    log.append(log.define(7, "bookings.get"), log.queries([MS, MS], fingerprint=7))
    groups = {group.operation: group.total for group in stats_of(log).groups}
    assert groups == {"unknown": 1, "bookings.get": 2}


def test_labels_of_definitions() -> None:
    log = Log()
    log.append(log.define(1, "SELECT", "SELECT $1"), log.define(2, "packages.search"))
    log.append(log.define(3, ""))
    for fingerprint in (1, 2, 3):
        log.append(log.queries([MS], fingerprint=fingerprint))
    groups = {group.operation for group in stats_of(log).groups}
    assert groups == {"SELECT", "packages.search", "unnamed"}
    by_fingerprint = {g.fingerprint: g for g in stats_of(log, Request.FINGERPRINT).groups}
    assert by_fingerprint["0000000000000001"].text == "SELECT $1"
    assert by_fingerprint["0000000000000002"].operation == "packages.search"


def test_groups_are_ordered_and_limited_as_requested() -> None:
    log = Log()
    log.append(log.define(1, "a.many"), log.define(2, "b.slow"), log.define(3, "c.failing"))
    log.append(log.queries([MS] * 50, fingerprint=1))
    log.append(log.queries([60 * MS], fingerprint=2))
    log.append(log.queries([5 * MS] * 3, fingerprint=3, outcome=event_pb2.QUERY_OUTCOME_TIMEOUT))
    orders = {
        Request.TOTAL_TIME: ["b.slow", "a.many", "c.failing"],
        Request.P95: ["b.slow", "c.failing", "a.many"],
        Request.COUNT: ["a.many", "c.failing", "b.slow"],
        Request.FAILURES: ["c.failing", "a.many", "b.slow"],
        Request.ORDER_BY_UNSPECIFIED: ["b.slow", "a.many", "c.failing"],
    }
    for order, expected in orders.items():
        assert [group.operation for group in stats_of(log, order_by=order).groups] == expected
        limited = stats_of(log, order_by=order, limit=1)
        assert [group.operation for group in limited.groups] == expected[:1]
        assert limited.total.total == 54


def test_fingerprints_are_answered_for_an_hour() -> None:
    log = Log()
    log.append(log.queries([MS]))
    log.jump(NOW + 59 * MINUTE)
    answer = stats_of(log, Request.FINGERPRINT)
    assert [group.total for group in answer.groups] == [1]
    assert answer.window.ToMicroseconds() == HOUR
    assert [
        len(stats_of(log, Request.FINGERPRINT, window_us=window).groups)
        for window in (5 * MINUTE, HOUR)
    ] == [0, 1]
    log.jump(NOW + 61 * MINUTE)
    assert not stats_of(log, Request.FINGERPRINT).groups
    with pytest.raises(WindowError):
        stats_of(log, Request.FINGERPRINT, window_us=2 * HOUR)


@pytest.mark.parametrize(
    ("asked_s", "answered_s"), [(10, 10), (300, 300), (310, 360), (360, 360), (3_550, 3_600)]
)
def test_fingerprints_are_answered_in_the_steps_they_are_kept_in(
    asked_s: int, answered_s: int
) -> None:
    log = Log()
    log.append(log.queries([MS]))
    log.jump(NOW + (answered_s - 1) // 60 * MINUTE)
    answer = stats_of(log, Request.FINGERPRINT, window_us=asked_s * SECOND)
    assert answer.window.ToSeconds() == answered_s
    assert answer.total.total == sum(group.total for group in answer.groups) == 1


@pytest.mark.parametrize("asked_s", [15, 3_610])
def test_windows_that_fingerprints_do_not_have_are_refused(asked_s: int) -> None:
    with pytest.raises(WindowError):
        stats_of(Log(), Request.FINGERPRINT, window_us=asked_s * SECOND)


def test_hot_fingerprints_survive_a_flood_of_others() -> None:
    log = Log()
    flood = 3 * MAX_TRACKED
    for number in range(flood):
        log.append(log.queries([MS], fingerprint=1_000 + number), log.queries([MS], fingerprint=1))
    answer = stats_of(log, Request.FINGERPRINT, Request.COUNT, limit=500)
    by_fingerprint = {group.fingerprint: group.total for group in answer.groups}
    assert by_fingerprint["0000000000000001"] == flood
    assert sum(by_fingerprint.values()) <= 2 * flood
    other = next(group for group in answer.groups if group.operation == "other")
    assert other.total > 0
    assert log.state.metrics().quality.evicted["fingerprints"] == flood + 1 - MAX_TRACKED
    assert answer.total.total == 2 * flood


def test_operations_beyond_the_bound_are_one_group() -> None:
    log = Log()
    bound = stats.MAX_OPERATIONS
    for number in range(bound + 30):
        log.append(log.define(number, f"m.op{number:03}"))
        log.append(log.queries([MS], fingerprint=number))
    answer = stats_of(log, order_by=Request.COUNT, limit=500)
    assert len(answer.groups) == bound + 1
    assert (answer.groups[0].operation, answer.groups[0].total) == ("other", 30)
    assert log.state.metrics().quality.evicted["operations"] == 30


def broken(field: str, value: list[int]) -> event_pb2.QueryTimings:
    timings = Log().queries([MS, MS]).query_timings
    timings.ClearField(field)  # type: ignore[arg-type]  # Any column.
    getattr(timings, field).extend(value)
    return timings


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("query", [0]),
        ("query", [0, 1]),
        ("start_delta_us", [0]),
        ("pool_wait_us", []),
        ("pool_wait_us", [0, MAX_DURATION_US + 1]),
        ("connect_us", [1, 2, 3]),
        ("cancel_wait_us", [0]),
        ("execute_us", [1]),
        ("execute_us", [1, (1 << 64) - 1]),
        ("rows", []),
        ("rows", [1, 1 << 60]),
        ("batch_size", [1]),
        ("outcome", [1]),
        ("sqlstate", [0, 1]),
        ("internal", []),
        ("fingerprints", []),
    ],
)
def test_columns_that_contradict_each_other_are_quarantined(field: str, value: list[int]) -> None:
    log = Log()
    good = log.view(NOW)
    bad = event_pb2.Event(event_id=log.event_id(), query_timings=broken(field, value))
    log.append(good, bad)
    quality = log.state.metrics().quality
    assert (quality.quarantined_batches, quality.quarantined_events) == (1, 2)
    assert (quality.events, quality.query_timings) == (0, 0)
    assert log.state.metrics().funnel.entered == 0
    assert log.state.position == 1
    log.append(log.view(NOW))
    assert log.state.metrics().funnel.entered == 1
