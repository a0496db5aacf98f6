"""The client against a real sink: after every cut, kill and refusal, each batch arrives once and in
order.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from metrics_service.client.stream.client import StreamClient
from metrics_service.client.telemetry.emitter import Emitter
from protos.tracking.v1 import event_pb2, tracking_pb2
from servicekit.postgres import PostgresServer
from tests.metrics.delivery_pair import (
    BOUND_S,
    TELEMETRY,
    ListSource,
    Sink,
    events,
    remember,
    running,
    streaming,
    until,
)
from tests.metrics.raw_client import raw_client


@pytest.fixture
async def sink(metrics_dsn: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Sink]:
    remember(monkeypatch)
    async with running(Sink(metrics_dsn)) as started:
        yield started


@pytest.fixture
def port() -> Iterator[int]:
    """A port that no other process gets, not even for a connection, while no sink listens there."""
    with socket.socket() as held:
        # So that a server may bind it beside this one, which never listens.
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        held.bind(("127.0.0.1", 0))
        yield held.getsockname()[1]


def sessions(payloads: list[bytes]) -> list[str]:
    """The sessions of all views in some batches."""
    return [
        event.session_id
        for payload in payloads
        for event in event_pb2.EventList.FromString(payload).events
        if event.HasField("package_viewed")
    ]


async def test_both_lanes_and_the_signals_share_one_stream(sink: Sink) -> None:
    facts, telemetry = ListSource(), Emitter("test", instance="i-1", flush_interval_s=0.02)
    facts.put(*(events(f"f{number}") for number in range(200)))
    async with streaming(
        sink.target,
        facts,
        telemetry,
        signals=lambda: tracking_pb2.Signals(telemetry_dropped=3),
    ) as client:
        for number in range(1_200):
            telemetry.emit(event_pb2.PackageViewed(package_id="p"), session_id=f"t{number}")
        await until(lambda: len(sessions(sink.state.payloads("i-1"))) == 1_200)
        await until(lambda: len(sink.state.payloads("relay")) == 200)
        await until(lambda: facts.acked_seq == 200)
        await until(lambda: sink.health.signals)
        assert sink.ingest.streams == 1
        assert client.connected
    assert sessions(sink.state.payloads("relay")) == [f"f{number}" for number in range(200)]
    assert sessions(sink.state.payloads("i-1")) == [f"t{number}" for number in range(1_200)]
    assert sink.health.signals[0].telemetry_dropped == 3


async def test_stopping_sends_what_is_buffered_and_then_goodbye(sink: Sink) -> None:
    emitter = Emitter("test", instance="i-1", flush_interval_s=60)
    client = StreamClient(sink.target, service="test", instance="i-1")
    client.add_lane(emitter)
    await client.start()
    await until(lambda: client.connected)
    emitter.emit(event_pb2.PackageViewed(package_id="p"), session_id="last")
    await client.stop(10)
    await until(lambda: ("goodbye", "i-1", "test") in sink.health.calls)
    await until(lambda: sink.state.payloads("i-1"))
    assert sessions(sink.state.payloads("i-1")) == ["last"]
    assert not sink.state.kinds("unclean_end")


async def test_stopping_without_a_server_ends_in_time() -> None:
    client = StreamClient("127.0.0.1:1", service="test", instance="i-1")
    client.add_lane(Emitter("test", instance="i-1"))
    await client.start()
    async with asyncio.timeout(BOUND_S):
        await client.stop(0.1)


async def test_a_sink_killed_again_and_again_has_every_batch_once(
    metrics_dsn: str, port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    remember(monkeypatch)
    sink = Sink(metrics_dsn, port=port, checkpoint_interval_s=0.05)
    await sink.start()
    facts, telemetry = ListSource(), Emitter("test", instance="i-1", flush_interval_s=0.01)
    total = 0
    async with streaming(sink.target, facts, telemetry):
        for life in range(5):
            for _ in range(40):
                total += 1
                facts.put(events(f"f{total}"))
                telemetry.emit(event_pb2.PackageViewed(package_id="p"), session_id=f"t{total}")
                if total % 7 == life:
                    await asyncio.sleep(0)
            # Killed with some batches stored, some on their way and some not sent.
            before = life * 40
            await until(lambda: facts.acked_seq > before)  # noqa: B023 - awaited at once
            await sink.crash()
            sink = Sink(metrics_dsn, port=port, checkpoint_interval_s=0.05)
            await sink.start()
        await until(lambda: facts.acked_seq == total)
        await until(lambda: len(sessions(sink.state.payloads("i-1"))) == total)
        await until(lambda: len(sink.state.payloads("relay")) == total)
    await sink.stop()
    assert sessions(sink.state.payloads("relay")) == [f"f{n + 1}" for n in range(total)]
    assert sessions(sink.state.payloads("i-1")) == [f"t{n + 1}" for n in range(total)]
    positions = [record.position for record in sink.state.records]
    assert positions == list(range(1, len(positions) + 1))


async def test_a_stream_cut_before_every_ack_still_counts_once(
    metrics_dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    remember(monkeypatch)
    sink = Sink(metrics_dsn)
    cut_seqs: set[int] = set()
    serve = sink.ingest.serve

    async def cut(frames: Any, write: Any, may_open: Any) -> None:
        async def write_or_cut(frame: tracking_pb2.ServerFrame) -> None:
            if frame.HasField("ack") and frame.ack.durable_seq not in cut_seqs:
                cut_seqs.add(frame.ack.durable_seq)
                raise ConnectionResetError
            await write(frame)

        await serve(frames, write_or_cut, may_open)

    monkeypatch.setattr(sink.ingest, "serve", cut)
    facts = ListSource()
    async with running(sink), streaming(sink.target, facts):
        for number in range(6):
            facts.put(events(f"f{number}"))
            await until(lambda: facts.acked_seq == number + 1)  # noqa: B023 - awaited at once
        await until(lambda: len(sink.state.payloads("relay")) == 6)
    assert cut_seqs == {1, 2, 3, 4, 5, 6}
    assert sessions(sink.state.payloads("relay")) == [f"f{number}" for number in range(6)]


async def test_a_fork_is_refused_and_the_other_lane_goes_on(sink: Sink) -> None:
    async with raw_client(sink.target) as other:
        await other.welcome("relay")
        await other.batch(1, events("theirs"))
        await other.acked(1)
    facts, telemetry = ListSource(), Emitter("test", instance="i-1", flush_interval_s=0.01)
    facts.put(events("ours"), events("next"))
    async with streaming(sink.target, facts, telemetry):
        telemetry.emit(event_pb2.PackageViewed(package_id="p"), session_id="t")
        await until(lambda: sink.state.payloads("i-1"))
    assert facts.opened == []
    assert sessions(sink.state.payloads("relay")) == ["theirs"]


async def test_a_relay_with_an_older_epoch_is_fenced_for_good(sink: Sink) -> None:
    async with raw_client(sink.target) as other:
        await other.welcome("relay", 2)
    facts = ListSource(epoch=1)
    facts.put(events("late"))
    async with streaming(sink.target, facts):
        await until(lambda: facts.is_fenced)
    assert sink.state.batches == []


async def test_a_newer_relay_takes_over_where_the_older_one_stopped(sink: Sink) -> None:
    older, newer = ListSource(epoch=1), ListSource(epoch=2)
    older.put(events("a"), events("b"))
    async with streaming(sink.target, older):
        await until(lambda: older.acked_seq == 2)
        newer.put(events("a"), events("b"), events("c"))
        async with streaming(sink.target, newer):
            await until(lambda: newer.acked_seq == 3)
            older.put(events("other c"))
            await until(lambda: older.is_fenced)
    assert sessions(sink.state.payloads("relay")) == ["a", "b", "c"]
    assert newer.opened[0] == 2


async def test_telemetry_starts_a_new_epoch_when_the_sink_has_lost_its_log(
    postgres: PostgresServer,
    metrics_dsn: str,
    metrics_template: str,
    port: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    remember(monkeypatch)
    emitter = Emitter("test", instance="i-1", flush_interval_s=0.01)
    sink = Sink(metrics_dsn, port=port)
    await sink.start()
    async with streaming(sink.target, emitter):
        emitter.emit(event_pb2.PackageViewed(package_id="p"), session_id="before")
        await until(lambda: sink.state.payloads("i-1"))
        await until(lambda: not len(emitter._sealed))
        first_epoch = emitter.epoch
        await sink.stop()
        emptied = postgres.create_database("delivery_emptied", template=metrics_template)
        try:
            async with running(Sink(emptied, port=port)) as second:
                emitter.emit(event_pb2.PackageViewed(package_id="p"), session_id="after")
                await until(lambda: second.state.payloads("i-1"))
                assert sessions(second.state.payloads("i-1")) == ["after"]
        finally:
            postgres.drop_database("delivery_emptied")
    assert emitter.epoch > first_epoch


async def test_nothing_is_lost_when_the_sink_drains(
    metrics_dsn: str, port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    remember(monkeypatch)
    first = Sink(metrics_dsn, port=port)
    await first.start()
    facts = ListSource()
    async with streaming(first.target, facts):
        facts.put(*(events(f"f{number}") for number in range(50)))
        await until(lambda: facts.acked_seq > 0)
        async with asyncio.timeout(BOUND_S):
            await first.ingest.drain(2 * BOUND_S)
        await first.stop()
        async with running(Sink(metrics_dsn, port=port)) as second:
            facts.put(events("f50"))
            await until(lambda: facts.acked_seq == 51)
            await until(lambda: len(second.state.payloads("relay")) == 51)
            assert sessions(second.state.payloads("relay")) == [f"f{n}" for n in range(51)]


async def test_without_the_database_nothing_is_lost_and_heartbeats_continue(
    postgres: PostgresServer, metrics_dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    remember(monkeypatch)
    database = metrics_dsn.rsplit("/", 1)[1].split("?")[0]
    facts, telemetry = ListSource(), Emitter("test", instance="i-1", flush_interval_s=0.01)
    async with running(Sink(metrics_dsn, tick_s=0.05)) as sink:
        async with streaming(sink.target, facts, telemetry):
            facts.put(events("before"))
            await until(lambda: facts.acked_seq == 1)
            await until(lambda: len(sink.state.payloads("relay")) == 1)
            _close_database(postgres, database)
            try:
                await until(lambda: not sink.log.leading)
                facts.put(events("during"))
                telemetry.emit(event_pb2.PackageViewed(package_id="p"), session_id="t")
                beats = len(sink.health.signals)
                await until(lambda: len(sink.health.signals) > beats + 2)
                assert facts.acked_seq == 1
                assert sink.state.payloads("relay") == [events("before")]
                assert sink.ingest.streams == 1
            finally:
                postgres.psql("postgres", f"ALTER DATABASE {database} ALLOW_CONNECTIONS true")
            await until(lambda: facts.acked_seq == 2)
            await until(lambda: sink.state.payloads("i-1"))
        assert sessions(sink.state.payloads("relay")) == ["before", "during"]
        assert sessions(sink.state.payloads("i-1")) == ["t"]
        assert not sink.state.kinds("unclean_end")


async def test_a_source_that_fails_is_retried_and_disturbs_no_other_lane(sink: Sink) -> None:
    facts, telemetry = ListSource(), Emitter("test", instance="i-1", flush_interval_s=0.01)
    facts.put(events("a"))
    failures = 0
    open_source = facts.open

    async def fail_twice(resume_after: int, batch_hash: bytes, **_: object) -> None:
        nonlocal failures
        if failures < 2:
            failures += 1
            raise RuntimeError("the database of the source is away")
        await open_source(resume_after, batch_hash)

    facts.open = fail_twice  # type: ignore[method-assign]  # a source in trouble
    async with streaming(sink.target, facts, telemetry):
        telemetry.emit(event_pb2.PackageViewed(package_id="p"), session_id="t")
        await until(lambda: facts.acked_seq == 1)
        await until(lambda: sink.state.payloads("i-1"))
    assert failures == 2


async def test_a_lane_may_come_and_go_while_the_stream_is_up(sink: Sink) -> None:
    telemetry, facts = Emitter("test", instance="i-1"), ListSource()
    async with streaming(sink.target, telemetry) as client:
        await until(lambda: client.connected)
        facts.put(events("a"))
        client.add_lane(facts)
        await until(lambda: facts.acked_seq == 1)
        client.remove_lane(facts)
        facts.put(events("b"))
        again = ListSource(epoch=2)
        again.put(events("a"), events("b"))
        client.add_lane(again)
        await until(lambda: again.acked_seq == 2)
        client.remove_lane(again)
    assert sessions(sink.state.payloads("relay")) == ["a", "b"]
    assert TELEMETRY not in facts.opened


def _close_database(postgres: PostgresServer, database: str) -> None:
    postgres.psql("postgres", f"ALTER DATABASE {database} ALLOW_CONNECTIONS false")
    postgres.psql(
        "postgres",
        f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{database}'",
    )
