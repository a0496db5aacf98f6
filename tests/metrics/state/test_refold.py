"""The fold is a function of the log: however it is split, stored, read and repeated."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from metrics_service.state.fold import State
from metrics_service.state.record import Kind, LogRecord
from metrics_service.state.series.rings import HOUR_US, MINUTE_US, SECOND_US
from protos.metrics.v1 import metrics_pb2
from protos.tracking.v1 import event_pb2
from protos.tracking.v1.tracking_pb2 import LANE_FACTS, LANE_TELEMETRY
from tests.sizes import size

NOW_US = 1_800_000_000 * SECOND_US

names = st.sampled_from(["", "a", "b", "c"])
# Around a batch's receive time: clocks may be wrong and queues may delay.
offsets_us = st.one_of(
    st.integers(-90, 5).map(lambda seconds: seconds * SECOND_US),
    st.integers(-40, 40).map(lambda minutes: minutes * MINUTE_US),
    st.integers(-800, 800).map(lambda hours: hours * HOUR_US),
)
durations_us = st.one_of(
    st.integers(0, 3_000), st.sampled_from([500_000, 500_001, 1_000_000, 2_000_001])
)
# 0 means none.
captures = st.integers(0, 4)

Body = dict[str, Any]
"""An event's body by the name of its field."""


@st.composite
def timings(draw: st.DrawFn, received_us: int) -> event_pb2.QueryTimings:
    count = draw(st.integers(1, 6))

    def column(values: st.SearchStrategy[int]) -> list[int]:
        return draw(st.lists(values, min_size=count, max_size=count))

    return event_pb2.QueryTimings(
        fingerprints=[1, 2, 1 << 63],
        query=column(st.integers(0, 2)),
        base_time_us=received_us + draw(offsets_us),
        start_delta_us=column(st.integers(-20 * SECOND_US, 20 * SECOND_US)),
        pool_wait_us=column(durations_us),
        connect_us=column(st.just(0)),
        cancel_wait_us=column(st.just(0)),
        execute_us=column(durations_us),
        rows=column(st.integers(0, 5)),
        batch_size=column(st.just(0)),
        outcome=column(st.integers(0, 7)),  # type: ignore[arg-type]  # Unknown ones, too.
        sqlstate=column(st.integers(0, 2)),
        sqlstates=["23505", "08006"],
        internal=[bool(each) for each in column(st.integers(0, 1))],
        captures=[
            event_pb2.QueryCapture(index=draw(st.integers(0, 6)), capture_id=draw(captures))
            for _ in range(draw(st.integers(0, 2)))
        ],
    )


def facts(time_us: int) -> st.SearchStrategy[Body]:
    """Two bookings for each payment."""
    booking = st.builds(
        event_pb2.BookingFact,
        transition=st.integers(0, 9),
        booking_id=names,
        package_id=names,
        user_id=names,
        hold_time_us=st.sampled_from([0, time_us - SECOND_US]),
        complete_time_us=st.sampled_from([0, time_us]),
        confirm_time_us=st.sampled_from([0, time_us - 40 * MINUTE_US]),
        amount_minor=st.integers(0, 10_000),
        currency=st.sampled_from(["EUR", "JPY"]),
    ).map(lambda each: {"booking": each})
    payment = st.builds(
        event_pb2.PaymentFact,
        kind=st.integers(0, 5),
        amount_minor=st.integers(0, 500),
        currency=st.just("EUR"),
        confirm_time_us=st.sampled_from([0, time_us]),
    ).map(lambda each: {"payment": each})
    return st.integers(0, 2).flatmap(lambda each: payment if each == 2 else booking)


def steps_and_refusals() -> st.SearchStrategy[Body]:
    view = st.builds(event_pb2.PackageViewed, user_id=names)
    flow = st.builds(
        event_pb2.FlowStep,
        step=st.integers(0, 6),
        user_id=names,
        booking_id=names,
        duration_us=st.integers(-1, 3) | durations_us,
    )
    refused = st.builds(
        event_pb2.RpcRefused,
        reason=names,
        kind=st.sampled_from(["booking", "payment", "other"]),
        code=st.integers(-1, 18),
        counts_as_error=st.booleans(),
    )
    return st.one_of(
        view.map(lambda each: {"package_viewed": each}),
        flow.map(lambda each: {"flow_step": each}),
        refused.map(lambda each: {"rpc_refused": each}),
    )


def queries(received_us: int) -> st.SearchStrategy[Body]:
    definition = st.builds(
        event_pb2.QueryDefinition, fingerprint=st.integers(1, 3), operation=st.just("o")
    )
    running = st.builds(
        event_pb2.RunningQuery,
        capture_id=captures,
        fingerprint=st.integers(0, 3),
        start_time_us=offsets_us.map(lambda offset_us: received_us + offset_us),
        running_us=durations_us,
        pid=st.integers(-1, 3),
        blockers=st.lists(st.just(event_pb2.Blocker(pid=1, query="UPDATE")), max_size=7),
    )
    plan = st.builds(event_pb2.QueryPlan, fingerprint=st.integers(0, 3), plan=names)
    return st.one_of(
        definition.map(
            lambda each: {"query_definitions": event_pb2.QueryDefinitions(definitions=[each])}
        ),
        running.map(lambda each: {"running_query": each}),
        plan.map(lambda each: {"query_plan": each}),
        timings(received_us).map(lambda each: {"query_timings": each}),
    )


