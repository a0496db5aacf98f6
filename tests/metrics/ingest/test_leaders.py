"""A process that has lost the lead of the log to another sends its producers away."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import asyncpg.connection
import pytest

from metrics_service.eventlog.writer import WRITER_LOCK
from servicekit.postgres import PostgresServer
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


class Leader(Sink):
    """A sink whose connection to the log can be lost for as long as a freeze would last."""

    def __init__(self, dsn: str, postgres: PostgresServer, **options: Any) -> None:
        super().__init__(dsn, **options)
        self.queries = 0
        self._postgres = postgres
        self._thawed = asyncio.Event()
        self._thawed.set()
        connect = self.log._writer._connect

        async def connect_when_thawed() -> Any:
            await self._thawed.wait()
            connection = await connect()
            connection.add_query_logger(self._on_query)
            return connection

        self.log._writer._connect = connect_when_thawed  # type: ignore[method-assign]

    def _on_query(self, query: asyncpg.connection.LoggedQuery) -> None:
        self.queries += 1

    async def freeze(self) -> None:
        """Have the server end the session that leads, as it does with one that is idle."""
        self._thawed.clear()
        database = self.dsn.rsplit("/", 1)[1].split("?")[0]
        self._postgres.psql(
            "postgres",
            "SELECT pg_terminate_backend(l.pid) FROM pg_locks AS l "
            "INNER JOIN pg_database AS d ON d.oid = l.database "
            f"WHERE l.locktype = 'advisory' AND d.datname = '{database}'",
        )
        await until(lambda: not self.log.leading)

    def thaw(self) -> None:
        self._thawed.set()


@pytest.fixture
async def old(
    metrics_dsn: str, postgres: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Leader]:
    remember(monkeypatch)
    leader = Leader(metrics_dsn, postgres, tick_s=0.05)
    async with running(leader):
        yield leader


async def test_producers_of_a_thawed_leader_go_to_the_one_that_leads(
    metrics_dsn: str, old: Leader
) -> None:
    facts = ListSource()
    async with Proxy(old.port) as proxy, streaming(proxy.target, facts):
        facts.put(events("before"))
        await until(lambda: facts.acked_seq == 1)
        await old.freeze()
        facts.put(events("during"))
        async with running(Sink(metrics_dsn, tick_s=0.05)) as new:
            # A lost database alone ends no stream: health goes on without it.
            assert old.ingest.streams == 1
            proxy.forward_to(new.port)
            old.thaw()
            await until(lambda: facts.acked_seq == 2, "the ack of the new leader")
            await until(lambda: old.ingest.streams == 0)
            await until(lambda: len(new.state.payloads("relay")) == 2)
            assert new.state.payloads("relay") == [events("before"), events("during")]


async def test_a_stream_that_does_not_leave_is_ended_and_others_are_refused_until_it_leads_again(
    metrics_dsn: str, old: Leader, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("metrics_service.ingest.streams.SEND_AWAY_S", 0.2)
    async with raw_client(old.target) as stubborn:
        await stubborn.welcome("relay")
        await old.freeze()
        async with running(Sink(metrics_dsn, tick_s=0.05)):
            old.thaw()
            await stubborn.expect("drain")
            # It neither half-closes nor falls silent.
            await stubborn.ended()
            async with raw_client(old.target) as late:
                await late.expect("drain")
                await late.ended()
    await until(lambda: old.log.leading)
    async with raw_client(old.target) as again:
        await again.welcome("relay")
        await again.batch(1, events("a"))
        await again.acked(1)


async def test_the_lock_of_its_own_lost_session_sends_no_producer_away(
    metrics_dsn: str, old: Leader
) -> None:
    async with raw_client(old.target) as client:
        await client.welcome("relay")
        await old.freeze()
        lost = await asyncpg.connect(metrics_dsn)
        assert await lost.fetchval("SELECT pg_try_advisory_lock($1)", WRITER_LOCK)
        asked = old.queries
        old.thaw()
        # Each time it asks for the lock, and whose the newest epoch is.
        await until(lambda: old.queries >= asked + 4)
        await lost.close()
        await until(lambda: old.log.leading)
        await client.batch(1, events("a"))
        await client.acked(1)
