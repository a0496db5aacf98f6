"""The fold is a function of the log: however it is split, stored, read and repeated."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from metrics_service.state.fold import State
from metrics_service.state.record import Kind, LogRecord
from metrics_service.state.series.rings import HOUR_US, MINUTE_US, SECOND_US
from protos.metrics.v1 import metrics_pb2
from protos.tracking.v1 import event_pb2

NOW_US = 1_800_000_000 * SECOND_US

names = st.sampled_from(["", "a", "b", "c"])
# Around a batch's receive time, with all that clocks and queues may do to it.
offsets_us = st.one_of(
    st.integers(-90, 5).map(lambda seconds: seconds * SECOND_US),
    st.integers(-40, 40).map(lambda minutes: minutes * MINUTE_US),
    st.integers(-800, 800).map(lambda hours: hours * HOUR_US),
)
durations_us = st.one_of(
    st.integers(0, 3_000), st.sampled_from([500_000, 500_001, 1_000_000, 2_000_001])
)
# 0 is none.
captures = st.integers(0, 4)


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
        outcome=column(st.integers(0, 7)),  # type: ignore[arg-type]  # Newer ones, too.
        sqlstate=column(st.integers(0, 2)),
        sqlstates=["23505", "08006"],
        internal=[bool(each) for each in column(st.integers(0, 1))],
        captures=[
            event_pb2.QueryCapture(index=draw(st.integers(0, 6)), capture_id=draw(captures))
            for _ in range(draw(st.integers(0, 2)))
        ],
    )


@st.composite
def event(draw: st.DrawFn, received_us: int) -> event_pb2.Event:
    made = event_pb2.Event(
        # Few of them, so that duplicates are met.
        event_id=draw(st.integers(0, 60)).to_bytes(16, "big"),
        time_us=received_us + draw(offsets_us),
        session_id=draw(names),
    )
    body = draw(st.integers(0, 9))
    if body <= 1:
        made.booking.CopyFrom(
            event_pb2.BookingFact(
                transition=draw(st.integers(0, 9)),  # type: ignore[arg-type]  # Any of them.
                booking_id=draw(names),
                package_id=draw(names),
                user_id=draw(names),
                hold_time_us=draw(st.sampled_from([0, made.time_us - SECOND_US])),
                complete_time_us=draw(st.sampled_from([0, made.time_us])),
                confirm_time_us=draw(st.sampled_from([0, made.time_us - 40 * MINUTE_US])),
                amount_minor=draw(st.integers(-10, 10_000)),
                currency=draw(st.sampled_from(["EUR", "JPY"])),
            )
        )
    elif body == 2:
        made.payment.CopyFrom(
            event_pb2.PaymentFact(
                kind=draw(st.integers(0, 5)),  # type: ignore[arg-type]  # Any of them.
                amount_minor=draw(st.integers(0, 500)),
                currency="EUR",
                confirm_time_us=draw(st.sampled_from([0, made.time_us])),
            )
        )
    elif body == 3:
        made.package_viewed.CopyFrom(event_pb2.PackageViewed(user_id=draw(names)))
    elif body == 4:
        made.flow_step.CopyFrom(
            event_pb2.FlowStep(
                step=draw(st.integers(0, 6)),  # type: ignore[arg-type]  # Any of them.
                user_id=draw(names),
                booking_id=draw(names),
                duration_us=draw(st.integers(-1, 3) | durations_us),
            )
        )
    elif body == 5:
        made.rpc_refused.CopyFrom(
            event_pb2.RpcRefused(
                reason=draw(names),
                kind=draw(st.sampled_from(["booking", "payment", "other"])),
                code=draw(st.integers(-1, 18)),
                counts_as_error=draw(st.booleans()),
            )
        )
    elif body == 6:
        made.query_definitions.definitions.add(fingerprint=draw(st.integers(1, 3)), operation="o")
    elif body == 7:
        made.running_query.CopyFrom(
            event_pb2.RunningQuery(
                capture_id=draw(captures),
                fingerprint=draw(st.integers(0, 3)),
                start_time_us=received_us + draw(offsets_us),
                running_us=draw(durations_us),
                pid=draw(st.integers(-1, 3)),
                blockers=[event_pb2.Blocker(pid=1, query="UPDATE")] * draw(st.integers(0, 7)),
            )
        )
    elif body == 8:
        made.query_plan.CopyFrom(
            event_pb2.QueryPlan(fingerprint=draw(st.integers(0, 3)), plan=draw(names))
        )
    else:
        made.query_timings.CopyFrom(draw(timings(received_us)))
    return made


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


@settings(max_examples=150, deadline=None)
@given(logs())
def test_the_same_log_gives_the_same_bytes(records: list[LogRecord]) -> None:
    assert list(folded(records).dump()) == list(folded(records).dump())


@settings(max_examples=150, deadline=None)
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


@settings(max_examples=100, deadline=None)
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


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=200), st.booleans())
def test_no_bytes_can_stop_the_fold(payload: bytes, backfill: bool) -> None:
    state = State()
    state.apply(LogRecord(1, NOW_US, "batch", payload=payload, backfill=backfill, count=1))
    assert state.position == 1
    quality = state.metrics().quality
    assert quality.quarantined_batches in (0, 1)
    assert list(State.load(list(state.dump())).dump()) == list(state.dump())
