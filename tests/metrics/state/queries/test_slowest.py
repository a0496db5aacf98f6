"""Slow queries: the slowest ended ones, those that still run, and their observations."""

from __future__ import annotations

import random

import pytest

from metrics_service.state.fold import State
from metrics_service.state.queries.limit import MAX_ANSWER_BYTES
from metrics_service.state.queries.running import MAX_BLOCKERS
from metrics_service.state.queries.slowest import (
    MAX_ENDED,
    MAX_PLANS,
    MAX_RUNNING,
    MAX_UNOBSERVED_US,
)
from metrics_service.state.truncate import MAX_NAME_BYTES, MAX_PLAN_BYTES, MAX_TEXT_BYTES
from protos.metrics.v1 import metrics_pb2
from protos.tracking.v1 import event_pb2
from tests.metrics.state.log import DAY, HOUR, NOW, SECOND, Log, holder

OK = event_pb2.QUERY_OUTCOME_OK
MS = 1_000


def slow(state: State, limit: int = 500, operation: str = "") -> list[metrics_pb2.SlowQuery]:
    request = metrics_pb2.ListSlowQueriesRequest(limit=limit, operation=operation)
    return list(state.slow_queries(request).queries)


def took_ms(state: State) -> list[float]:
    return [each.query.execute_ms for each in slow(state)]


def evicted(log: Log) -> dict[str, int]:
    counters = log.state.metrics().quality.evicted
    return {name: counters[name] for name in ("slow_queries", "running_queries", "query_plans")}


@pytest.mark.parametrize(("execute_us", "count"), [(500_000, 0), (500_001, 1)])
def test_a_query_is_slow_above_500_ms_and_not_at_it(execute_us: int, count: int) -> None:
    log = Log()
    log.append(log.queries([execute_us]))
    assert len(slow(log.state)) == count


def test_the_slowest_come_first_whenever_they_ran() -> None:
    log = Log()
    for execute_ms in (700, 3_000, 900):
        log.append(log.queries([execute_ms * MS, 10]))
        log.jump(log.now_us + DAY)
    assert took_ms(log.state) == [3_000, 900, 700]
    assert [each.query.execute_ms for each in slow(log.state, limit=1)] == [3_000]


@pytest.mark.parametrize(
    ("outcome", "shown"),
    [
        (OK, "ok"),
        (event_pb2.QUERY_OUTCOME_ERROR, "error"),
        (event_pb2.QUERY_OUTCOME_TIMEOUT, "timeout"),
        (event_pb2.QUERY_OUTCOME_CANCELLED, "cancelled"),
        (event_pb2.QUERY_OUTCOME_CONNECTION_LOST, "connection_lost"),
        (event_pb2.QUERY_OUTCOME_MISUSE, None),
    ],
)
def test_slow_queries_keep_their_outcome_and_a_misuse_is_none(
    outcome: event_pb2.QueryOutcome.ValueType, shown: str | None
) -> None:
    log = Log()
    log.append(log.queries([600 * MS], outcome=outcome))
    log.append(log.queries([600 * MS], outcome=outcome, internal=True))
    assert [each.query.outcome for each in slow(log.state)] == ([shown] if shown else [])


def test_of_more_than_the_bound_the_slowest_are_kept_and_the_rest_is_counted() -> None:
    log = Log()
    dice = random.Random(3)
    took = [dice.randrange(501, 600) for _ in range(5 * MAX_ENDED)]
    for start in range(0, len(took), 50):
        log.append(log.queries([each * MS for each in took[start : start + 50]]))
    assert took_ms(log.state) == sorted(took, reverse=True)[:MAX_ENDED]
    assert evicted(log)["slow_queries"] == 4 * MAX_ENDED


