"""A connection goes back to its pool at once where nothing is to be waited for, and in asyncpg's
own way in every other case.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import pytest

from metrics_service.client.tracked import TrackedPool
from tests.metrics.client.recording import Recording


@pytest.fixture
async def lean(empty_dsn: str) -> AsyncIterator[TrackedPool]:
    """A pool of one connection that is reset only where needed."""
    async with TrackedPool(empty_dsn, max_size=1, reset_on_release=False) as pool:
        yield pool


async def releases_at_once(pool: TrackedPool, connection: Any) -> bool:
    """Release it; whether that was without a turn of the loop."""
    turns: list[None] = []
    asyncio.get_running_loop().call_soon(turns.append, None)
    await pool.release(connection)
    assert pool.gauges().idle == pool.gauges().size
    return not turns


async def test_a_connection_without_session_state_is_released_at_once(lean: TrackedPool) -> None:
    connection = await lean.acquire()
    assert await connection.fetchval("SELECT 1") == 1
    assert await releases_at_once(lean, connection)
    with pytest.raises(asyncpg.InterfaceError, match="released back to the pool"):
        await connection.fetchval("SELECT 1")
    await lean.release(connection)  # again, which does nothing
    assert await lean.fetchval("SELECT 1") == 1


async def test_a_waiting_caller_comes_before_the_last_user(lean: TrackedPool) -> None:
    turns: list[str] = []

    async def use(name: str) -> None:
        for _ in range(3):
            async with lean.acquire() as connection:
                turns.append(name)
                await connection.fetchval("SELECT 1")

    async with lean.acquire():
        users = [asyncio.create_task(use(name)) for name in "ab"]
        await asyncio.sleep(0)
    await asyncio.gather(*users)
    assert turns == ["a", "b"] * 3


@pytest.mark.parametrize("statement", ["SET work_mem = '7MB'", "BEGIN"])
async def test_a_connection_with_session_state_is_reset_first(
    lean: TrackedPool, statement: str
) -> None:
    # asyncpg tells the loop of the transaction that was left open.
    asyncio.get_running_loop().set_exception_handler(lambda *_: None)
    before = await lean.fetchval("SHOW work_mem")
    connection = await lean.acquire()
    await connection.execute(statement)
    assert not await releases_at_once(lean, connection)
    async with lean.acquire() as connection:
        assert not connection.is_in_transaction()
        assert await connection.fetchval("SHOW work_mem") == before
        assert await releases_at_once(lean, connection)


async def test_a_listener_is_reported_and_removed(lean: TrackedPool) -> None:
    connection = await lean.acquire()
    connection.add_log_listener(lambda *_: None)
    with pytest.warns(asyncpg.InterfaceWarning, match="active log listener"):
        assert not await releases_at_once(lean, connection)


async def test_an_expired_connection_is_closed(lean: TrackedPool) -> None:
    connection = await lean.acquire()
    pid = connection.get_server_pid()
    await lean.expire_connections()
    assert not await releases_at_once(lean, connection)
    assert await lean.fetchval("SELECT pg_backend_pid()") != pid


async def test_a_connection_with_its_share_of_queries_is_closed(empty_dsn: str) -> None:
    options: dict[str, Any] = {"max_size": 1, "reset_on_release": False, "max_queries": 2}
    async with TrackedPool(empty_dsn, **options) as pool:
        connection = await pool.acquire()
        pid = connection.get_server_pid()
        await connection.fetchval("SELECT 1")
        await connection.fetchval("SELECT 1")
        assert not await releases_at_once(pool, connection)
        assert await pool.fetchval("SELECT pg_backend_pid()") != pid


async def test_a_custom_reset_runs(empty_dsn: str) -> None:
    sink = Recording()

    async def ask(connection: asyncpg.Connection[asyncpg.Record]) -> None:
        await connection.fetchval("SELECT 1")

    options: dict[str, Any] = {"max_size": 1, "reset_on_release": False, "reset": ask}
    async with TrackedPool(empty_dsn, sinks=[sink], **options) as pool:
        assert not await releases_at_once(pool, await pool.acquire())
    assert "pool.reset" in [kept.label for kept in sink.all]


async def test_a_connection_of_another_pool_is_refused(lean: TrackedPool, empty_dsn: str) -> None:
    async with TrackedPool(empty_dsn, max_size=1, reset_on_release=False) as other:
        connection = await other.acquire()
        with pytest.raises(asyncpg.InterfaceError, match="not a member of this pool"):
            await lean.release(connection)
        await other.release(connection)
