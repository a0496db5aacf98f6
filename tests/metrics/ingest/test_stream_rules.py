"""The server's end of the stream protocol, rule by rule, tested with single frames."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator

import pytest

from protos.tracking.v1 import tracking_pb2
from tests.metrics.delivery_pair import BOUND_S, TELEMETRY, Sink, events, remember, running, until
from tests.metrics.raw_client import raw_client


@pytest.fixture
async def sink(metrics_dsn: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Sink]:
    remember(monkeypatch)
    async with running(Sink(metrics_dsn)) as started:
        yield started


async def test_a_new_producer_is_welcomed_at_zero_and_its_batches_are_acked_in_order(
    sink: Sink,
) -> None:
    async with raw_client(sink.target) as client:
        welcome = await client.welcome("relay")
        assert (welcome.resume_after, welcome.batch_hash) == (0, b"")
        assert welcome.credit_bytes >= welcome.max_batch_bytes > 0
        for seq in (1, 2, 3):
            await client.batch(seq, events(f"s{seq}"))
        ack = await client.acked(3, applied=True)
        assert (ack.durable_seq, ack.durability) == (3, tracking_pb2.Ack.FSYNC)
        assert sink.state.payloads("relay") == [events("s1"), events("s2"), events("s3")]


async def test_a_resent_batch_has_no_effect_and_is_acked_again(sink: Sink) -> None:
    async with raw_client(sink.target) as client:
        await client.welcome("relay")
        await client.batch(1, events("a"))
        await client.acked(1)
    async with raw_client(sink.target) as client:
        welcome = await client.welcome("relay")
        assert welcome.resume_after == 1
        assert welcome.batch_hash == hashlib.sha256(events("a")).digest()
        await client.batch(1, events("a"))
        await client.batch(2, events("b"))
        await client.acked(2)
        await until(lambda: len(sink.state.batches) == 2)
    assert sink.state.payloads("relay") == [events("a"), events("b")]


async def test_a_gap_is_refused_once_with_the_number_to_resume_from(sink: Sink) -> None:
    async with raw_client(sink.target) as client:
        await client.welcome("relay")
        for seq in (1, 3, 4, 5):
            await client.batch(seq, events(f"s{seq}"))
        nack = (await client.expect("nack")).nack
        assert (nack.seq, nack.reason) == (2, tracking_pb2.Nack.GAP)
        for seq in (2, 3):
            await client.batch(seq, events(f"s{seq}"))
        await client.acked(3)
        await client.batch(9, events("far"))
        nack = (await client.expect("nack")).nack
        assert (nack.seq, nack.reason) == (4, tracking_pb2.Nack.GAP)
    assert sink.state.payloads("relay") == [events(f"s{seq}") for seq in (1, 2, 3)]


async def test_a_higher_epoch_continues_facts_and_ends_the_older_stream(sink: Sink) -> None:
    async with raw_client(sink.target) as older, raw_client(sink.target) as newer:
        await older.welcome("relay", 1)
        await older.batch(1, events("a"))
        await older.acked(1)
        welcome = await newer.welcome("relay", 2)
        assert welcome.resume_after == 1
        nack = (await older.expect("nack")).nack
        assert nack.reason == tracking_pb2.Nack.FENCED
        await older.ended()
        await newer.batch(2, events("b"))
        await newer.acked(2)
    async with raw_client(sink.target) as frozen:
        await frozen.hello("relay", 1)
        nack = (await frozen.expect("nack")).nack
        assert nack.reason == tracking_pb2.Nack.FENCED
        await frozen.batch(2, events("late"))
        nack = (await frozen.expect("nack")).nack
        assert nack.reason == tracking_pb2.Nack.INVALID
    assert sink.state.payloads("relay") == [events("a"), events("b")]


async def test_telemetry_starts_again_with_each_epoch_and_the_lost_one_is_counted(
    sink: Sink,
) -> None:
    async with raw_client(sink.target) as client:
        await client.welcome("i-1", 10, lane=TELEMETRY)
        await client.batch(1, events("a"), lane=TELEMETRY)
        await client.acked(1)
    async with raw_client(sink.target) as client:
        welcome = await client.welcome("i-1", 20, lane=TELEMETRY)
        assert (welcome.resume_after, welcome.batch_hash) == (0, b"")
        await client.batch(1, events("b"), lane=TELEMETRY)
        await client.acked(1)
        await until(lambda: len(sink.state.batches) == 2)
    ends = sink.state.kinds("unclean_end")
    assert [(end.producer_id, end.epoch, end.seq) for end in ends] == [("i-1", 10, 1)]


async def test_goodbye_is_a_clean_end_and_a_lost_stream_is_counted_after_a_time(
    metrics_dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    remember(monkeypatch)
    sink = Sink(metrics_dsn, unclean_after_s=0.3, tick_s=0.05)
    async with running(sink):
        for name, polite in (("polite", True), ("rude", False)):
            async with raw_client(sink.target) as client:
                await client.welcome(name, lane=TELEMETRY, instance=name)
                await client.batch(1, events(name), lane=TELEMETRY)
                await client.acked(1)
                if polite:
                    await client.send(goodbye=tracking_pb2.Goodbye())
                    await client.half_close()
                    await client.ended()
        await until(lambda: sink.state.kinds("unclean_end"))
        ticks = len(sink.state.kinds("tick"))
        await until(lambda: len(sink.state.kinds("tick")) > ticks + 10)
        assert [end.producer_id for end in sink.state.kinds("unclean_end")] == ["rude"]
    ends = [call for call in sink.health.calls if call[0] in ("goodbye", "closed")]
    assert sorted(ends) == [("closed", "rude", "test"), ("goodbye", "polite", "test")]


async def test_what_was_not_welcomed_or_is_too_large_is_invalid(
    metrics_dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    remember(monkeypatch)
    small = Sink(metrics_dsn, max_batch_bytes=100)
    async with running(small), raw_client(small.target) as client:
        await client.batch(1, b"")
        assert (await client.expect("nack")).nack.reason == tracking_pb2.Nack.INVALID
        await client.welcome("relay")
        await client.batch(1, bytes(101))
        assert (await client.expect("nack")).nack.reason == tracking_pb2.Nack.INVALID
        await client.batch(1, bytes(100))
        await client.acked(1)


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"schema": 2}, tracking_pb2.Nack.UNSUPPORTED),
        ({"mode": tracking_pb2.Hello.BACKFILL}, tracking_pb2.Nack.UNSUPPORTED),
        ({"service": ""}, tracking_pb2.Nack.INVALID),
        ({"instance": "x" * 129}, tracking_pb2.Nack.INVALID),
        ({"instance": "a\0b"}, tracking_pb2.Nack.INVALID),
        ({"lane": 7}, tracking_pb2.Nack.INVALID),
    ],
)
async def test_an_invalid_hello_is_refused_and_the_stream_continues(
    sink: Sink, fields: dict[str, object], reason: tracking_pb2.Nack.Reason.ValueType
) -> None:
    async with raw_client(sink.target) as client:
        await client.hello("relay", **fields)  # type: ignore[arg-type]  # as given above
        assert (await client.expect("nack")).nack.reason == reason
        assert (await client.welcome("relay")).resume_after == 0


async def test_an_unacknowledged_batch_survives_a_kill_and_is_stored_once_after_a_resend(
    metrics_dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    remember(monkeypatch)
    first = Sink(metrics_dsn)
    await first.start()
    async with raw_client(first.target) as client:
        await client.welcome("relay")
        await client.batch(1, events("a"))
        await client.batch(2, events("b"))
        await until(lambda: len(first.state.batches) == 2)
        await first.crash()
    async with running(Sink(metrics_dsn)) as second, raw_client(second.target) as client:
        assert (await client.welcome("relay")).resume_after == 2
        await client.batch(2, events("b"))
        await client.batch(3, events("c"))
        await client.acked(3)
        await until(lambda: len(second.state.batches) == 3)
        assert second.state.payloads("relay") == [events(name) for name in "abc"]


async def test_signals_reach_health_at_once_and_silence_ends_the_stream(sink: Sink) -> None:
    async with raw_client(sink.target) as client:
        await client.welcome("relay")
        signals = tracking_pb2.Signals(telemetry_dropped=7)
        await client.send(heartbeat=tracking_pb2.ClientHeartbeat(signals=signals))
        await until(lambda: any(each.telemetry_dropped == 7 for each in sink.health.signals))
        client.stop_heartbeats()
        assert (await client.expect("heartbeat")).heartbeat is not None
        await client.ended()
    assert sink.ingest.streams == 0


async def test_drain_lets_the_client_finish_and_refuses_new_streams(sink: Sink) -> None:
    async with raw_client(sink.target) as client, raw_client(sink.target) as late:
        await client.welcome("relay")
        draining = asyncio.create_task(sink.ingest.drain(BOUND_S))
        await client.expect("drain")
        await client.batch(1, events("a"))
        await client.acked(1)
        await client.half_close()
        await client.ended()
        await draining
        await late.expect("drain")
        await late.ended()
