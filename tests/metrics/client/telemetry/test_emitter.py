"""The emitter: bounded, silent to its callers, and honest about what it dropped."""

from __future__ import annotations

import asyncio
import hashlib

import pytest

from metrics_service.client.queries.record import Outcome, QueryDefinition, QueryRecord
from metrics_service.client.stream.source import LaneDrained, NewEpoch, OutBatch
from metrics_service.client.telemetry import emitter as emitter_module
from metrics_service.client.telemetry import query_buffer
from metrics_service.client.telemetry.emitter import MAX_BATCH_EVENTS, Emitter
from protos.tracking.v1 import event_pb2

VIEW = event_pb2.PackageViewed(package_id="p")


def emitter(start_us: int = 1_000_000) -> Emitter:
    return Emitter("test", instance="i-1", now_us=lambda: start_us, flush_interval_s=0.01)


def record(fingerprint: int = 7, started_us: int = 5_000_000, **fields: object) -> QueryRecord:
    values: dict[str, object] = {
        "fingerprint": fingerprint,
        "started_us": started_us,
        "pool_wait_us": 1,
        "connect_us": 2,
        "cancel_wait_us": 3,
        "execute_us": 4,
        "rows": 5,
        "batch_size": 0,
        "outcome": Outcome.OK,
        "sqlstate": None,
        "internal": False,
        "trace_id": None,
        **fields,
    }
    return QueryRecord(**values)  # type: ignore[arg-type]  # as the field says


def definition(fingerprint: int = 7) -> QueryDefinition:
    return QueryDefinition(fingerprint, "bookings", f"op{fingerprint}", "")


def events_of(batch: OutBatch) -> list[event_pb2.Event]:
    found = list(event_pb2.EventList.FromString(batch.payload).events)
    assert batch.count == len(found)
    return found


def bodies(batch: OutBatch) -> list[str | None]:
    return [event.WhichOneof("body") for event in events_of(batch)]


async def test_events_keep_their_order_session_and_time_and_have_distinct_ids() -> None:
    source = emitter()
    source.emit(VIEW, session_id="a")
    source.emit(VIEW, session_id="b", time_us=77)
    source.set_clock_offset_us(-40)
    source.emit(VIEW, session_id="c")
    await source.open(0, b"")
    batch = await source.next()
    found = events_of(batch)
    assert batch.seq == 1
    assert [(event.session_id, event.time_us) for event in found] == [
        ("a", 1_000_000),
        ("b", 77),
        ("c", 999_960),
    ]
    ids = {event.event_id for event in found}
    assert len(ids) == 3
    assert {len(one) for one in ids} == {16}


async def test_timings_travel_as_columns_after_the_definition_of_each_fingerprint() -> None:
    source = emitter()
    source.set_clock_offset_us(10)
    source.record_query(record(7, 5_000_000, trace_id=b"t" * 16), definition(7))
    source.record_query(record(9, 4_999_000, sqlstate="23505"), definition(9))
    source.record_query(record(7, 5_000_500, internal=True, batch_size=3), definition(7))
    await source.open(0, b"")
    first = events_of(await source.next())
    assert [event.WhichOneof("body") for event in first] == ["query_definitions", "query_timings"]
    assert [one.fingerprint for one in first[0].query_definitions.definitions] == [7, 9]
    timings = first[1].query_timings
    assert list(timings.fingerprints) == [7, 9]
    assert list(timings.query) == [0, 1, 0]
    assert timings.base_time_us == 5_000_010
    assert list(timings.start_delta_us) == [0, -1_000, 1_500]
    assert list(timings.sqlstate) == [0, 1, 0]
    assert list(timings.sqlstates) == ["23505"]
    assert list(timings.internal) == [False, False, True]
    assert list(timings.batch_size) == [0, 0, 3]
    assert [(trace.index, trace.trace_id) for trace in timings.traces] == [(0, b"t" * 16)]

    source.record_query(record(7), definition(7))
    second = await source.next()
    assert bodies(second) == ["query_timings"]
    await source.open(2, hashlib.sha256(second.payload).digest())
    source.record_query(record(7), definition(7))
    assert bodies(await source.next()) == ["query_definitions", "query_timings"]


