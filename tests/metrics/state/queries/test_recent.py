"""The newest queries one by one: newest first, filtered, and bounded."""

from __future__ import annotations

from metrics_service.state.queries.recent import MAX_BYTES, MAX_RECENT
from protos.metrics.v1 import metrics_pb2
from protos.tracking.v1 import event_pb2
from tests.metrics.state.log import DAY, MINUTE, NOW, SECOND, Log

Request = metrics_pb2.GetQueryStatsRequest
OK = event_pb2.QUERY_OUTCOME_OK
ERROR = event_pb2.QUERY_OUTCOME_ERROR
MS = 1_000


def recent(
    log: Log, limit: int = 0, operation: str = "", internal: bool = False
) -> list[metrics_pb2.RecentQuery]:
    request = metrics_pb2.ListRecentQueriesRequest(
        limit=limit, operation=operation, include_internal=internal
    )
    return list(log.state.recent_queries(request).queries)


def test_recent_queries_are_newest_first_with_all_their_fields() -> None:
    log = Log()
    event = log.queries([7_250], fingerprint=3, rows=4, pool_wait_us=1_500)
    timings = event.query_timings
    timings.connect_us[:] = [2_000]
    timings.cancel_wait_us[:] = [500]
    timings.batch_size[:] = [12]
    timings.outcome[:] = [ERROR]
    timings.sqlstates[:] = ["23505"]
    timings.sqlstate[:] = [1]
    timings.traces.add(index=0, trace_id=bytes(range(16)))
    log.append(log.define(3, "bookings.create", "INSERT"), event)
    log.append(log.queries([1], at_us=NOW - 5 * SECOND), log.queries([2], at_us=NOW + SECOND))
    newest, middle, oldest = recent(log)
    assert (newest.execute_ms, oldest.execute_ms) == (0.002, 0.001)
    assert middle.start_time.ToMicroseconds() == NOW
    middle.ClearField("start_time")
    assert middle == metrics_pb2.RecentQuery(
        operation="bookings.create",
        fingerprint="0000000000000003",
        text="INSERT",
        pool_wait_ms=1.5,
        connect_ms=2.0,
        cancel_wait_ms=0.5,
        execute_ms=7.25,
        rows=4,
        batch_size=12,
        outcome="error",
        sqlstate="23505",
        trace_id=bytes(range(16)).hex(),
        instance="booking-1",
    )


def test_recent_queries_are_filtered_and_limited() -> None:
    log = Log()
    log.append(log.define(1, "a.b"), log.define(2, "c.d"))
    log.append(log.queries(range(1, 71), fingerprint=1, step_us=1))
    log.append(log.queries([MS], fingerprint=2, internal=True))
    assert len(recent(log)) == 50
    assert [query.execute_ms for query in recent(log, limit=2)] == [0.07, 0.069]
    assert len(recent(log, limit=1_000)) == 70
    assert len(recent(log, limit=500, internal=True)) == 71
    assert not recent(log, operation="c.d")
    assert [query.internal for query in recent(log, operation="c.d", internal=True)] == [True]


def test_recent_queries_stay_bounded_and_keep_the_newest() -> None:
    log = Log()
    for number in range(30):
        log.append(log.queries(range(1, 501), at_us=NOW + number * SECOND, step_us=1))
    held = next(data for section, _, data in log.state.dump() if section == "recent_queries")
    assert len(held) < 2 * MAX_RECENT * 40
    newest = recent(log, limit=500)
    assert {query.start_time.ToSeconds() for query in newest} == {NOW // SECOND + 29}


def test_recent_queries_of_a_hostile_size_stay_bounded_in_bytes() -> None:
    log = Log()
    for number in range(30):
        event = log.queries([number + 1])
        # A field of a newer schema, which is kept as it came.
        unknown = event_pb2.Event(facts_gap=event_pb2.FactsGap(succeeds="x" * (MAX_BYTES // 10)))
        event.query_timings.MergeFromString(unknown.SerializeToString())
        log.append(event)
    held = next(data for section, _, data in log.state.dump() if section == "recent_queries")
    assert len(held) <= MAX_BYTES + 1_000
    newest, *others = recent(log)
    assert (newest.execute_ms, len(others)) == (0.03, 8)


def test_implausible_starts_get_the_receive_time() -> None:
    log = Log()
    log.append(
        log.queries([1], at_us=NOW + MINUTE),
        log.queries([2], at_us=NOW + MINUTE + 1),
        log.queries([3], at_us=NOW - DAY),
        log.queries([4], at_us=NOW - DAY - 1),
    )
    assert log.state.metrics().quality.skewed == 2
    assert log.state.metrics(10 * SECOND).performance.queries.total == 2
    starts = {query.execute_ms: query.start_time.ToMicroseconds() for query in recent(log)}
    assert starts == {0.001: NOW + MINUTE, 0.002: NOW, 0.003: NOW - DAY, 0.004: NOW}