def test_of_equally_slow_queries_the_first_ones_stay() -> None:
    log = Log()
    log.append(log.queries([600 * MS] * (MAX_ENDED + 10), step_us=1))
    log.append(log.queries([600 * MS], at_us=NOW + SECOND))
    starts = [each.query.start_time.ToMicroseconds() for each in slow(log.state)]
    assert starts == [NOW + number for number in range(MAX_ENDED)]


def test_a_running_query_shows_what_it_waits_for() -> None:
    log = Log()
    log.append(
        log.define(1, "bookings.confirm"),
        log.running(
            5, 750 * MS, blockers=[holder()], wait_event_type="Lock", wait_event="transactionid"
        ),
    )
    (answer,) = slow(log.state)
    assert answer.running
    assert answer.query.start_time.ToMicroseconds() == NOW - 750 * MS
    answer.query.ClearField("start_time")
    assert answer.query == metrics_pb2.RecentQuery(
        operation="bookings.confirm",
        fingerprint="0000000000000001",
        execute_ms=750,
        instance="booking-1",
    )
    assert answer.look == metrics_pb2.QueryLook(
        running_ms=750,
        pid=4_005,
        wait_event_type="Lock",
        wait_event="transactionid",
        blockers=[
            metrics_pb2.Blocker(
                pid=77,
                application_name="report",
                state="idle in transaction",
                query="UPDATE t SET a = $1",
                transaction_ms=9_500,
                wait_event_type="Client",
                wait_event="ClientRead",
            )
        ],
    )


def test_running_queries_come_before_ended_ones_longest_first_as_last_observed() -> None:
    log = Log()
    log.append(log.queries([9_000 * MS]))
    log.append(log.running(1, 500 * MS), log.running(2, 800 * MS))
    log.append(log.running(1, 1_000 * MS, blockers=[holder()]))
    found = slow(log.state)
    assert [each.running for each in found] == [True, True, False]
    assert [each.query.execute_ms for each in found] == [1_000, 800, 9_000]
    assert [len(each.look.blockers) for each in found] == [1, 0, 0]


def test_an_ended_query_keeps_its_last_observation() -> None:
    log = Log()
    log.append(log.running(5, 500 * MS), log.running(5, 1_000 * MS, blockers=[holder()]))
    log.append(log.ended(5, 1_700 * MS))
    (answer,) = slow(log.state)
    assert (answer.running, answer.query.outcome) == (False, "ok")
    assert (answer.query.execute_ms, answer.look.running_ms) == (1_700, 1_000)
    assert answer.look.blockers[0].pid == 77


def test_an_observation_after_the_end_is_added_to_the_ended_query() -> None:
    log = Log()
    # A batch holds its timings first.
    log.append(log.ended(5, 700 * MS), log.running(5, 500 * MS, blockers=[holder()]))
    log.state = State.load(log.state.dump())
    log.append(log.ended(6, 100 * MS), log.running(6, 500 * MS))
    log.append(log.running(5, 600 * MS))
    (answer,) = slow(log.state)
    assert (answer.running, answer.look.running_ms) == (False, 600)


def test_only_the_end_in_the_same_process_ends_a_running_query() -> None:
    log = Log()
    log.append(log.running(5, 600 * MS))
    log.instance = "booking-2"
    log.append(log.ended(5, 700 * MS))
    log.append(log.running(5, 550 * MS))
    log.append(log.running(6, 550 * MS))
    instances = [(each.query.instance, each.running) for each in slow(log.state)]
    assert instances == [("booking-1", True), ("booking-2", True), ("booking-2", False)]


def test_running_queries_of_an_ended_process_are_dropped() -> None:
    log = Log()
    log.append(log.running(5, 600 * MS))
    log.unclean_end("booking-2")
    assert len(slow(log.state)) == 1
    log.unclean_end("booking-1")
    assert not slow(log.state)


