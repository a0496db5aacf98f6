"""The monitoring reports its own cost; an observation of a query goes out after the text of
its fingerprint and before its timing.
"""

from __future__ import annotations

import pytest

from metrics_service.client.cost import monitor_cost
from metrics_service.client.queries.record import (
    MAX_TEXT_BYTES,
    NamedQuery,
    Outcome,
    QueryDefinition,
    QueryRecord,
)
from metrics_service.client.stream.source import NewEpoch, OutBatch
from metrics_service.client.telemetry import query_buffer
from metrics_service.client.telemetry.emitter import Emitter
from metrics_service.client.tracked import Tracker, connect
from metrics_service.client.tracked.timing import Timing
from metrics_service.client.tracked.tracker import SAMPLE_MASK, SAMPLES
from protos.tracking.v1 import event_pb2
from tests.metrics.client.inspector.scene import Scene, be_patient, blocked
from tests.metrics.client.recording import Recording

ONE = NamedQuery("SELECT 1", model="things", operation="one")


def emitter() -> Emitter:
    return Emitter("test", instance="i-1", now_us=lambda: 1_000_000, flush_interval_s=0.01)


def record(fingerprint: int, capture_id: int = 0) -> QueryRecord:
    return QueryRecord(
        fingerprint, 5_000_000, 0, 0, 0, 700_000, 1, 0, Outcome.OK, None, False, None, capture_id
    )


def definition(fingerprint: int) -> QueryDefinition:
    return QueryDefinition(fingerprint, "bookings", f"op{fingerprint}", "")


def running(fingerprint: int, capture_id: int) -> event_pb2.RunningQuery:
    return event_pb2.RunningQuery(
        fingerprint=fingerprint, capture_id=capture_id, start_time_us=5_000_000
    )


def events_of(batch: OutBatch) -> list[event_pb2.Event]:
    return list(event_pb2.EventList.FromString(batch.payload).events)


def bodies(batch: OutBatch) -> list[str | None]:
    return [event.WhichOneof("body") for event in events_of(batch)]


async def test_an_observation_goes_out_after_its_text_and_before_its_timing() -> None:
    source = emitter()
    source.record_query(record(8), definition(8))
    source.add_observation(running(7, 3), definition(7))
    source.record_query(record(7, capture_id=3), definition(7))
    source.add_observation(event_pb2.QueryPlan(fingerprint=9, plan="Result"), definition(9))
    batch = await source.next()
    assert bodies(batch) == ["query_definitions", "running_query", "query_plan", "query_timings"]
    told, observation, _, timed = events_of(batch)
    assert {each.fingerprint for each in told.query_definitions.definitions} == {7, 8, 9}
    assert observation.running_query.capture_id == 3
    assert [(each.index, each.capture_id) for each in timed.query_timings.captures] == [(1, 3)]


async def test_an_observation_without_a_timing_is_sent_with_its_text_once() -> None:
    source = emitter()
    source.add_observation(running(7, 3), definition(7))
    assert bodies(await source.next()) == ["query_definitions", "running_query"]
    source.add_observation(running(7, 3), definition(7))
    source.record_query(record(7, capture_id=3), definition(7))
    assert bodies(await source.next()) == ["running_query", "query_timings"]


async def test_after_a_new_hello_the_text_comes_before_the_next_observation() -> None:
    source = emitter()
    source.add_observation(running(7, 3), definition(7))
    first = await source.next()
    with pytest.raises(NewEpoch):
        await source.open(5, b"lost")
    await source.next()
    assert bodies(await source.next()) == bodies(first)
    source.add_observation(running(7, 4), definition(7))
    assert bodies(await source.next()) == ["query_definitions", "running_query"]


async def test_the_start_of_an_observation_is_by_the_clock_of_its_timing() -> None:
    source = emitter()
    source.set_clock_offset_us(250)
    source.add_observation(running(7, 3), definition(7))
    source.record_query(record(7, capture_id=3), definition(7))
    _, observation, timed = events_of(await source.next())
    assert observation.running_query.start_time_us == timed.query_timings.base_time_us == 5_000_250


