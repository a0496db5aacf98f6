"""The state as a whole: its clock, its answers, and actors across lanes."""

from __future__ import annotations

import pytest

from metrics_service.state.fold import State
from metrics_service.state.series.rings import WindowError
from protos.metrics.v1 import metrics_pb2
from protos.tracking.v1 import event_pb2
from tests.metrics.state.log import DAY, HOUR, MINUTE, NOW, SECOND, Fact, Flow, Log


def reached(log: Log) -> list[int]:
    return [step.actors for step in log.state.funnel().steps]


def test_an_empty_state_answers_with_nothing() -> None:
    metrics = State().metrics()
    assert (metrics.as_of.ToMicroseconds(), metrics.revision) == (0, 0)
    assert [step.name for step in metrics.funnel.steps] == ["view", "start", "complete", "confirm"]
    assert not metrics.funnel.overall.HasField("value")
    assert metrics.funnel.conversion_window.ToSeconds() == 30 * 60
    assert not metrics.HasField("window")


def test_every_answer_states_its_time_and_its_window() -> None:
    log = Log()
    log.append(log.view(NOW))
    log.tick(NOW + 3 * SECOND)
    answers: list[metrics_pb2.MetricsSnapshot | metrics_pb2.Funnel | metrics_pb2.ErrorMetrics] = [
        log.state.metrics(MINUTE),
        log.state.metrics(MINUTE).funnel,
        log.state.metrics(MINUTE).errors,
        log.state.funnel(MINUTE),
        log.state.errors(MINUTE),
    ]
    for answer in answers:
        assert answer.as_of.ToMicroseconds() == NOW + 3 * SECOND
        assert answer.revision == log.state.revision == 4
        assert answer.window.ToSeconds() == 60
    recent = log.state.recent_queries(metrics_pb2.ListRecentQueriesRequest())
    assert (recent.as_of.ToMicroseconds(), recent.revision) == (NOW + 3 * SECOND, 4)


def test_a_window_that_is_not_kept_is_refused_by_every_read() -> None:
    state = State()
    request = metrics_pb2.GetQueryStatsRequest()
    request.window.FromSeconds(15)
    for read in (
        lambda: state.metrics(15 * SECOND),
        lambda: state.funnel(15 * SECOND),
        lambda: state.errors(15 * SECOND),
        lambda: state.query_stats(request),
    ):
        with pytest.raises(WindowError):
            read()


def test_a_snapshot_is_of_the_revision_it_was_read_at() -> None:
    log = Log()
    before = log.state.metrics()
    assert log.state.section("errors") is log.state.section("errors")
    log.append(log.view(NOW))
    after = log.state.metrics()
    assert (before.funnel.entered, after.funnel.entered) == (0, 1)
    assert after.revision > before.revision


def test_a_record_that_was_applied_has_no_second_effect() -> None:
    log = Log()
    log.append(log.view(NOW))
    rows = list(log.state.dump())
    for record in log.records:
        log.state.apply(record)
    assert list(log.state.dump()) == rows


def test_time_goes_back_with_the_log_and_forgets_what_lies_ahead() -> None:
    log = Log(NOW + 400 * DAY)
    log.append(log.view(NOW + 400 * DAY), log.refused(NOW + 400 * DAY))
    assert log.state.funnel(HOUR).entered == 1
    log.now_us = NOW
    log.append(log.view(NOW, "t"), log.refused(NOW))
    assert (log.state.as_of_us, log.state.position, log.state.revision) == (NOW, 2, 2)
    assert [log.state.funnel(window).entered for window in (HOUR, 30 * DAY, None)] == [1, 1, 2]
    assert log.state.errors(HOUR).last_5_minutes == 1
    # What was ahead does not come back when its time comes.
    log.now_us = NOW + DAY
    log.append(log.view(NOW + DAY, "u"))
    assert log.state.funnel(30 * DAY).entered == 2
    assert list(State.load(log.state.dump()).dump()) == list(log.state.dump())


def test_evictions_are_named_by_table() -> None:
    assert set(State().metrics().quality.evicted) == {
        "actors",
        "sessions",
        "breakdown",
        "error_samples",
        "packages",
        "currencies",
        "errors",
        "error_times",
        "rpcs",
        "operations",
        "fingerprints",
        "query_definitions",
        "slow_queries",
        "running_queries",
        "query_plans",
    }


def test_a_view_that_arrives_after_the_facts_it_came_before_is_matched() -> None:
    """Telemetry waits up to a second in its buffer, facts do not."""
    log = Log()
    log.append(log.fact(Fact.STARTED, NOW + 100), log.fact(Fact.COMPLETED, NOW + 200))
    assert [step.unmatched for step in log.state.funnel().steps] == [0, 1, 1, 0]
    log.append(log.view(NOW))
    assert reached(log) == [1, 1, 1, 0]
    quality = log.state.metrics().quality
    assert (quality.unmatched_steps, quality.late) == (0, 0)


