"""StreamMetrics and WatchDatabaseHealth: snapshot first, conflation, bookmarks, slow readers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, AsyncIterator
from typing import TypeVar

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration

from metrics_service.state.answers import SECTIONS as FIGURES
from protos.metrics.v1.health_pb2 import DatabaseHealth, WatchDatabaseHealthRequest
from protos.metrics.v1.metrics_pb2 import GetMetricsRequest, StreamMetricsRequest
from tests.metrics.rpc.running_servicers import Servicers, serve

BOUND_S = 20.0
FAST = StreamMetricsRequest(interval=Duration(nanos=100_000_000))
# The client's HTTP/2 windows stay small, so that it soon stops taking what it does not read.
SMALL_WINDOWS = (("grpc.http2.lookahead_bytes", 65_536), ("grpc.http2.bdp_probe", 0))

T = TypeVar("T")


def reading(call: AsyncIterable[T]) -> AsyncIterator[T]:
    return aiter(call)


async def within(awaitable: asyncio.Future[T] | asyncio.Task[T] | AsyncIterator[T]) -> T:
    """The next message of a stream, or a result, within a bound."""
    async with asyncio.timeout(BOUND_S):
        if isinstance(awaitable, asyncio.Future):
            return await awaitable
        return await anext(awaitable)


async def drained(stream: AsyncIterator[object]) -> None:
    """Read a stream to its end."""
    async with asyncio.timeout(BOUND_S):
        async for _ in stream:
            pass


async def until_left(running: Servicers) -> None:
    """Wait until no reader is left."""
    async with asyncio.timeout(BOUND_S):
        while running.snapshots.readers or running.verdicts.readers:  # noqa: ASYNC110 - no event to wait for
            await asyncio.sleep(0.01)


async def test_a_snapshot_comes_first_and_then_one_for_each_change() -> None:
    async with serve() as running, running.channel() as (metrics, _):
        stream = reading(metrics.StreamMetrics(FAST))
        first = await within(stream)
        assert first.snapshot.revision == 1
        assert first.health.status == DatabaseHealth.HEALTHY
        revisions = []
        for revision in (2, 3, 4):
            running.change(revision)
            revisions.append((await within(stream)).snapshot.revision)
        assert revisions == [2, 3, 4]


async def test_the_last_message_equals_get_metrics_at_its_revision() -> None:
    async with serve() as running, running.channel() as (metrics, _):
        stream = reading(metrics.StreamMetrics(FAST))
        await within(stream)
        for revision in range(2, 200):
            running.change(revision)
        latest = await within(stream)
        while latest.snapshot.revision < 199:
            latest = await within(stream)
        assert latest.snapshot == await metrics.GetMetrics(GetMetricsRequest())


async def test_a_busy_state_is_sent_at_most_once_an_interval() -> None:
    async with serve() as running, running.channel() as (metrics, _):
        loop = asyncio.get_running_loop()
        # Before the first message: from its arrival on, which may be late, it would be too short.
        started, revision, seen = loop.time(), 1, []
        stream = reading(
            metrics.StreamMetrics(StreamMetricsRequest(interval=Duration(nanos=200_000_000)))
        )
        await within(stream)

        async def keep_changing() -> None:
            nonlocal revision
            while True:
                revision += 1
                running.change(revision)
                await asyncio.sleep(0.001)

        changing = asyncio.create_task(keep_changing())
        for _ in range(4):
            seen.append((await within(stream)).snapshot.revision)  # noqa: PERF401 - timed
        elapsed_s = loop.time() - started
        changing.cancel()
        await asyncio.gather(changing, return_exceptions=True)
        assert seen == sorted(seen)
        assert revision > 20, "the state changed more often than it was sent"
        assert elapsed_s >= 4 * 0.2 - 0.05


async def test_subscribers_of_one_question_cost_one_encoding() -> None:
    async with serve() as running, running.channel() as (metrics, _):
        streams = [reading(metrics.StreamMetrics(FAST)) for _ in range(20)]
        for stream in streams:
            await within(stream)
        asked = len(running.figures.asked)
        running.change(2)
        assert {(await within(stream)).snapshot.revision for stream in streams} == {2}
        assert len(running.figures.asked) == asked + len(FIGURES)


async def test_the_snapshot_is_repeated_while_nothing_changes() -> None:
    async with serve(repeat_s=0.3) as running, running.channel() as (metrics, _):
        stream = reading(metrics.StreamMetrics(FAST))
        assert [(await within(stream)).snapshot.revision for _ in range(3)] == [1, 1, 1]


async def test_a_reader_that_takes_nothing_is_ended_and_the_others_are_not_affected() -> None:
    async with (
        serve(stall_s=0.5) as running,
        running.channel(*SMALL_WINDOWS) as (slow, _),
        running.channel() as (quick, _),
    ):
        reader = reading(slow.StreamMetrics(FAST))
        assert (await within(reader)).snapshot.revision == 1
        # The others are not to be ended for a standstill of the machine.
        running.service._stall_s = BOUND_S
        running.figures.padding = 200_000
        others = [reading(quick.StreamMetrics(FAST)) for _ in range(3)]
        for other in others:
            await within(other)
        revision = 1
        async with asyncio.timeout(BOUND_S):
            while running.snapshots.readers == 4:
                revision += 1
                running.change(revision)
                for other in others:
                    assert (await within(other)).snapshot.revision == revision
        assert running.snapshots.readers == 3
        # It finds out when it reads again.
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await drained(reader)
        assert raised.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        running.change(revision + 1)
        assert (await within(others[0])).snapshot.revision == revision + 1


async def test_a_reader_that_takes_not_even_the_first_frame_gets_the_reason_for_its_end() -> None:
    async with serve(stall_s=0.2) as running:
        running.figures.padding = 2_000_000
        async with running.channel(*SMALL_WINDOWS) as (slow, _):
            reader = reading(slow.StreamMetrics(FAST))
            async with asyncio.timeout(BOUND_S):
                for readers in (1, 0):
                    while running.snapshots.readers != readers:  # noqa: ASYNC110 - any condition
                        await asyncio.sleep(0.01)
            with pytest.raises(grpc.aio.AioRpcError) as raised:
                await drained(reader)
            assert raised.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED


async def test_a_slow_reader_gets_the_newest_state_and_no_backlog() -> None:
    async with serve() as running:
        running.figures.padding = 200_000
        async with running.channel(*SMALL_WINDOWS) as (slow, _), running.channel() as (quick, _):
            reader, other = (
                reading(slow.StreamMetrics(FAST)),
                reading(quick.StreamMetrics(FAST)),
            )
            await within(reader)
            await within(other)
            for revision in range(2, 22):
                running.change(revision)
                assert (await within(other)).snapshot.revision == revision
            seen = [(await within(reader)).snapshot.revision]
            while seen[-1] < 21:
                seen.append((await within(reader)).snapshot.revision)
            assert seen == sorted(set(seen))
            assert len(seen) < 15, "twenty states were not kept for it"


async def test_streams_end_when_the_service_drains() -> None:
    async with serve() as running, running.channel() as (metrics, health):
        calls = (
            metrics.StreamMetrics(StreamMetricsRequest(interval=Duration(seconds=60))),
            health.WatchDatabaseHealth(WatchDatabaseHealthRequest()),
        )
        streams = [reading(call) for call in calls]
        for stream in streams:
            await within(stream)
        running.snapshots.close()
        running.verdicts.close()
        for stream in streams:
            with pytest.raises(grpc.aio.AioRpcError) as raised:
                await drained(stream)
            assert raised.value.code() is grpc.StatusCode.UNAVAILABLE


async def test_a_client_that_leaves_is_forgotten() -> None:
    async with serve() as running, running.channel() as (metrics, health):
        calls = (
            metrics.StreamMetrics(FAST),
            health.WatchDatabaseHealth(WatchDatabaseHealthRequest()),
        )
        for call in calls:
            await within(reading(call))
        assert (running.snapshots.readers, running.verdicts.readers) == (1, 1)
        for call in calls:
            call.cancel()
        await until_left(running)


async def test_too_many_readers_are_refused() -> None:
    async with serve() as running, running.channel() as (metrics, _):
        running.snapshots._max_readers = 1
        stream = reading(metrics.StreamMetrics(FAST))
        await within(stream)
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await within(reading(metrics.StreamMetrics(FAST)))
        assert raised.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        running.change(2)
        assert (await within(stream)).snapshot.revision == 2


async def test_the_verdict_is_sent_first_on_change_and_each_interval() -> None:
    async with serve() as running, running.channel() as (_, health):
        rarely, often = (
            reading(health.WatchDatabaseHealth(WatchDatabaseHealthRequest(interval=interval)))
            for interval in (Duration(seconds=60), Duration(seconds=1))
        )
        for stream in (rarely, often):
            assert (await within(stream)).status == DatabaseHealth.HEALTHY
        running.health.status = DatabaseHealth.UNHEALTHY
        running.verdicts.notify()
        assert (await within(rarely)).status == DatabaseHealth.UNHEALTHY
        while (await within(often)).status != DatabaseHealth.UNHEALTHY:
            pass
        assert (await within(often)).status == DatabaseHealth.UNHEALTHY
