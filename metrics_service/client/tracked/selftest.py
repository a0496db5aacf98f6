"""Runs a query in every way that asyncpg has and compares the records with the expected ones, so
that an asyncpg version with other internals is detected at once.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Awaitable, Callable
from typing import Final, NamedTuple

import asyncpg

from metrics_service.client.queries.record import NamedQuery, Outcome, QueryDefinition, QueryRecord
from metrics_service.client.tracked.connection import TrackedConnection, connect
from metrics_service.client.tracked.tracker import Tracker


class Seen(NamedTuple):
    """The compared part of a record."""

    label: str
    rows: int = 0
    batch_size: int = 0
    internal: bool = False
    outcome: Outcome = Outcome.OK


class Check(NamedTuple):
    """One kind of call and its expected records, in order."""

    name: str
    call: Callable[[TrackedConnection], Awaitable[object]]
    expected: tuple[Seen, ...]


async def check_coverage(dsn: str) -> list[str]:
    """Run every kind of call on a new connection, with a temporary table. Return one line for each
    call that was not recorded as expected.
    """
    sink = _Recording()
    connection = await connect(dsn, tracker=Tracker([sink]))
    try:
        await connection.execute("CREATE TEMP TABLE coverage (id int, name text)")
        await connection.execute("INSERT INTO coverage SELECT g, 'n' FROM generate_series(1, 10) g")
        wrong = []
        for check in CHECKS:
            sink.seen.clear()
            await check.call(connection)
            if tuple(sink.seen) != check.expected:
                wrong.append(f"{check.name}: expected {check.expected}, recorded {sink.seen}")
        await connection.close()
    except BaseException:
        # A caller that stops waiting must not wait for an orderly close either.
        connection.terminate()
        raise
    return wrong


class _Recording:
    def __init__(self) -> None:
        self.seen: list[Seen] = []

    def record_query(self, record: QueryRecord, definition: QueryDefinition) -> None:
        self.seen.append(
            Seen(
                definition.label,
                record.rows,
                record.batch_size,
                record.internal,
                record.outcome,
            )
        )


_ALL: Final = "SELECT id FROM coverage WHERE id <= $1"
_NAMED: Final = NamedQuery(_ALL, model="coverage", operation="all")
_INSERT: Final = "INSERT INTO coverage VALUES ($1, $2)"
_BEGIN: Final = Seen("transaction.begin", internal=True)
_COMMIT: Final = Seen("transaction.commit", internal=True)
_PREPARED: Final = Seen("sql.select", internal=True)


async def _fetch_prepared(connection: TrackedConnection) -> None:
    prepared = await connection.prepare(_ALL)
    await prepared.fetch(3)
    await prepared.fetchrow(3)
    await prepared.fetchval(3)


async def _many_prepared(connection: TrackedConnection) -> None:
    prepared = await connection.prepare("UPDATE coverage SET name = $2 WHERE id = $1")
    await prepared.executemany([(1, "a"), (2, "b")])
    returning = await connection.prepare("UPDATE coverage SET name = 'c' WHERE id = $1 RETURNING 1")
    await returning.fetchmany([(1,), (2,), (3,)])


async def _iterate(connection: TrackedConnection) -> None:
    async with connection.transaction():
        async for _ in connection.cursor(_ALL, 10, prefetch=4):
            pass


async def _cursor(connection: TrackedConnection) -> None:
    async with connection.transaction():
        cursor = await connection.cursor(_NAMED, 10)
        await cursor.fetch(4)
        await cursor.forward(2)
        await cursor.fetchrow()
        await cursor.fetch(100)


async def _copy_out(connection: TrackedConnection) -> None:
    await connection.copy_from_table("coverage", output=io.BytesIO())


async def _copy_query(connection: TrackedConnection) -> None:
    await connection.copy_from_query(_ALL, 5, output=io.BytesIO())


async def _copy_in(connection: TrackedConnection) -> None:
    await connection.copy_to_table("coverage", source=io.BytesIO(b"1\tx\n2\ty\n"))


async def _copy_records(connection: TrackedConnection) -> None:
    await connection.copy_records_to_table("coverage", records=[(1, "x"), (2, "y"), (3, "z")])


async def _transaction(connection: TrackedConnection) -> None:
    async with connection.transaction():
        await connection.fetchval("SELECT 1")


async def _nested(connection: TrackedConnection) -> None:
    async with connection.transaction(), connection.transaction():
        await connection.fetchval("SELECT 1")


async def _error(connection: TrackedConnection) -> None:
    with contextlib.suppress(asyncpg.DivisionByZeroError):
        await connection.fetch("SELECT 1 / $1::int", 0)


CHECKS: Final[tuple[Check, ...]] = (
    Check(
        "execute",
        lambda c: c.execute("DELETE FROM coverage WHERE id = 10"),
        (Seen("sql.delete", rows=1),),
    ),
    Check(
        "execute with arguments",
        lambda c: c.execute(_INSERT, 10, "n"),
        (Seen("sql.insert", rows=1),),
    ),
    Check("fetch", lambda c: c.fetch(_ALL, 7), (Seen("sql.select", rows=7),)),
    Check("fetch of a named query", lambda c: c.fetch(_NAMED, 7), (Seen("coverage.all", rows=7),)),
    Check("fetchrow", lambda c: c.fetchrow(_ALL, 7), (Seen("sql.select", rows=1),)),
    Check("fetchval", lambda c: c.fetchval(_ALL, 7), (Seen("sql.select", rows=1),)),
    Check(
        "executemany",
        lambda c: c.executemany(_INSERT, [(11, "n"), (12, "n")]),
        (Seen("sql.insert", batch_size=2),),
    ),
    Check(
        "fetchmany",
        lambda c: c.fetchmany(f"{_INSERT} RETURNING id", [(13, "n"), (14, "n")]),
        (Seen("sql.insert", rows=2, batch_size=2),),
    ),
    Check(
        "prepared",
        _fetch_prepared,
        (
            _PREPARED,
            Seen("sql.select", rows=3),
            Seen("sql.select", rows=1),
            Seen("sql.select", rows=1),
        ),
    ),
    Check(
        "prepared, many",
        _many_prepared,
        (
            Seen("sql.update", internal=True),
            Seen("sql.update", batch_size=2),
            Seen("sql.update", internal=True),
            Seen("sql.update", rows=3, batch_size=3),
        ),
    ),
    Check(
        "cursor, iterated",
        _iterate,
        (
            _BEGIN,
            Seen("sql.select", rows=4, internal=True),
            Seen("sql.select", rows=4, internal=True),
            Seen("sql.select", rows=2, internal=True),
            Seen("sql.select", rows=10),
            _COMMIT,
        ),
    ),
    Check(
        "cursor, by hand",
        _cursor,
        (
            _BEGIN,
            Seen("coverage.all", internal=True),
            Seen("coverage.all", rows=4, internal=True),
            Seen("coverage.all", rows=2, internal=True),
            Seen("coverage.all", rows=1, internal=True),
            Seen("coverage.all", rows=3, internal=True),
            Seen("coverage.all", rows=10),
            _COMMIT,
        ),
    ),
    Check("copy out", _copy_out, (Seen("sql.copy", rows=14),)),
    Check(
        "copy from query",
        _copy_query,
        (
            Seen("sql.copy", internal=True),
            Seen("sql.copy", rows=1, internal=True),
            Seen("sql.copy", rows=5),
        ),
    ),
    Check("copy in", _copy_in, (Seen("sql.copy", rows=2),)),
    Check(
        "copy records",
        _copy_records,
        (
            Seen("sql.copy", internal=True),
            Seen("sql.copy", rows=3),
        ),
    ),
    Check("transaction", _transaction, (_BEGIN, Seen("sql.select", rows=1), _COMMIT)),
    Check(
        "nested transaction",
        _nested,
        (
            _BEGIN,
            Seen("transaction.savepoint", internal=True),
            Seen("sql.select", rows=1),
            Seen("transaction.release", internal=True),
            _COMMIT,
        ),
    ),
    Check("error", _error, (Seen("sql.select", outcome=Outcome.ERROR),)),
)
