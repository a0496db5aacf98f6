"""A pooler that gives connections no sessions of their own is refused at start, in one line that
names it, the setting and the cure; through one of sessions both services work.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine

import pytest

from booking_service.monitoring.startup import require_database
from booking_service.storage.database import Database
from metrics_service.client import connect
from metrics_service.client.host import PoolerError, check_session
from metrics_service.storage.connections import check_ready
from metrics_service.storage.errors import LogNotReadyError
from servicekit.database_url import address
from servicekit.start import StartError
from tests.fake_pooler import POOLER_PID, fake_pooler

CURE = "to the server itself, or to a pooler in session mode"
REFUSED = {
    "transaction": "a transaction pooler in between keeps no session",
    "statement": "a statement pooler in between allows no transaction",
}


async def start_booking(dsn: str) -> None:
    await require_database(Database(dsn))


@pytest.mark.parametrize("mode", REFUSED)
async def test_a_pooler_of_transactions_or_statements_is_refused(
    booking_dsn: str, metrics_dsn: str, mode: str
) -> None:
    starts: list[tuple[str, str, Callable[[str], Coroutine[object, object, None]]]] = [
        ("booking", booking_dsn, start_booking),
        ("metrics", metrics_dsn, check_ready),
    ]
    for name, dsn, start in starts:
        async with fake_pooler(dsn, mode) as pooled:
            with pytest.raises((StartError, LogNotReadyError)) as caught:
                await start(pooled)
        assert str(caught.value) == (
            f"the {name} database at {address(pooled)} cannot be used: {REFUSED[mode]};"
            f" set {name.upper()}_DATABASE_URL {CURE}"
        )


async def test_a_pooler_of_sessions_is_no_hindrance(booking_dsn: str, metrics_dsn: str) -> None:
    async with fake_pooler(metrics_dsn, "session") as pooled:
        await check_ready(pooled)
    async with fake_pooler(booking_dsn, "session") as pooled:
        database = Database(pooled, pool_size=2)
        assert await database.check_session()
        await require_database(database)
        await database.open()
        async with database.connection() as connection:
            assert await connection.fetchval("SHOW statement_timeout") == "5s"
            assert await connection.fetchval("SHOW enable_seqscan") == "off"
            # The reset after it undoes all settings.
            await connection.execute("SET statement_timeout = '17s'")
        async with database.connection() as connection:
            assert await connection.fetchval("SHOW statement_timeout") == "5s"
            assert await connection.fetchval("SHOW enable_seqscan") == "off"
        await database.close()


async def test_the_server_itself_is_asked_on_one_connection(booking_dsn: str) -> None:
    made = []

    async def connected() -> object:
        made.append(await connect(booking_dsn, session_settings={"enable_seqscan": "off"}))
        return made[-1]

    assert not await check_session(connected, {"enable_seqscan": "off"})  # type: ignore[arg-type]
    assert len(made) == 1


async def test_a_setting_that_does_not_arrive_is_named(booking_dsn: str) -> None:
    with pytest.raises(PoolerError, match="does not keep the setting enable_seqscan"):
        await check_session(lambda: connect(booking_dsn), {"enable_seqscan": "off"})


async def test_a_pooler_with_one_session_is_named_in_bounded_time(
    empty_dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = await connect(empty_dsn, session_settings={"timezone": "UTC"})
    monkeypatch.setattr("metrics_service.client.tracked.pooler.CHECK_TIMEOUT_S", 0.1)
    monkeypatch.setattr("asyncpg.Connection.get_server_pid", lambda _: POOLER_PID)
    waiting = [first]

    async def connected() -> object:
        if waiting:
            return waiting.pop()
        return await asyncio.Event().wait()

    with pytest.raises(PoolerError, match="gives no second session in time"):
        await check_session(connected, {"timezone": "UTC"})  # type: ignore[arg-type]


async def test_the_id_of_the_server_process_is_known_through_a_pooler(empty_dsn: str) -> None:
    async with fake_pooler(empty_dsn, "session") as pooled:
        connection = await connect(pooled, session_settings={"timezone": "UTC"})
        told = connection.get_server_pid()
        assert told == await connection.fetchval("SELECT pg_backend_pid()") != POOLER_PID
        await connection.close()