async def test_observations_that_are_not_sent_are_bounded_and_counted() -> None:
    source = emitter()
    for n in range(query_buffer.MAX_OBSERVATIONS + 5):
        source.add_observation(running(7, n + 1), definition(7))
    assert source.dropped == source.dropped_events == 5
    observations = [
        each for each in events_of(await source.next()) if each.HasField("running_query")
    ]
    assert len(observations) == query_buffer.MAX_OBSERVATIONS
    assert observations[0].running_query.capture_id == 6


def test_the_memory_of_observations_is_not_understated() -> None:
    source = emitter()
    empty = source.bytes_held
    blocker = event_pb2.Blocker(
        pid=2**31 - 1,
        application_name="é" * 64,
        state="idle in transaction",
        query="x" * MAX_TEXT_BYTES,
        transaction_us=2**50,
        wait_event_type="Client",
        wait_event="ClientRead",
    )
    for n in range(query_buffer.MAX_OBSERVATIONS):
        observation = running(7, n + 1)
        observation.blockers.extend([blocker] * 5)
        source.add_observation(observation, definition(7))
    assert observation.ByteSize() > 10_600
    assert source.bytes_held - empty > query_buffer.MAX_OBSERVATIONS * observation.ByteSize()


async def test_timings_wait_for_observations_that_do_not_fit(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("metrics_service.client.telemetry.emitter.MAX_BATCH_EVENTS", 2)
    source = emitter()
    for n in range(3):
        source.add_observation(running(7, n + 1), definition(7))
    source.record_query(record(7, capture_id=3), definition(7))
    assert bodies(await source.next()) == ["query_definitions", "running_query", "running_query"]
    assert bodies(await source.next()) == ["running_query", "query_timings"]


async def test_the_tracker_reports_the_cost_of_timing_a_query(empty_dsn: str) -> None:
    tracker = Tracker([Recording()])
    assert tracker.cost().overhead_ns == 0
    connection = await connect(empty_dsn, tracker=tracker)
    try:
        for _ in range(3 * (SAMPLE_MASK + 1)):
            await connection.fetchval(ONE)
    finally:
        await connection.close()
    cost = tracker.cost()
    assert cost.queries == 3 * (SAMPLE_MASK + 1)
    assert cost.overhead_ns > 0


async def test_the_time_of_the_query_itself_is_not_in_the_cost(empty_dsn: str) -> None:
    tracker = Tracker([Recording()])
    connection = await connect(empty_dsn, tracker=tracker)
    try:
        await connection.fetchval("SELECT pg_sleep(0.4)")
    finally:
        await connection.close()
    assert 0 < tracker.cost().overhead_ns < 300_000_000


def test_the_mean_is_of_the_newest_samples() -> None:
    tracker = Tracker()
    for _ in range(SAMPLES):
        tracker.sample(1_000_000)
    for _ in range(SAMPLES):
        tracker.sample(3_000)
    assert tracker.cost().overhead_ns == 3_000


async def test_the_cost_counts_what_is_held_dropped_evicted_and_observed(
    empty_dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    be_patient(monkeypatch)
    scene, source = Scene(empty_dsn), emitter()
    scene.tracker.add_sink(source)
    inspector = scene.inspector(per_minute=1, plans=False)
    before = monitor_cost(scene.tracker, source, inspector)
    assert (before.queries, before.looks, before.looks_skipped) == (0, 0, 0)
    async with blocked(scene):
        for s in (0.6, 0.5):
            scene.after(s)
            await inspector.observe()
    await inspector.stop()
    for n in range(query_buffer.MAX_DEFINITIONS + 5):
        source.record_query(record(n + 1), definition(n + 1))
    scene.tracker.add_sink(Broken())
    scene.tracker.emit(ONE.definition, 0, Timing(), Outcome.OK, None, internal=False)
    after = monitor_cost(scene.tracker, source, inspector)
    assert (after.looks, after.looks_skipped) == (1, 1)
    assert after.queries == scene.tracker.records > 1
    assert (after.sink_errors, after.dropped) == (1, 0)
    assert after.evicted >= 5
    assert after.bytes_held > before.bytes_held + 500_000


class Broken:
    def record_query(self, *_: object) -> None:
        raise RuntimeError("broken")
