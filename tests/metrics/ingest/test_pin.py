"""The facts of a log are those of one producer; nobody takes its place or blocks it who does not
know its id.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from protos.tracking.v1 import tracking_pb2
from tests.metrics.delivery_pair import Sink, events, remember, running, until
from tests.metrics.raw_client import RawClient, raw_client


@pytest.fixture
async def sink(metrics_dsn: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Sink]:
    remember(monkeypatch)
    async with running(Sink(metrics_dsn)) as started:
        yield started


async def store(client: RawClient, name: str, count: int = 3) -> tracking_pb2.Welcome:
    """Let a producer store one batch of so many events."""
    welcome = await client.welcome(name)
    await client.batch(welcome.resume_after + 1, events(name), count=count)
    await client.acked(welcome.resume_after + 1)
    return welcome


async def refused(client: RawClient, name: str, epoch: int = 1, **fields: Any) -> tracking_pb2.Nack:
    await client.hello(name, epoch, **fields)
    return (await client.expect("nack")).nack


async def test_welcome_names_the_log_and_counts_the_events(sink: Sink) -> None:
    async with raw_client(sink.target) as client:
        first = await store(client, "relay")
        again = await client.welcome("relay", 2)
    assert (first.sink_id, first.events, again.events) == (sink.log.sink_id, 0, 3)
    assert len(first.sink_id) == 36


async def test_the_id_of_a_log_stays_when_its_service_starts_again(
    metrics_dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    remember(monkeypatch)
    found = []
    for _ in range(2):
        async with running(Sink(metrics_dsn)) as sink:
            found.append(sink.log.sink_id)
    assert found[0] == found[1] != ""


async def test_a_stranger_neither_takes_the_lane_over_nor_blocks_it(sink: Sink) -> None:
    async with raw_client(sink.target) as relay, raw_client(sink.target) as stranger:
        # A Hello alone takes nothing.
        await stranger.welcome("stranger", 900)
        await store(relay, "relay")
        await stranger.batch(1, events("forged"))
        nack = (await stranger.expect("nack")).nack
        assert (nack.reason, nack.sink_id) == (tracking_pb2.Nack.FORKED, "")
        assert not nack.HasField("events")
        for succeeds in ([], ["guess"], ["stranger"]):
            nack = await refused(stranger, "another", succeeds=succeeds)
            assert (nack.reason, nack.sink_id) == (tracking_pb2.Nack.FORKED, "")
        await relay.batch(2, events("more"))
        await relay.acked(2)
    assert sink.state.payloads("stranger") == []


async def test_a_producer_that_names_the_pinned_one_takes_its_place(sink: Sink) -> None:
    async with raw_client(sink.target) as old, raw_client(sink.target) as new:
        await store(old, "old", count=5)
        welcome = await new.welcome("new", succeeds=["old"])
        assert (welcome.resume_after, welcome.events) == (0, 5)
        await old.batch(2, events("late"))
        nack = (await old.expect("nack")).nack
        assert (nack.reason, nack.events) == (tracking_pb2.Nack.FORKED, 5)
        assert nack.sink_id == sink.log.sink_id
        await new.batch(1, events("n"), count=2)
        await new.acked(1)
        # One that was restored to a time before the change is told so, and may begin anew.
        nack = await refused(old, "old", 9)
        assert (nack.reason, nack.events) == (tracking_pb2.Nack.FORKED, 7)
        assert (await old.welcome("newest", succeeds=["old"])).events == 7


async def test_the_pin_survives_a_restart(
    metrics_dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    remember(monkeypatch)
    async with running(Sink(metrics_dsn)) as sink, raw_client(sink.target) as client:
        await store(client, "relay")
    async with running(Sink(metrics_dsn)) as sink, raw_client(sink.target) as client:
        nack = await refused(client, "other")
        assert nack.reason == tracking_pb2.Nack.FORKED
        assert (await client.welcome("relay")).events == 3


async def test_a_forged_epoch_fences_nobody(sink: Sink) -> None:
    async with raw_client(sink.target) as relay, raw_client(sink.target) as forged:
        await store(relay, "relay")
        for epoch in (1_002, 2**62, 2**63 - 1):
            nack = await refused(forged, "relay", epoch)
            assert nack.reason == tracking_pb2.Nack.EPOCH_REFUSED
            assert nack.epoch == 1
        await relay.batch(2, events("more"))
        await relay.acked(2)
        assert (await forged.welcome("relay", 1_001)).resume_after == 2
        nack = (await relay.expect("nack")).nack
        assert (nack.reason, nack.sink_id) == (tracking_pb2.Nack.FENCED, sink.log.sink_id)


async def test_history_is_loaded_beside_the_pinned_producer_and_not_in_its_place(
    metrics_dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    remember(monkeypatch)
    backfill = tracking_pb2.Hello.BACKFILL
    async with (
        running(Sink(metrics_dsn, allow_backfill=True)) as sink,
        raw_client(sink.target) as relay,
        raw_client(sink.target) as loader,
    ):
        await store(relay, "relay")
        nack = await refused(loader, "relay", mode=backfill)
        assert nack.reason == tracking_pb2.Nack.FORKED
        await loader.welcome("history", mode=backfill)
        await loader.batch(1, events("old"))
        await loader.acked(1)
        await until(lambda: sink.state.payloads("history"))


async def test_too_many_or_too_long_names_are_invalid(sink: Sink) -> None:
    async with raw_client(sink.target) as client:
        for succeeds in (["x"] * 65, ["x" * 129], [""]):
            nack = await refused(client, "relay", succeeds=succeeds)
            assert nack.reason == tracking_pb2.Nack.INVALID