async def test_a_full_batch_is_returned_at_once_and_the_rest_after_the_interval() -> None:
    source = Emitter("test", instance="i-1", flush_interval_s=60)
    await source.open(0, b"")
    waiting = asyncio.create_task(source.next())
    await asyncio.sleep(0)
    for _ in range(MAX_BATCH_EVENTS + 1):
        source.emit(VIEW)
    async with asyncio.timeout(20):
        assert (await waiting).count == MAX_BATCH_EVENTS
    source.drain()
    assert (await source.next()).count == 1
    with pytest.raises(LaneDrained):
        await source.next()


async def test_events_that_do_not_fit_are_dropped_oldest_first_and_reported(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(emitter_module, "MAX_EVENTS", 3)
    monkeypatch.setattr(query_buffer, "MAX_TIMINGS", 2)
    source = emitter()
    for name in "abcde":
        source.emit(VIEW, session_id=name)
        source.record_query(record(), definition())
    assert (source.dropped_events, source.dropped_timings, source.dropped) == (2, 3, 5)
    await source.open(0, b"")
    found = events_of(await source.next())
    loss = found[0].telemetry_loss
    assert (loss.dropped_events, loss.dropped_timings) == (2, 3)
    views = [event.session_id for event in found if event.HasField("package_viewed")]
    assert views == ["c", "d", "e"]
    source.emit(VIEW)
    assert bodies(await source.next()) == ["package_viewed"]


async def test_unacknowledged_batches_are_kept_as_they_are_and_no_more_are_sealed_than_allowed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(emitter_module, "MAX_UNACKED", 2)
    source = emitter()
    await source.open(0, b"")
    sent = []
    for name in "ab":
        source.emit(VIEW, session_id=name)
        sent.append(await source.next())
    source.emit(VIEW, session_id="c")
    third = asyncio.create_task(source.next())
    await asyncio.wait({third}, timeout=0.1)
    assert not third.done()
    third.cancel()
    await source.open(0, b"")
    assert [await source.next(), await source.next()] == sent
    await source.acked(1)
    assert (await source.next()).seq == 3


async def test_an_unknown_resume_point_starts_a_new_epoch_with_the_kept_batches() -> None:
    source = emitter()
    await source.open(0, b"")
    source.record_query(record(), definition())
    kept = []
    for name in "abc":
        source.emit(VIEW, session_id=name)
        kept.append(await source.next())
    await source.acked(1)
    epoch = source.epoch
    with pytest.raises(NewEpoch):
        await source.open(0, b"")
    assert source.epoch > epoch
    await source.open(0, b"")
    again = [await source.next() for _ in range(3)]
    assert [batch.seq for batch in again] == [1, 2, 3]
    assert bodies(again[0]) == ["query_definitions"]
    assert [batch.payload for batch in again[1:]] == [batch.payload for batch in kept[1:]]

    with pytest.raises(NewEpoch):
        await source.open(2, b"another hash")
    await source.open(0, b"")
    await source.next()
    await source.acked(1)
    with pytest.raises(NewEpoch):
        await source.open(1, b"another hash")
    with pytest.raises(NewEpoch):
        await source.open(99, b"beyond")


async def test_events_count_as_unsent_until_they_are_acknowledged() -> None:
    source = emitter()
    source.emit(VIEW)
    source.record_query(record(), definition())
    source.record_query(record(), definition())
    source.count_rpc("booking.v1.BookingService/GetBooking", write=False, ok=True)
    assert source.unsent == 4
    await source.open(0, b"")
    batch = await source.next()
    source.emit(VIEW)
    assert source.unsent == 5
    with pytest.raises(NewEpoch):
        await source.open(7, b"lost by the server")
    assert source.unsent == 5
    await source.open(0, b"")
    for _ in range(2):
        batch = await source.next()
    await source.acked(batch.seq)
    assert source.unsent == 1
    await source.acked((await source.next()).seq)
    assert source.unsent == 0


async def test_the_resume_point_replaces_a_lost_ack() -> None:
    source = emitter()
    await source.open(0, b"")
    source.emit(VIEW, session_id="a")
    sent = await source.next()
    await source.open(1, hashlib.sha256(sent.payload).digest())
    source.emit(VIEW, session_id="b")
    assert (await source.next()).seq == 2


async def test_rpcs_and_their_queries_are_tallied_by_method_until_they_are_sent() -> None:
    source = emitter()
    for ok, queries in ((True, 6), (True, 9), (False, 2)):
        source.count_rpc(
            "booking.v1.BookingService/StartBooking", write=True, ok=ok, queries=queries
        )
    source.count_rpc("booking.v1.CatalogService/GetPackage", write=False, ok=True)
    await source.open(0, b"")
    (event,) = events_of(await source.next())
    assert [
        (e.rpc, e.write, e.ok, e.refused, e.queries, e.queries_max) for e in event.rpc_tally.entries
    ] == [
        ("booking.v1.BookingService/StartBooking", True, 2, 1, 17, 9),
        ("booking.v1.CatalogService/GetPackage", False, 1, 0, 0, 0),
    ]
    source.count_rpc("booking.v1.BookingService/StartBooking", write=True, ok=True, queries=4)
    (event,) = events_of(await source.next())
    assert [(e.ok, e.queries, e.queries_max) for e in event.rpc_tally.entries] == [(1, 4, 4)]


async def test_nothing_raises_and_invalid_events_are_counted() -> None:
    source = emitter()
    source.emit(object(), session_id="a")  # type: ignore[arg-type]  # the point
    source.emit(VIEW, session_id="b", time_us="soon")  # type: ignore[arg-type]  # the point
    source.record_query(record(rows=-1), definition())
    source.record_query(None, definition())  # type: ignore[arg-type]  # the point
    source.emit(VIEW, session_id="c")
    await source.open(0, b"")
    batch = await source.next()
    assert [e.session_id for e in events_of(batch) if e.HasField("package_viewed")] == ["c"]
    loss = events_of(await source.next())[0].telemetry_loss
    assert source.dropped_events == 2
    assert source.dropped_timings == 2
    told = events_of(batch)[0].telemetry_loss
    assert told.dropped_events + loss.dropped_events == 2
    assert told.dropped_timings + loss.dropped_timings == 2


async def test_no_batch_is_larger_than_a_server_accepts() -> None:
    source = emitter()
    await source.open(0, b"")
    source.emit(event_pb2.PackageViewed(package_id="x" * 2_000_000))
    for number in range(MAX_BATCH_EVENTS):
        text = QueryDefinition(number, "", "", "\N{SNOWMAN}" * 680)
        source.record_query(record(number), text)
        source.emit(event_pb2.PackageViewed(package_id="y" * 5_000))
    source.drain()
    batches = []
    while True:
        try:
            batches.append(await source.next())
        except LaneDrained:
            break
    assert max(len(batch.payload) for batch in batches) < 1 << 19
    found = [event for batch in batches for event in events_of(batch)]
    assert sum(len(event.query_timings.query) for event in found) == MAX_BATCH_EVENTS
    assert sum(event.HasField("package_viewed") for event in found) == MAX_BATCH_EVENTS
    assert sum(event.telemetry_loss.dropped_events for event in found) == 1

    with pytest.raises(NewEpoch):
        await source.open(10_000, b"")
    await source.open(0, b"")
    assert len((await source.next()).payload) < 1 << 19
