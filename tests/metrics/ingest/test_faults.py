"""The stream through a bad network and with bad content: each batch once, in order."""

from __future__ import annotations

import random
import time
from collections.abc import AsyncIterator

import pytest

from metrics_service.client.stream import client as stream_client
from metrics_service.engine import Engine
from metrics_service.ingest.session import MayOpen, Write
from protos.tracking.v1 import tracking_pb2
from tests.metrics.delivery_pair import (
    ListSource,
    Sink,
    events,
    remember,
    running,
    streaming,
    until,
)
from tests.metrics.delivery_proxy import Proxy
from tests.metrics.raw_client import raw_client


@pytest.fixture
async def sink(metrics_dsn: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Sink]:
    remember(monkeypatch)
    async with running(Sink(metrics_dsn)) as started:
        yield started


def payloads(number: int) -> list[bytes]:
    return [events(f"f{index}", *["filler"] * 50) for index in range(number)]


async def test_a_frozen_peer_is_disconnected_by_both_ends_and_reconnected(sink: Sink) -> None:
    facts = ListSource()
    async with Proxy(sink.port) as proxy, streaming(proxy.target, facts) as client:
        facts.put(events("a"))
        await until(lambda: facts.acked_seq == 1)
        proxy.freeze()
        facts.put(events("b"))
        await until(lambda: not client.connected)
        await until(lambda: sink.ingest.streams == 0)
        proxy.thaw()
        await until(lambda: facts.acked_seq == 2)
    assert sink.state.payloads("relay") == [events("a"), events("b")]


async def test_a_paused_process_ends_no_stream(sink: Sink) -> None:
    facts = ListSource()
    async with streaming(sink.target, facts):
        for number in range(1, 4):
            facts.put(events(str(number)))
            await until(lambda: facts.acked_seq == len(facts.batches))
            if number < 3:
                # Both ends, for twice as long as either waits for the other.
                time.sleep(1.2)  # noqa: ASYNC251
    assert len(facts.opened) == 1


async def test_a_pause_while_the_server_writes_ends_no_stream(
    sink: Sink, monkeypatch: pytest.MonkeyPatch
) -> None:
    serve = sink.ingest.serve

    async def serve_with_pauses(
        frames: AsyncIterator[tracking_pb2.ClientFrame], write: Write, may_open: MayOpen
    ) -> None:
        async def write_and_pause(frame: tracking_pb2.ServerFrame) -> None:
            await write(frame)
            if frame.HasField("ack"):
                time.sleep(1.2)  # noqa: ASYNC251

        await serve(frames, write_and_pause, may_open)

    monkeypatch.setattr(sink.ingest, "serve", serve_with_pauses)
    facts = ListSource()
    async with streaming(sink.target, facts):
        for number in range(1, 4):
            facts.put(events(str(number)))
            await until(lambda: facts.acked_seq == len(facts.batches))
    assert len(facts.opened) == 1


async def test_connections_cut_within_batches_lose_and_repeat_nothing(
    sink: Sink, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A connection that is cut before its first ack makes the next pause longer.
    monkeypatch.setattr(stream_client, "MAX_RECONNECT_S", 0.2)
    chance = random.Random(3)
    facts, sent = ListSource(), payloads(120)
    async with Proxy(sink.port) as proxy:
        proxy.cut_after = lambda: chance.randrange(1_000, 120_000)
        async with streaming(proxy.target, facts):
            facts.put(*sent)
            await until(lambda: facts.acked_seq == len(sent))
        assert proxy.connections > 3
    await until(lambda: len(sink.state.payloads("relay")) == len(sent))
    assert sink.state.payloads("relay") == sent


async def test_bytes_that_arrive_one_by_one_make_no_difference(sink: Sink) -> None:
    facts, sent = ListSource(), payloads(5)
    async with Proxy(sink.port) as proxy:
        proxy.slice_of = lambda: 1
        async with streaming(proxy.target, facts):
            facts.put(*sent)
            await until(lambda: facts.acked_seq == len(sent))
    await until(lambda: len(sink.state.payloads("relay")) == len(sent))
    assert sink.state.payloads("relay") == sent


async def test_a_poison_batch_is_quarantined_under_its_number_and_the_stream_continues(
    metrics_dsn: str,
) -> None:
    async with running(Sink(metrics_dsn)) as sink:
        async with raw_client(sink.target) as client:
            await client.welcome("relay")
            await client.batch(1, events("a"))
            await client.batch(2, b"\xff\xff no events")
            await client.batch(3, events("b"))
            await client.acked(3, applied=True)
        assert _quarantined(sink.engine) == 1
        assert not sink.engine.failure.done()
    async with running(Sink(metrics_dsn)) as again:
        assert _quarantined(again.engine) == 1
        async with raw_client(again.target) as client:
            assert (await client.welcome("relay")).resume_after == 3


def _quarantined(engine: Engine) -> int:
    return engine.state.metrics(None).quality.quarantined_batches
