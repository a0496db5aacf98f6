"""The wait for a connection is timed apart from the query, and no caller affects the next."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import asyncpg
import pytest

from metrics_service.client.queries.record import Outcome
from metrics_service.client.tracked import TrackedPool, Tracker
from tests.metrics.client.recording import Clock, Recording, never_paused


@pytest.fixture
def sink() -> Recording:
    return Recording()


@pytest.fixture
async def single(empty_dsn: str, sink: Recording) -> AsyncIterator[TrackedPool]:
    """A pool of one connection."""
    tracker = Tracker([sink], pauses=never_paused())
    async with TrackedPool(empty_dsn, tracker=tracker, max_size=1) as pool:
        yield pool


async def test_the_wait_for_a_held_connection_is_not_in_the_query(
    empty_dsn: str, sink: Recording
) -> None:
    clock = Clock()
    tracker = Tracker([sink], monotonic_ns=clock.monotonic_ns, pauses=never_paused())
    async with TrackedPool(empty_dsn, tracker=tracker, max_size=1) as pool:
        async with pool.acquire():
            waiting = asyncio.create_task(pool.fetchval("SELECT 1"))
            await asyncio.sleep(0)
            clock.s += 3
        assert await waiting == 1
    (waited,) = (kept.record for kept in sink.user)
    assert (waited.pool_wait_us, waited.connect_us, waited.execute_us) == (3_000_000, 0, 0)


async def test_only_the_first_query_after_an_acquire_has_its_wait(
    single: TrackedPool, sink: Recording
) -> None:
    async with single.acquire() as first:
        waiting = asyncio.create_task(single.acquire().__aenter__())
        await asyncio.sleep(0)
        assert single.gauges().waiting == 1
        await first.execute("SELECT pg_sleep(0.05)")
    connection = await waiting
    sink.clear()
    async with connection.transaction():
        await connection.fetchval("SELECT 1")
        await connection.fetchval("SELECT 2")
    await single.release(connection)
    waits = {kept.label: kept.record.pool_wait_us for kept in sink.all if kept.record.internal}
    assert set(waits.values()) == {0}
    first_us, second_us = (kept.record.pool_wait_us for kept in sink.user)
    assert first_us > 40_000
    assert second_us == 0


async def test_connecting_is_timed_apart_from_waiting(empty_dsn: str, sink: Recording) -> None:
    clock = Clock()
    tracker = Tracker([sink], monotonic_ns=clock.monotonic_ns, pauses=never_paused())

    async def init(connection: asyncpg.Connection[asyncpg.Record]) -> None:
        await connection.execute("SELECT 1")
        clock.s += 3

    async with TrackedPool(empty_dsn, tracker=tracker, min_size=0, max_size=1, init=init) as pool:
        await pool.fetchval("SELECT 1")
        await pool.fetchval("SELECT 1")
    first, second = (kept.record for kept in sink.user)
    assert (first.connect_us, first.pool_wait_us) == (3_000_000, 0)
    assert second.connect_us == 0
    steps = [kept.label for kept in sink.all if kept.record.internal]
    assert steps[:2] == ["pool.connect", "pool.initialise"]


async def test_an_acquire_time_out_is_counted_and_does_not_cover_the_body(
    single: TrackedPool, sink: Recording
) -> None:
    async with single.acquire(timeout=0.1) as connection:
        with pytest.raises(TimeoutError):
            await single.acquire(timeout=0.05)
        await connection.execute("SELECT pg_sleep(0.1)")
    refused, body = sink.user
    assert (refused.label, refused.outcome) == ("pool.acquire", Outcome.TIMEOUT)
    assert refused.record.pool_wait_us >= 50_000
    assert refused.record.execute_us == 0
    assert body.outcome is Outcome.OK
    assert body.record.execute_us > 100_000
    assert await single.fetchval("SELECT 1") == 1


async def test_a_cancelled_acquire_returns_its_place(single: TrackedPool, sink: Recording) -> None:
    async with single.acquire():
        waiting = asyncio.create_task(single.fetchval("SELECT 1"))
        await asyncio.sleep(0)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
    assert sink.user[0].outcome is Outcome.CANCELLED
    assert single.gauges().waiting == 0
    assert await single.fetchval("SELECT 1", timeout=20) == 1


async def test_a_database_that_cannot_be_reached_is_a_lost_connection(
    empty_dsn: str, sink: Recording
) -> None:
    pool = TrackedPool(empty_dsn, sinks=[sink], min_size=0, max_size=1)
    async with pool:
        pool.set_connect_args("postgresql://nobody@127.0.0.1:1/x")
        with pytest.raises(OSError, match="Connect call failed"):
            await pool.fetchval("SELECT 1")
    assert [(kept.label, kept.outcome) for kept in sink.user] == [
        ("pool.acquire", Outcome.CONNECTION_LOST)
    ]


async def test_gauges_show_the_connections(single: TrackedPool) -> None:
    async with single.acquire():
        gauges = single.gauges()
        assert (gauges.size, gauges.idle, gauges.max, gauges.waiting) == (1, 0, 1, 0)
    gauges = single.gauges()
    assert (gauges.size, gauges.idle, gauges.max, gauges.waiting) == (1, 1, 1, 0)


async def test_a_custom_reset_and_setup_are_internal(empty_dsn: str, sink: Recording) -> None:
    async def ask(connection: asyncpg.Connection[asyncpg.Record]) -> None:
        await connection.fetchval("SELECT 1")

    pool = TrackedPool(empty_dsn, sinks=[sink], max_size=1, setup=ask, reset=ask)
    async with pool, pool.acquire():
        pass
    internal = [kept.label for kept in sink.all if kept.label != "pool.connect"]
    assert internal == ["pool.initialise", "pool.reset"]
    assert sink.user == []
