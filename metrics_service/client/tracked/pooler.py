"""Gives a connection its settings so that they also arrive through a pooler, and recognises one.

A startup parameter fails at most poolers, and is left out by one that is told to ignore it; a
setting that is made after connecting arrives wherever a connection has a session of its own.
"""
# The signatures with a timeout are asyncpg's.
# ruff: noqa: ASYNC109

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

import asyncpg

CHECK_TIMEOUT_S: Final = 5.0
"""How long the second connection of a check may take, with its statements."""

CHECK_ROUNDS: Final = 3
"""How often a transaction tries to take a session: others may use a pooler at the same time."""

SET: Final = """
SELECT pg_catalog.pg_backend_pid(), pg_catalog.count(pg_catalog.set_config(name, value, false))
FROM unnest($1::text[], $2::text[]) AS wanted (name, value)
"""

_PID: Final = "SELECT pg_catalog.pg_backend_pid()"

_DIFFERENT: Final = """
SELECT wanted.name
FROM unnest($1::text[], $2::text[]) AS wanted (name, value)
LEFT JOIN pg_catalog.pg_settings AS found ON pg_catalog.lower(found.name) = wanted.name
WHERE found.setting IS DISTINCT FROM wanted.value
ORDER BY wanted.name
LIMIT 1
"""

# A statement that was prepared on one server session is looked for in another.
_SHARED: Final = (asyncpg.InvalidSQLStatementNameError, asyncpg.DuplicatePreparedStatementError)
_CLOSED: Final = (asyncpg.ProtocolViolationError, asyncpg.PostgresConnectionError, OSError)

_TRANSACTION: Final = "a transaction pooler in between keeps no session"
_STATEMENT: Final = "a statement pooler in between allows no transaction"


class PoolerError(Exception):
    """A pooler in between gives connections no sessions of their own; the text says which kind."""


async def set_session(
    connection: asyncpg.Connection[Any], settings: Mapping[str, str], timeout: float | None = None
) -> int:
    """Make these settings in the session; returns the process id of its server process.

    A pooler answers with another id when it is asked for the connection's.
    """
    row = await connection.fetchrow(SET, list(settings), list(settings.values()), timeout=timeout)
    if row is None:
        raise asyncpg.InternalClientError("an aggregate without a row")
    return int(row[0])


async def check_session(
    connect: Callable[[], Awaitable[asyncpg.Connection[Any]]], settings: Mapping[str, str]
) -> bool:
    """Return whether a pooler is in between; raises PoolerError unless it is one of sessions.

    `connect` makes a connection with these `settings`, in lower case and in their base units. The
    errors of the driver are raised as they are.
    """
    first = await connect()
    try:
        pid = await first.fetchval(_PID)
        pooled = bool(pid != asyncpg.Connection.get_server_pid(first))
        if pooled:
            await _check_apart(first, connect, pid)
        different = await first.fetchval(_DIFFERENT, list(settings), list(settings.values()))
    except _SHARED:
        raise PoolerError(_TRANSACTION) from None
    finally:
        first.terminate()
    if different is not None:
        raise PoolerError(f"something in between does not keep the setting {different}")
    return pooled


async def _check_apart(
    first: asyncpg.Connection[Any],
    connect: Callable[[], Awaitable[asyncpg.Connection[Any]]],
    pid: int,
) -> None:
    """Check that another connection's transactions do not take the session of the first."""
    try:
        async with asyncio.timeout(CHECK_TIMEOUT_S):
            second = await connect()
            try:
                for _ in range(CHECK_ROUNDS):
                    taken = await _begin(second)
                    # Where the second has taken the only session, the first would wait for it.
                    if taken == pid or await first.fetchval(_PID) != pid:
                        raise PoolerError(_TRANSACTION)
                    await second.execute("ROLLBACK")
                    # So that the session of the first is the newest that a pooler would lend.
                    if await first.fetchval(_PID) != pid:
                        raise PoolerError(_TRANSACTION)
            finally:
                second.terminate()
    except TimeoutError:
        raise PoolerError("a pooler in between gives no second session in time") from None


async def _begin(connection: asyncpg.Connection[Any]) -> int:
    """Begin a transaction; returns the process id of its server process."""
    try:
        await connection.execute("BEGIN")
        return int(await connection.fetchval(_PID))
    except _CLOSED:
        raise PoolerError(_STATEMENT) from None
