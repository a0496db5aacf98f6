"""A clean stop writes a checkpoint of what is folded, whatever else is under way."""

from __future__ import annotations

import asyncio
import contextlib

import asyncpg
import pytest

from metrics_service import engine as engine_module
from metrics_service.engine import Engine
from metrics_service.eventlog.event_log import EventLog
from metrics_service.eventlog.producer import ProducerKey
from metrics_service.eventlog.recovery import Recovery
from protos.metrics.v1.metrics_pb2 import StreamMetricsRequest
from servicekit import background
from tests.metrics.delivery_pair import FACTS, events, remember
from tests.metrics.running_service import BOUND_S, Producer, running, until

BATCHES = 20


async def one(dsn: str, query: str) -> int:
    """The only figure of a query."""
    connection = await asyncpg.connect(dsn)
    try:
        return int(await connection.fetchval(query))
    finally:
        await connection.close()


async def saved(dsn: str) -> int:
    return await one(dsn, "SELECT position FROM checkpoint")


async def newest_batch(dsn: str) -> int:
    return await one(dsn, "SELECT max(position) FROM event_log WHERE kind = 'batch'")


async def filled(dsn: str) -> EventLog:
    """A log that leads, with BATCHES batches."""
    log = EventLog(dsn, tick_s=3_600)
    await log.start()
    await log.wait_leading()
    key = ProducerKey(FACTS, "relay")
    point = await log.open_producer(key, epoch=1, instance="i", service="test", backfill=False)
    for seq in range(1, BATCHES + 1):
        await log.append(
            key, token=point.token, epoch=1, seq=seq, count=1, payload=events(f"s{seq}")
        )
    return log


@pytest.mark.processes
async def test_a_server_that_is_stopped_leaves_it_at_the_last_position(metrics_dsn: str) -> None:
    never = {"METRICS_CHECKPOINT_INTERVAL_S": "3600"}
    async with contextlib.AsyncExitStack() as stack:
        service = await stack.enter_async_context(running(metrics_dsn, **never))
        producer = Producer(service)
        await producer.stream.start()
        stack.push_async_callback(producer.stream.stop, 0.1)
        stream = service.metrics.StreamMetrics(StreamMetricsRequest())
        async with asyncio.timeout(BOUND_S):
            await anext(aiter(stream))
        for _ in range(BATCHES):
            producer.book()
        await until(lambda: producer.facts.acknowledged == BATCHES, "the acknowledgements")
        assert await saved(metrics_dsn) == 0
        # With both streams open, and records that may not be folded yet.
        await service.server.stop()
        assert await saved(metrics_dsn) >= await newest_batch(metrics_dsn) > 0


async def test_a_fold_that_is_far_behind_leaves_it_where_it_is(
    metrics_dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    remember(monkeypatch)
    monkeypatch.setattr(background, "SLICE_S", 0.0)
    log = await filled(metrics_dsn)
    engine = Engine(log)
    await engine.start()
    engine._wake.clear()

    async def endless() -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(engine, "_fold_next", endless)
    monkeypatch.setattr(engine_module, "FINAL_FOLD_S", 0.01)
    await engine.stop()
    await log.stop()
    assert await saved(metrics_dsn) == engine.position >= BATCHES


async def test_a_start_that_is_stopped_while_it_folds_keeps_what_it_has_folded(
    metrics_dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    remember(monkeypatch)
    # One record at a time.
    monkeypatch.setattr(background, "SLICE_S", 0.0)
    monkeypatch.setattr(engine_module, "FINAL_FOLD_S", 0.0)
    log = await filled(metrics_dsn)
    engine = Engine(log)
    some = asyncio.Event()
    engine.on_change(lambda: some.set() if engine.position >= 3 else None)
    starting = asyncio.create_task(engine.start())
    async with asyncio.timeout(BOUND_S):
        await some.wait()
    starting.cancel()
    await asyncio.gather(starting, return_exceptions=True)
    assert 3 <= engine.position < BATCHES
    await engine.stop()
    await log.stop()
    assert await saved(metrics_dsn) == engine.position >= 3


async def test_a_checkpoint_under_way_does_not_stop_the_last_one(
    metrics_dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    remember(monkeypatch)
    log = await filled(metrics_dsn)
    engine = Engine(log, checkpoint_events=1)
    reached, real = asyncio.Event(), log.save_checkpoint

    async def slow(*args: object, **kwargs: object) -> None:
        if not reached.is_set():
            reached.set()
            await asyncio.Event().wait()
        await real(*args, **kwargs)  # type: ignore[arg-type]  # as the engine calls it

    monkeypatch.setattr(log, "save_checkpoint", slow)
    starting = asyncio.create_task(engine.start())
    async with asyncio.timeout(BOUND_S):
        await reached.wait()
    starting.cancel()
    await asyncio.gather(starting, return_exceptions=True)
    await engine.stop()
    await log.stop()
    assert await saved(metrics_dsn) == engine.position >= BATCHES


async def test_a_state_that_a_record_has_broken_is_not_written(
    metrics_dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    remember(monkeypatch)
    log = await filled(metrics_dsn)
    engine = Engine(log)
    mending = asyncio.Event()

    def broken(_state: object, _record: object) -> None:
        raise ValueError

    async def endless(*_: object) -> None:
        mending.set()
        await asyncio.Event().wait()

    monkeypatch.setattr(type(engine.state), "apply", broken)
    monkeypatch.setattr(Recovery, "state_at", endless)
    starting = asyncio.create_task(engine.start())
    async with asyncio.timeout(BOUND_S):
        await mending.wait()
    starting.cancel()
    await asyncio.gather(starting, return_exceptions=True)
    engine.state.position = BATCHES
    await engine.stop()
    await log.stop()
    assert await saved(metrics_dsn) == 0