@pytest.mark.parametrize("next_event", ["running", "ended"])
def test_a_new_epoch_drops_running_queries_of_the_older_one(
    next_event: str,
) -> None:
    log = Log()
    log.append(log.ended(4, 501 * MS), log.running(5, 600 * MS))
    log.epoch = 1
    if next_event == "running":
        log.append(log.running(4, 550 * MS))
    else:
        log.append(log.queries([550 * MS]))
    assert [(each.running, each.query.execute_ms) for each in slow(log.state)] == [
        (next_event == "running", 550),
        (False, 501),
    ]


def test_a_running_query_is_dropped_an_hour_after_its_last_observation() -> None:
    log = Log()
    log.append(log.running(1, 600 * MS), log.running(2, 700 * MS))
    log.jump(NOW + HOUR // 2)
    log.append(log.running(1, HOUR // 2))
    log.jump(NOW + MAX_UNOBSERVED_US - 1)
    assert len(slow(log.state)) == 2
    log.jump(NOW + MAX_UNOBSERVED_US)
    assert took_ms(log.state) == [HOUR // 2 / MS]
    log.jump(NOW + HOUR // 2 + MAX_UNOBSERVED_US)
    assert not slow(log.state)


def test_running_queries_beyond_the_bound_evict_the_longest_unobserved() -> None:
    log = Log()
    for capture_id in range(1, MAX_RUNNING + 31):
        log.append(log.running(capture_id, (500 + capture_id) * MS), log.running(1, 2_000 * MS))
    found = slow(log.state)
    assert len(found) == MAX_RUNNING
    assert found[0].query.execute_ms == 2_000
    assert found[-1].query.execute_ms == 532
    assert evicted(log)["running_queries"] == 30


def test_the_newest_plan_of_a_fingerprint_is_shown_with_its_queries() -> None:
    log = Log()
    log.append(log.queries([600 * MS]), log.queries([700 * MS], fingerprint=2), log.plan(1, "old"))
    log.append(log.running(3, 800 * MS), log.plan(1, "Index Scan"), log.plan(1, ""))
    plans = {each.query.execute_ms: each.plan for each in slow(log.state)}
    assert plans == {800: "Index Scan", 700: "", 600: "Index Scan"}


def test_plans_are_truncated_at_a_line_and_bounded() -> None:
    log = Log()
    line = "  ->  Seq Scan on öffentlich\n"
    for fingerprint in range(MAX_PLANS + 5):
        log.append(log.plan(fingerprint, "Sort\n" + line * 2_000))
    log.append(log.queries([600 * MS], fingerprint=0), log.queries([600 * MS], fingerprint=5))
    first, second = slow(log.state)
    assert first.plan == ""
    assert MAX_PLAN_BYTES - len(line.encode()) - 1 <= len(second.plan.encode()) <= MAX_PLAN_BYTES
    assert set(second.plan.split("\n")) == {"Sort", line.rstrip("\n")}
    assert evicted(log)["query_plans"] == 5
    held = sum(len(data) for name, _, data in log.state.dump() if name == "slow_queries.plans")
    assert held <= MAX_PLANS * (MAX_PLAN_BYTES + 20)


def test_a_query_keeps_its_name_when_its_definition_is_gone_or_late() -> None:
    log = Log()
    log.append(log.define(1, "bookings.get"), log.queries([600 * MS]))
    log.append(*(log.define(number, "a.b") for number in range(2, 5_000)))
    log.append(log.queries([700 * MS], fingerprint=9_999))
    assert [each.query.operation for each in slow(log.state)] == ["unknown", "bookings.get"]
    log.append(log.define(9_999, "late.comer", "SELECT $1"))
    assert slow(log.state)[0].query.operation == "late.comer"
    assert slow(log.state)[0].query.text == "SELECT $1"
    assert [each.query.execute_ms for each in slow(log.state, operation="late.comer")] == [700]


@pytest.mark.parametrize("backfill", [False, True])
@pytest.mark.parametrize("start_us", [-(1 << 63), 0, (1 << 63) - 1])
def test_an_implausible_start_is_computed_from_the_age(start_us: int, backfill: bool) -> None:
    log = Log()
    log.append(log.running(5, 800 * MS, start_us=start_us), backfill=backfill)
    (answer,) = slow(log.state)
    assert answer.query.start_time.ToMicroseconds() == NOW - 800 * MS


def test_a_hostile_producer_is_truncated_to_bounds() -> None:
    log = Log()
    huge = "ä" * 5_000
    blocker = event_pb2.Blocker(
        pid=-(1 << 31),
        application_name=huge,
        state=huge,
        query=huge,
        transaction_us=(1 << 64) - 1,
        wait_event_type=huge,
        wait_event=huge,
    )
    log.append(log.define(1, huge + "." + huge, huge))
    observation = log.running(
        (1 << 64) - 1,
        (1 << 64) - 1,
        start_us=0,
        blockers=[blocker] * MAX_BLOCKERS + [event_pb2.Blocker()] * 3_000,
        wait_event_type=huge,
        wait_event=huge,
    )
    observation.running_query.trace_id = b"x" * 1_000_000
    log.append(observation, event_pb2.Event(running_query=event_pb2.RunningQuery()))
    (answer,) = slow(log.state)
    assert len(answer.look.blockers) == MAX_BLOCKERS
    assert answer.query.trace_id == ""
    longest = MAX_BLOCKERS * (MAX_TEXT_BYTES + 4 * MAX_NAME_BYTES + 60) + MAX_TEXT_BYTES
    assert answer.ByteSize() <= longest + 5 * MAX_NAME_BYTES
    for capture_id in range(1, MAX_RUNNING + 1):
        log.append(log.running(capture_id, MS, blockers=[blocker] * MAX_BLOCKERS))
    whole = log.state.slow_queries(metrics_pb2.ListSlowQueriesRequest(limit=500))
    assert MAX_ANSWER_BYTES / 2 < whole.ByteSize() < MAX_ANSWER_BYTES + 10_000


def test_captures_of_queries_that_are_not_in_the_event_are_ignored() -> None:
    log = Log()
    event = log.ended(5, 600 * MS)
    timings = event.query_timings
    timings.batch_size[:] = [(1 << 32) - 1]
    timings.captures.add(index=(1 << 32) - 1, capture_id=6)
    timings.captures.add(index=0, capture_id=0)
    timings.traces.add(index=0, trace_id=b"short")
    log.append(event, log.running(6, 700 * MS))
    assert [(each.running, each.query.trace_id) for each in slow(log.state)] == [
        (True, ""),
        (False, ""),
    ]
    assert slow(log.state)[1].query.batch_size == (1 << 31) - 1


def test_a_loaded_state_continues_like_the_whole_log() -> None:
    log, dice = Log(), random.Random(11)
    loaded = State()
    for number in range(410):
        log.epoch = number // 150
        log.now_us += dice.choice([1, SECOND, 200 * SECOND])
        log.append(
            log.running(number + 1, dice.randrange(500, 3_000) * MS, blockers=[holder(number)]),
            log.ended(max(1, number - dice.randrange(40)), dice.randrange(400, 2_000) * MS),
            log.queries([dice.randrange(400, 600) * MS, 3], fingerprint=number % 9),
            log.plan(dice.randrange(260), f"plan {number}"),
        )
        if number % 40 == 39:
            log.unclean_end("booking-1", log.epoch)
        for record in log.records[loaded.position :]:
            loaded.apply(record)
        if number % 25 == 0:
            loaded = State.load(loaded.dump())
    assert list(loaded.dump()) == list(log.state.dump())
    assert slow(loaded) == slow(log.state)
    assert {each.running for each in slow(loaded)} == {True, False}


def test_an_answer_states_its_time() -> None:
    log = Log()
    log.append(log.queries([600 * MS]))
    answer = log.state.slow_queries(metrics_pb2.ListSlowQueriesRequest())
    assert (answer.as_of.ToMicroseconds(), answer.revision) == (NOW, 1)