def test_a_front_end_and_the_service_are_one_step_of_a_booking() -> None:
    log = Log()
    log.append(log.view(NOW), log.fact(Fact.STARTED, NOW + 1), log.fact(Fact.COMPLETED, NOW + 2))
    # A second visit begins; repeated steps of the first booking must not advance it.
    log.append(
        log.view(NOW + 10),
        log.fact(Fact.STARTED, NOW + 11, booking="other"),
        log.flow(Flow.COMPLETE, NOW + 12, booking="b"),
        log.flow(Flow.CONFIRM, NOW + 13, booking="b"),
        log.flow(Flow.CONFIRM, NOW + 14, booking="b"),
    )
    assert reached(log) == [1, 1, 1, 1]
    assert log.state.funnel().steps[3].time_from_first.max_ms == 0.013


def test_front_end_steps_alone_move_a_chain() -> None:
    log = Log()
    log.append(
        log.flow(Flow.VIEW, NOW),
        log.flow(Flow.START, NOW + 1),
        log.flow(Flow.COMPLETE, NOW + 2, booking="b"),
        log.flow(Flow.ABANDON, NOW + 3),
    )
    assert reached(log) == [1, 1, 1, 0]
    funnel = log.state.funnel()
    assert (funnel.abandoned, funnel.bookings_started, funnel.bookings_abandoned) == (1, 0, 0)


@pytest.mark.parametrize("transition", [Fact.ABANDONED, Fact.EXPIRED])
def test_a_booking_given_up_or_expired_is_an_abandonment(
    transition: event_pb2.BookingFact.Transition.ValueType,
) -> None:
    log = Log()
    log.append(log.view(NOW), log.fact(Fact.STARTED, NOW + 1), log.fact(transition, NOW + 2))
    funnel = log.state.funnel()
    assert (funnel.entered, funnel.abandoned, funnel.open) == (1, 1, 0)
    log.append(log.fact(Fact.STARTED, NOW + 3, booking="next"))
    assert (log.state.funnel().abandoned, log.state.funnel().open) == (0, 1)


def test_the_actor_is_the_session_else_the_user_else_a_new_one() -> None:
    log = Log()
    log.append(
        log.view(NOW, "x", user="u"),
        log.fact(Fact.STARTED, NOW + 1, "x", booking="1", user="other"),
        log.view(NOW, "", user="x"),
        log.fact(Fact.STARTED, NOW + 1, "", booking="2", user="x"),
        log.view(NOW, ""),
        log.view(NOW, ""),
        log.fact(Fact.STARTED, NOW + 1, "", booking="3"),
    )
    assert reached(log) == [4, 2, 0, 0]
    assert log.state.funnel().steps[1].unmatched == 1


def test_windows_close_as_ticks_pass() -> None:
    log = Log()
    log.append(log.view(NOW))
    log.tick(NOW + 30 * MINUTE)
    assert (log.state.funnel().open, log.state.funnel().abandoned) == (1, 0)
    log.jump(NOW + 30 * MINUTE + 1)
    assert (log.state.funnel().open, log.state.funnel().abandoned) == (0, 1)


@pytest.mark.parametrize("outage_begins_us", [NOW + MINUTE, NOW + 35 * MINUTE])
def test_events_delayed_by_an_outage_of_the_sink_find_their_actors(outage_begins_us: int) -> None:
    log = Log()
    log.append(log.view(NOW), log.fact(Fact.STARTED, NOW + MINUTE))
    log.tick(outage_begins_us)
    log.now_us = NOW + 3 * HOUR
    log.append(log.fact(Fact.COMPLETED, NOW + 2 * MINUTE))
    log.append(log.fact(Fact.CONFIRMED, NOW + 5 * MINUTE))
    funnel = log.state.funnel()
    assert (funnel.converted, funnel.abandoned) == (1, 0)
    assert log.state.metrics().quality.unmatched_steps == 0


def test_backfilled_events_advance_the_clock() -> None:
    log = Log()
    past = NOW - 300 * DAY
    log.append(log.view(past, "a"), log.fact(Fact.STARTED, past + MINUTE, "a"), backfill=True)
    assert log.state.as_of_us == past + MINUTE
    assert log.state.funnel(HOUR).entered == 1
    log.append(
        log.view(past + DAY, "b"),
        log.queries([5], at_us=past + DAY + SECOND),
        backfill=True,
    )
    assert log.state.as_of_us == past + DAY + SECOND
    quality = log.state.metrics().quality
    assert quality.skewed == 0
    assert (log.state.funnel(HOUR).entered, log.state.funnel(2 * DAY).entered) == (1, 2)
    assert (log.state.funnel().open, log.state.funnel().abandoned) == (1, 1)
    log.append(log.view(NOW, "c"))
    assert log.state.as_of_us == NOW
    assert log.state.funnel(30 * DAY).entered == 1
    assert log.state.funnel().entered == 3


def test_backfilled_events_never_advance_the_clock_past_their_receipt() -> None:
    log = Log()
    log.append(log.view(NOW + DAY), backfill=True)
    assert log.state.as_of_us == NOW
    log.append(backfill=True)
    assert log.state.as_of_us == NOW


def test_a_backfilled_time_outside_of_the_calendar_is_quarantined() -> None:
    log = Log()
    log.append(log.queries([1], at_us=1 << 62), backfill=True)
    assert log.state.metrics().quality.quarantined_batches == 1
