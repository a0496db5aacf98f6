"""Streams of strangers never keep a producer out that the log knows, and idle ones end."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import pytest

from metrics_service.ingest.streams import MAX_STREAMS
from protos.tracking.v1 import tracking_pb2
from tests.metrics.delivery_pair import (
    TELEMETRY,
    ListSource,
    Sink,
    events,
    remember,
    running,
    streaming,
    until,
)
from tests.metrics.raw_client import RawClient, raw_client

SLOTS = 4


@pytest.fixture
async def sink(metrics_dsn: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Sink]:
    remember(monkeypatch)
    # Their heartbeats are slow: only a further stream ends one.
    async with running(Sink(metrics_dsn, max_streams=SLOTS, heartbeat_s=20.0)) as started:
        yield started


@asynccontextmanager
async def strangers(sink: Sink, number: int, name: str = "a") -> AsyncIterator[list[RawClient]]:
    """Streams with a valid Hello, and nothing after it."""
    async with AsyncExitStack() as stack:
        clients = []
        for index in range(number):
            client = await stack.enter_async_context(raw_client(sink.target))
            await client.welcome(f"{name}-{index}", lane=TELEMETRY, instance=f"{name}-{index}")
            # One that is written as the server ends the stream fails the call at this side.
            client.stop_heartbeats()
            clients.append(client)
        yield clients


async def known(client: RawClient, name: str) -> None:
    await client.welcome(name, lane=TELEMETRY, instance=name)
    await client.batch(1, events(name), lane=TELEMETRY)
    await client.acked(1)


async def test_streams_without_a_hello_end_after_three_heartbeats(
    metrics_dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    remember(monkeypatch)
    async with running(Sink(metrics_dsn)) as sink, AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(raw_client(sink.target)) for _ in range(3)]
        # One says nothing, one only heartbeats, one a Hello that is refused.
        clients[1].start_heartbeats()
        await clients[2].hello("relay", service="")
        for client in clients:
            await client.ended()
        await until(lambda: sink.ingest.streams == 0)
    assert sink.health.calls == []


async def test_idle_streams_do_not_shut_out_a_real_producer(
    metrics_dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    remember(monkeypatch)
    facts = ListSource()
    facts.put(events("a"))
    async with (
        running(Sink(metrics_dsn, heartbeat_s=20.0)) as sink,
        strangers(sink, MAX_STREAMS),
    ):
        assert sink.ingest.streams == MAX_STREAMS
        async with streaming(sink.target, facts):
            await until(lambda: facts.acked_seq == 1)
            await until(lambda: sink.ingest.streams == MAX_STREAMS)


async def test_the_oldest_stranger_makes_room_and_no_known_producer_does(sink: Sink) -> None:
    async with raw_client(sink.target) as first, raw_client(sink.target) as second:
        await known(first, "first")
        await known(second, "second")
        async with strangers(sink, SLOTS - 2) as taken:
            async with strangers(sink, 3 * SLOTS, "b"):
                for one in taken:
                    await one.expect("drain")
                    await one.ended()
            for seq in (2, 3):
                await first.batch(seq, events(str(seq)), lane=TELEMETRY)
                await second.batch(seq, events(str(seq)), lane=TELEMETRY)
            await first.acked(3)
            await second.acked(3)


async def test_a_stream_is_refused_while_all_are_of_known_producers(sink: Sink) -> None:
    async with AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(raw_client(sink.target)) for _ in range(SLOTS)]
        for index, client in enumerate(clients):
            await known(client, f"known-{index}")
        async with raw_client(sink.target) as late:
            await late.expect("drain")
            await late.ended()
        await clients[0].batch(2, events("more"), lane=TELEMETRY)
        await clients[0].acked(2)


async def test_a_producer_that_the_log_knows_is_known_once_it_is_welcomed(sink: Sink) -> None:
    async with raw_client(sink.target) as earlier:
        await known(earlier, "relay")
        await earlier.send(goodbye=tracking_pb2.Goodbye())
        await earlier.half_close()
        await earlier.ended()
    async with raw_client(sink.target) as client:
        welcome = await client.welcome("relay", lane=TELEMETRY, instance="relay")
        assert welcome.resume_after == 1
        async with strangers(sink, 3 * SLOTS):
            await client.batch(2, events("b"), lane=TELEMETRY)
            await client.acked(2)
