"""Classifies how a query ended by its exception; only a code is returned, never the exception or
its text.
"""

from __future__ import annotations

import asyncio
from typing import Final

import asyncpg

from metrics_service.client.queries.record import Outcome

_ENDED_BY_SERVER: Final = frozenset({"57P01", "57P02", "57P03", "57P04", "57P05"})


def classify(error: BaseException, *, closed: bool) -> tuple[Outcome, str | None]:
    """Return outcome and SQLSTATE of an exception; closed is whether the connection is gone.

    A query that its own caller cancels raises CancelledError; SQLSTATE 57014 is a cancellation by
    the server (statement_timeout, an administrator) and stays an error.
    """
    if isinstance(error, asyncio.CancelledError | GeneratorExit):
        return Outcome.CANCELLED, None
    if isinstance(error, TimeoutError):
        # With an errno it comes from the operating system: the network gave no answer.
        lost = error.errno is not None
        return (Outcome.CONNECTION_LOST if lost else Outcome.TIMEOUT), None
    if isinstance(error, asyncpg.PostgresError):
        return _classify_server_error(error, closed)
    if isinstance(error, asyncpg.InterfaceError):
        if "another operation" in str(error.args[0] if error.args else ""):
            return Outcome.MISUSE, None
        return (Outcome.CONNECTION_LOST if closed else Outcome.ERROR), None
    if closed and isinstance(error, OSError | asyncpg.InternalClientError):
        return Outcome.CONNECTION_LOST, None
    return Outcome.ERROR, None


def _classify_server_error(
    error: asyncpg.PostgresError, closed: bool
) -> tuple[Outcome, str | None]:
    sqlstate = _sqlstate(error)
    if isinstance(error, asyncpg.ConnectionDoesNotExistError):
        # Its cause is the server's last message, such as "terminated by an administrator".
        cause = error.__cause__
        if isinstance(cause, asyncpg.PostgresError):
            sqlstate = _sqlstate(cause) or sqlstate
        return Outcome.CONNECTION_LOST, sqlstate
    if closed or sqlstate is None or sqlstate[:2] == "08" or sqlstate in _ENDED_BY_SERVER:
        return Outcome.CONNECTION_LOST, sqlstate
    return Outcome.ERROR, sqlstate


def _sqlstate(error: asyncpg.PostgresError) -> str | None:
    sqlstate = getattr(error, "sqlstate", None)
    return sqlstate if isinstance(sqlstate, str) else None
