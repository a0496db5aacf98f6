"""Whether a process leads, stands by, has lost the lead, or has lost its database."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

import asyncpg
import pytest

from metrics_service.eventlog.event_log import EventLog
from metrics_service.eventlog.writer import WRITER_LOCK
from tests.metrics.delivery_pair import BOUND_S, until


def role(log: EventLog) -> tuple[bool, bool, bool]:
    return log.leading, log.standing_by, log.superseded


LEADER = (True, False, False)
STANDBY = (False, True, False)
LEAD_LOST = (False, False, True)
DATABASE_LOST = (False, False, False)


@contextlib.asynccontextmanager
async def taking_the_lock(dsn: str) -> AsyncIterator[asyncpg.Connection[asyncpg.Record]]:
    """End the leader's session, and hold its lock on this one."""
    session = await asyncpg.connect(dsn)
    waiting = asyncio.create_task(session.execute("SELECT pg_advisory_lock($1)", WRITER_LOCK))
    side = await asyncpg.connect(dsn)
    waits = (
        "SELECT EXISTS (SELECT 1 FROM pg_locks AS l INNER JOIN pg_database AS d "
        "ON d.oid = l.database WHERE l.locktype = 'advisory' AND NOT l.granted "
        "AND d.datname = current_database())"
    )
    async with asyncio.timeout(BOUND_S):
        while not await side.fetchval(waits):  # noqa: ASYNC110 - in the database
            await asyncio.sleep(0.01)
    await side.close()
    await end_leader(dsn)
    await waiting
    try:
        yield session
    finally:
        await session.close()


async def end_leader(dsn: str) -> None:
    """End the session that holds the lock."""
    side = await asyncpg.connect(dsn)
    await side.execute(
        "SELECT pg_terminate_backend(l.pid) FROM pg_locks AS l "
        "INNER JOIN pg_database AS d ON d.oid = l.database "
        "WHERE l.locktype = 'advisory' AND l.granted AND d.datname = current_database()"
    )
    await side.close()


async def test_of_two_processes_one_leads_and_the_other_stands_by_until_they_change(
    metrics_dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = EventLog(metrics_dsn, tick_s=0.05), EventLog(metrics_dsn, tick_s=0.05)
    thawed = asyncio.Event()
    thawed.set()
    connect = first._writer._connect

    async def connect_when_thawed() -> asyncpg.Connection[asyncpg.Record]:
        await thawed.wait()
        return await connect()

    monkeypatch.setattr(first._writer, "_connect", connect_when_thawed)
    try:
        await first.start()
        await first.wait_leading()
        await second.start()
        await until(lambda: second.standing_by)
        assert (role(first), role(second)) == (LEADER, STANDBY)
        thawed.clear()
        await end_leader(metrics_dsn)
        await until(lambda: second.leading)
        assert (role(first), role(second)) == (DATABASE_LOST, LEADER)
        thawed.set()
        await until(lambda: first.superseded)
        assert (role(first), role(second)) == (LEAD_LOST, LEADER)
        await second.stop()
        await until(lambda: first.leading)
        assert role(first) == LEADER
    finally:
        thawed.set()
        await first.stop()
        await second.stop()


async def test_the_lock_of_its_own_lost_session_is_a_lost_database(metrics_dsn: str) -> None:
    log = EventLog(metrics_dsn, tick_s=0.05)
    await log.start()
    await log.wait_leading()
    async with taking_the_lock(metrics_dsn):
        await until(lambda: not log.leading)
        for _ in range(20):
            assert role(log) == DATABASE_LOST
            await asyncio.sleep(0.05)
    await until(lambda: log.leading)
    await log.stop()
