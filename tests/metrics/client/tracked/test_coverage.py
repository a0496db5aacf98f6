"""Every way to run a query makes its records, and changes nothing for the caller."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import io
import itertools
import secrets
import weakref
from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import pytest

from metrics_service.client.queries.record import NamedQuery, Outcome
from metrics_service.client.tracked import (
    TrackedConnection,
    TrackedPool,
    Tracker,
    check_coverage,
    connect,
    selftest,
)
from tests.metrics.client.recording import Clock, Recording, never_paused


@pytest.fixture
async def sink() -> Recording:
    return Recording()


@pytest.fixture
async def connection(empty_dsn: str, sink: Recording) -> AsyncIterator[TrackedConnection]:
    made = await connect(empty_dsn, tracker=Tracker([sink]))
    yield made
    await made.close()


async def test_every_kind_of_call_makes_exactly_its_records(empty_dsn: str) -> None:
    assert await check_coverage(empty_dsn) == []


async def test_the_self_test_detects_a_call_that_is_not_timed(
    empty_dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(TrackedConnection, "_copy_out", vars(asyncpg.Connection)["_copy_out"])
    wrong = await selftest.check_coverage(empty_dsn)
    assert [line.split(":")[0] for line in wrong] == ["copy out", "copy from query"]


async def test_a_prepared_statement_fetched_three_times_is_three_records(
    connection: TrackedConnection, sink: Recording
) -> None:
    prepared = await connection.prepare("SELECT $1::int")
    for value in range(3):
        await prepared.fetch(value)
    assert [kept.record.rows for kept in sink.user] == [1, 1, 1]
    assert len({kept.record.fingerprint for kept in sink.user}) == 1


async def test_a_cursor_over_1000_rows_is_one_query_of_about_20_round_trips(
    connection: TrackedConnection, sink: Recording
) -> None:
    async with connection.transaction():
        sink.clear()
        rows = connection.cursor("SELECT generate_series(1, 1000)", prefetch=50)
        assert [row[0] async for row in rows] == list(range(1, 1001))
    parts = [kept for kept in sink.labelled("sql.select") if kept.record.internal]
    (whole,) = sink.user
    assert 20 <= len(parts) <= 21
    assert whole.record.rows == 1000
    assert whole.record.execute_us == pytest.approx(
        sum(part.record.execute_us for part in parts), abs=len(parts)
    )


async def test_a_cursor_left_early_is_recorded_with_what_it_read(
    connection: TrackedConnection, sink: Recording
) -> None:
    async with connection.transaction():
        async for row in connection.cursor("SELECT generate_series(1, 1000)", prefetch=10):
            if row[0] == 15:
                break
        gc.collect()
        assert [kept.record.rows for kept in sink.user] == [20]


async def test_copy_in_and_out_count_their_rows(
    connection: TrackedConnection, sink: Recording
) -> None:
    await connection.execute("CREATE TEMP TABLE t (a int)")
    sink.clear()
    await connection.copy_records_to_table("t", records=[(n,) for n in range(7)])
    await connection.copy_from_query("SELECT a FROM t WHERE a < $1", 3, output=io.BytesIO())
    assert [(kept.label, kept.record.rows) for kept in sink.user] == [
        ("sql.copy", 7),
        ("sql.copy", 3),
    ]


async def test_executemany_is_one_operation_with_its_size(
    connection: TrackedConnection, sink: Recording
) -> None:
    await connection.execute("CREATE TEMP TABLE t (a int)")
    sink.clear()
    await connection.executemany("INSERT INTO t VALUES ($1)", [(n,) for n in range(1000)])
    await connection.executemany("INSERT INTO t VALUES ($1)", ((n,) for n in range(500)))
    assert [kept.record.batch_size for kept in sink.user] == [1000, 500]
    assert await connection.fetchval("SELECT count(*) FROM t") == 1500


async def test_a_thousand_savepoints_are_one_fingerprint(
    connection: TrackedConnection, sink: Recording
) -> None:
    async with connection.transaction():
        for _ in range(1000):
            async with connection.transaction():
                pass
    savepoints = sink.labelled("transaction.savepoint")
    assert len(savepoints) == 1000
    assert len({kept.record.fingerprint for kept in savepoints}) == 1
    assert sink.user == []


async def test_what_the_driver_does_for_itself_is_internal(empty_dsn: str, sink: Recording) -> None:
    async with TrackedPool(empty_dsn, sinks=[sink], max_size=1) as pool:
        async with pool.acquire() as connection, connection.transaction():
            await connection.execute("CREATE TYPE mood AS ENUM ('sad', 'happy')")
            sink.clear()
            assert await connection.fetchval("SELECT 'sad'::mood") == "sad"
            assert [kept.label for kept in sink.user] == ["sql.select"]
        labels = [kept.label for kept in sink.all if kept.record.internal]
        assert labels == ["driver.introspect", "transaction.commit", "pool.reset"]


async def test_introspection_is_not_in_the_query_that_needed_it(
    empty_dsn: str, sink: Recording, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock()
    introspect = asyncpg.Connection._introspect_types  # type: ignore[attr-defined]

    async def slowly(*args: Any) -> Any:
        clock.s += 3
        return await introspect(*args)

    monkeypatch.setattr(asyncpg.Connection, "_introspect_types", slowly)
    tracker = Tracker([sink], monotonic_ns=clock.monotonic_ns, pauses=never_paused())
    connection = await connect(empty_dsn, tracker=tracker)
    try:
        await connection.execute("CREATE TYPE mood AS ENUM ('sad', 'happy')")
        sink.clear()
        await connection.fetchval("SELECT 'sad'::mood")
    finally:
        await connection.close()
    spent_s = {kept.label: kept.record.execute_us / 1e6 for kept in sink.all}
    assert spent_s == {"driver.introspect": 3, "sql.select": 0}


async def test_options_pass_through_unchanged(
    empty_dsn: str, connection: TrackedConnection
) -> None:
    class Row(asyncpg.Record):
        pass

    async with TrackedPool(empty_dsn, max_size=1) as pool:
        for source in (connection, pool):
            assert type((await source.fetch(query="SELECT 1", record_class=Row))[0]) is Row
            assert type(await source.fetchrow("SELECT $1::int", 1, record_class=Row)) is Row
            with pytest.raises(TimeoutError):
                await source.fetch("SELECT pg_sleep(60)", timeout=0.05)
            assert await source.fetchval("SELECT 1, 2", column=1) == 2
            assert await source.execute(query="SELECT 1") == "SELECT 1"


async def test_a_named_query_runs_everywhere_under_its_name(
    connection: TrackedConnection, sink: Recording
) -> None:
    named = NamedQuery("SELECT 1 AS one", model="things", operation="one")
    await connection.execute(named)
    await connection.fetch(named)
    await (await connection.prepare(named)).fetch()
    await connection.copy_from_query(named, output=io.BytesIO())
    async with connection.transaction():
        assert [row["one"] async for row in connection.cursor(named)] == [1]
    assert [kept.label for kept in sink.user] == ["things.one"] * 5
    assert {kept.definition.text for kept in sink.user} == {""}


async def test_an_internal_named_query_is_internal(
    connection: TrackedConnection, sink: Recording
) -> None:
    poll = NamedQuery("SELECT 1", model="outbox", operation="poll", internal=True)
    await connection.fetchval(poll)
    assert [(kept.label, kept.record.internal) for kept in sink.all] == [("outbox.poll", True)]


async def test_a_sink_that_raises_changes_nothing_and_is_counted(empty_dsn: str) -> None:
    class Broken:
        def record_query(self, *_: object) -> None:
            raise RuntimeError("broken")

    after = Recording()
    tracker = Tracker([Broken(), after])
    connection = await connect(empty_dsn, tracker=tracker)
    try:
        assert await connection.fetchval("SELECT 42") == 42
    finally:
        await connection.close()
    assert tracker.sink_errors == 1
    assert len(after.user) == 1


async def test_durations_do_not_move_with_the_wall_clock(empty_dsn: str, sink: Recording) -> None:
    back_by_an_hour = itertools.count(10**15, -3_600_000_000)
    tracker = Tracker([sink], now_us=lambda: next(back_by_an_hour))
    connection = await connect(empty_dsn, tracker=tracker)
    try:
        for _ in range(3):
            await connection.fetchval("SELECT pg_sleep(0.01)")
    finally:
        await connection.close()
    # By the wall clock it would be minus an hour.
    assert all(10_000 <= kept.record.execute_us < 60_000_000 for kept in sink.user)
    starts = [kept.record.started_us for kept in sink.user]
    assert starts == sorted(starts, reverse=True)


async def test_the_trace_id_of_the_caller_is_recorded(empty_dsn: str, sink: Recording) -> None:
    trace_ids: list[bytes | None] = [b"t" * 16]
    connection = await connect(empty_dsn, tracker=Tracker([sink], trace_id=lambda: trace_ids[0]))
    try:
        await connection.fetchval("SELECT 1")
        trace_ids[0] = None
        await connection.fetchval("SELECT 1")
    finally:
        await connection.close()
    assert [kept.record.trace_id for kept in sink.user] == [b"t" * 16, None]


async def test_no_literal_or_argument_reaches_a_record(
    connection: TrackedConnection, sink: Recording
) -> None:
    canary = f"canary{secrets.token_hex(8)}"
    quoted = f"'{canary}'"
    await connection.execute("CREATE TEMP TABLE t (a text)")
    await connection.execute(f"INSERT INTO t VALUES ({quoted}), ($${canary}$$), (E'\\n{canary}')")
    await connection.execute(f"COMMENT ON TABLE t IS {quoted}; SELECT {quoted} /* {canary} */")
    await connection.execute(f"ALTER TABLE t ADD b text DEFAULT {quoted}")
    await connection.execute(f"DO $x$ BEGIN PERFORM {quoted}; END $x$")
    await connection.executemany("INSERT INTO t VALUES ($1)", [(canary,)])
    await connection.fetchmany(f"SELECT $1 || {quoted}", [(canary,)])
    await connection.copy_records_to_table("t", records=[(canary, canary)])
    await connection.copy_to_table("t", source=io.BytesIO(canary.encode() + b"\tx\n"))
    await connection.copy_from_query("SELECT $1::text", canary, output=io.BytesIO())
    prepared = await connection.prepare(f"SELECT $1::text, {quoted}")
    await prepared.fetch(canary)
    async with connection.transaction():
        assert [row async for row in connection.cursor(f"SELECT {quoted}, $1::text", canary)]
    for broken in (f"SELEC {quoted}", f"SELECT '{canary}", f"{canary} x", f'SELECT "{canary}'):
        with pytest.raises(asyncpg.PostgresSyntaxError):
            await connection.fetch(broken)
    with pytest.raises(asyncpg.DataError):
        await connection.fetch("SELECT $1::int", canary)
    await connection.fetch(f"SELECT {quoted} /* {'x' * 20_000} */")
    assert len(sink.user) >= 17
    assert canary not in repr(sink.all)


async def test_a_record_keeps_no_frame_or_traceback_alive(
    connection: TrackedConnection, sink: Recording
) -> None:
    class Local:
        pass

    async def fail() -> weakref.ref[Local]:
        local = Local()
        # Not pytest.raises, which keeps the exception itself.
        with contextlib.suppress(asyncpg.DivisionByZeroError):
            await connection.fetch("SELECT 1 / 0")
        return weakref.ref(local)

    local = await fail()
    # The event loop holds the future that carried the exception until its next turn.
    await asyncio.sleep(0)
    gc.collect()
    assert local() is None
    assert sink.user[0].outcome is Outcome.ERROR


async def test_many_queries_at_once_are_each_recorded_once(empty_dsn: str, sink: Recording) -> None:
    async with TrackedPool(empty_dsn, sinks=[sink], max_size=4) as pool:
        answers = await asyncio.gather(*(pool.fetchval("SELECT $1::int", n) for n in range(100)))
    assert answers == list(range(100))
    assert [kept.label for kept in sink.user] == ["sql.select"] * 100