@st.composite
def event(draw: st.DrawFn, received_us: int) -> event_pb2.Event:
    time_us = received_us + draw(offsets_us)
    kind = draw(st.integers(0, 9))
    if kind <= 2:
        body = draw(facts(time_us))
    elif kind <= 5:
        body = draw(steps_and_refusals())
    else:
        body = draw(queries(received_us))
    return event_pb2.Event(
        # Few ids, so that duplicates occur.
        event_id=draw(st.integers(0, 60)).to_bytes(16, "big"),
        time_us=time_us,
        session_id=draw(names),
        **body,
    )


@st.composite
def logs(draw: st.DrawFn) -> list[LogRecord]:
    records: list[LogRecord] = []
    received_us = NOW_US
    for position in range(1, draw(st.integers(2, 14)) + 1):
        received_us += draw(
            st.sampled_from([0, 1, SECOND_US, 7 * SECOND_US, 11 * MINUTE_US, 2 * HOUR_US])
        )
        kinds: list[Kind] = ["batch", "batch", "batch", "tick", "unclean_end"]
        kind = draw(st.sampled_from(kinds))
        payload = b""
        if kind == "batch":
            events = draw(st.lists(event(received_us), max_size=6))
            payload = event_pb2.EventList(events=events).SerializeToString()
            if draw(st.integers(0, 9)) == 0:
                payload += b"\x0a"
        backfill = kind == "batch" and draw(st.integers(0, 4)) == 0
        records.append(
            LogRecord(
                position,
                received_us,
                kind,
                instance=draw(st.sampled_from(["one", "two"])),
                epoch=draw(st.integers(0, 2)),
                lane=draw(st.sampled_from([LANE_FACTS] * 4 + [LANE_TELEMETRY])),
                backfill=backfill,
                payload=payload,
                count=2,
            )
        )
    return records


def folded(records: list[LogRecord], state: State | None = None) -> State:
    state = state or State()
    for record in records:
        state.apply(record)
    return state


@settings(max_examples=size(40, 600), deadline=None)
@given(logs())
def test_the_same_log_gives_the_same_bytes(records: list[LogRecord]) -> None:
    assert list(folded(records).dump()) == list(folded(records).dump())


@settings(max_examples=size(40, 600), deadline=None)
@given(logs(), st.data())
def test_a_checkpoint_and_the_rest_of_the_log_are_the_whole_log(
    records: list[LogRecord], data: st.DataObject
) -> None:
    cut = data.draw(st.integers(0, len(records)))
    # The log may overlap the checkpoint.
    again = data.draw(st.integers(0, cut))
    checkpoint = list(folded(records[:cut]).dump())
    resumed = folded(records[again:], State.load(checkpoint))
    whole = folded(records)
    assert list(resumed.dump()) == list(whole.dump())
    for window_us in (None, MINUTE_US, HOUR_US, 24 * HOUR_US):
        assert resumed.metrics(window_us) == whole.metrics(window_us)
    slowest = metrics_pb2.ListSlowQueriesRequest(limit=500)
    assert resumed.slow_queries(slowest) == whole.slow_queries(slowest)


@settings(max_examples=size(25, 400), deadline=None)
@given(logs())
def test_a_reader_changes_nothing_and_sees_consistent_figures(records: list[LogRecord]) -> None:
    state = State()
    revision, as_of_us, entered = 0, 0, 0
    for record in records:
        state.apply(record)
        for window_us in (None, MINUTE_US, 30 * 24 * HOUR_US):
            metrics = state.metrics(window_us)
            funnel = metrics.funnel
            assert funnel.entered == funnel.converted + funnel.abandoned + funnel.open
            assert min(funnel.converted, funnel.abandoned, funnel.open) >= 0
            actors = [step.actors for step in funnel.steps]
            assert actors == sorted(actors, reverse=True)
            queries = metrics.performance.queries
            assert queries.execute.count <= queries.total
        assert state.revision > revision
        assert state.as_of_us >= as_of_us
        assert state.funnel().entered >= entered
        revision, as_of_us = state.revision, state.as_of_us
        entered = state.funnel().entered
        state.recent_queries(metrics_pb2.ListRecentQueriesRequest(include_internal=True))
        state.slow_queries(metrics_pb2.ListSlowQueriesRequest())
        state.query_stats(
            metrics_pb2.GetQueryStatsRequest(group_by=metrics_pb2.GetQueryStatsRequest.FINGERPRINT)
        )
    assert list(state.dump()) == list(folded(records).dump())


@settings(max_examples=size(50, 800), deadline=None)
@given(st.binary(max_size=200), st.booleans())
def test_no_bytes_can_stop_the_fold(payload: bytes, backfill: bool) -> None:
    state = State()
    record = LogRecord(1, NOW_US, "batch", lane=LANE_FACTS, payload=payload, backfill=backfill)
    state.apply(record)
    assert state.position == 1
    quality = state.metrics().quality
    assert quality.quarantined_batches in (0, 1)
    assert list(State.load(list(state.dump())).dump()) == list(state.dump())
