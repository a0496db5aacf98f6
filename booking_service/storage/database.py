"""The only door to the booking database: its pool, transactions, time and errors.

No driver error passes it, every wait behind it is bounded, and no time but the database's is used.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from datetime import datetime, timedelta
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, Protocol, TypeAlias, TypeVar

import asyncpg
from asyncpg.pool import PoolConnectionProxy

from booking_service.storage.sql import QueryGroup
from metrics_service.client import NamedQuery, TrackedPool, Tracker, connect
from servicekit.context import remaining_s
from servicekit.errors import UNAVAILABLE, ApiError

T = TypeVar("T")
Record: TypeAlias = asyncpg.Record

if TYPE_CHECKING:
    OwnConnection: TypeAlias = asyncpg.Connection[Record]
    Connection: TypeAlias = PoolConnectionProxy[Record] | OwnConnection
else:
    # Generic in their stubs only.
    OwnConnection = asyncpg.Connection
    Connection = PoolConnectionProxy | OwnConnection

ATTEMPTS: Final = 3
"""How often a transaction is carried out at most."""

CONNECT_TIMEOUT_S: Final = 5.0
ACQUIRE_TIMEOUT_S: Final = 5.0
STATEMENT_TIMEOUT_S: Final = 5.0
# The server ends a statement itself; this is for a server that does not answer any more.
COMMAND_TIMEOUT_S: Final = STATEMENT_TIMEOUT_S + 1.0
IDLE_IN_TRANSACTION_TIMEOUT_S: Final = 10.0

_CLOCK = QueryGroup("clock")


class DatabaseError(Exception):
    """The database refused a statement. Never carries values, only codes and names."""

    def __init__(self, sqlstate: str | None, constraint: str | None = None) -> None:
        at = f" ({constraint})" if constraint else ""
        super().__init__(f"the database refused a statement: {sqlstate or 'no code'}{at}")
        self.sqlstate = sqlstate
        self.constraint = constraint


class Conflict(DatabaseError):  # noqa: N818 - a condition to try again on
    """A deadlock or serialisation failure (40001, 40P01): try the transaction again."""


class LockTimeout(DatabaseError):  # noqa: N818 - as Conflict
    """A lock was not granted in time (55P03)."""


class DuplicateKey(DatabaseError):  # noqa: N818 - as Conflict
    """A unique constraint refused a row (23505); `constraint` names it."""


class DataRefused(DatabaseError):  # noqa: N818 - as Conflict
    """Values were malformed or broke a constraint (classes 22 and 23): one command's own fault."""


class DatabaseUnavailable(ApiError):  # noqa: N818 - named as its reason
    """The database cannot be reached or did not answer in time; UNAVAILABLE to the caller.

    What was asked for may or may not have happened.
    """

    def __init__(self, message: str) -> None:
        super().__init__(UNAVAILABLE, message, retry_after_s=1.0)


class ConnectionLost(DatabaseUnavailable):
    """The connection broke, was refused, or the server is starting or stopping.

    `absent` says that the server answered, but has no such database.
    """

    def __init__(self, message: str, *, absent: bool = False) -> None:
        super().__init__(message)
        self.absent = absent


class StatementTimeout(DatabaseUnavailable):
    """No answer, or no free connection, in the time there was."""


class Clock(Protocol):
    """Says what time it is; injected, so that tests and replays set it."""

    async def now(self, connection: Connection) -> datetime:
        """The time now, aware, in UTC, to the microsecond; call it after locks are held."""


class DatabaseClock:
    """The database server's own clock."""

    async def now(self, connection: Connection) -> datetime:
        value: datetime = await connection.fetchval(_CLOCK.now)
        return value


class SetClock:
    """A clock that stands still until it is set."""

    def __init__(self, time: datetime) -> None:
        self.time = time

    async def now(self, connection: Connection) -> datetime:
        del connection
        return self.time

    def advance(self, by: timedelta) -> None:
        self.time += by


class Database:
    """The booking database. Open it once a process; at most `pool_size` connections do the work.

    `tracker` gets a record of each query. What the driver raises becomes an error of this module.
    """

    pool: TrackedPool

    def __init__(
        self,
        dsn: str,
        *,
        pool_size: int = 8,
        tracker: Tracker | None = None,
        clock: Clock | None = None,
        application_name: str = "booking_service",
    ) -> None:
        self.dsn = dsn
        self.clock = clock or DatabaseClock()
        self.tracker = tracker or Tracker()
        self._pool_size = pool_size
        self._application_name = application_name

    async def open(self) -> None:
        """Connect the pool. Raises ConnectionLost or StatementTimeout."""
        with translated():
            self.pool = await TrackedPool.create(
                self.dsn,
                tracker=self.tracker,
                # No statement of sql/ leaves anything in a session.
                reset_on_release=False,
                min_size=1,
                max_size=self._pool_size,
                timeout=CONNECT_TIMEOUT_S,
                command_timeout=COMMAND_TIMEOUT_S,
                server_settings=self._server_settings(self._application_name),
            )

    async def close(self) -> None:
        """Close the pool; connections still at work are cut off after a moment."""
        try:
            async with asyncio.timeout(2.0):
                await self.pool.close()
        except TimeoutError:
            self.pool.terminate()

    async def connect(
        self, purpose: str, *, settings: Mapping[str, str] = MappingProxyType({})
    ) -> OwnConnection:
        """A connection of its own, beside the pool, which the caller closes; `settings` are the
        server's.
        """
        name = f"{self._application_name}/{purpose}"
        with translated():
            return await connect(
                self.dsn,
                tracker=self.tracker,
                timeout=CONNECT_TIMEOUT_S,
                command_timeout=COMMAND_TIMEOUT_S,
                server_settings={**self._server_settings(name), **settings},
            )

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[Connection]:
        """A connection of the pool, within what time the current RPC has left."""
        with translated():
            async with self.pool.acquire(timeout=_budget_s(ACQUIRE_TIMEOUT_S)) as connection:
                yield connection

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Connection]:
        """A READ COMMITTED transaction on a connection of the pool; rolled back on any exception.

        A ConnectionLost may come from the commit itself: then its outcome is unknown.
        """
        async with self.connection() as connection, connection.transaction():
            yield connection

    async def transact(self, work: Callable[[Connection], Awaitable[T]]) -> T:
        """Run `work` in a transaction, the whole again after a Conflict, ATTEMPTS times at most."""
        for attempt in range(1, ATTEMPTS):
            try:
                return await self._once(work)
            except Conflict:
                # Apart from each other, so that the same two do not meet again.
                await asyncio.sleep(random.uniform(0, 0.01 * attempt))  # noqa: S311 - no secret
        return await self._once(work)

    async def fetch(self, query: NamedQuery, *args: object) -> list[Record]:
        """All rows of one read, within what time the current RPC has left."""
        async with self.connection() as connection:
            return await connection.fetch(query, *args, timeout=query_timeout_s())

    async def fetchrow(self, query: NamedQuery, *args: object) -> Record | None:
        """The first row of one read, or None."""
        async with self.connection() as connection:
            return await connection.fetchrow(query, *args, timeout=query_timeout_s())

    async def _once(self, work: Callable[[Connection], Awaitable[T]]) -> T:
        async with self.transaction() as connection:
            return await work(connection)

    def _server_settings(self, application_name: str) -> dict[str, str]:
        return {
            "application_name": application_name,
            "TimeZone": "UTC",
            "default_transaction_isolation": "read committed",
            # A plan made while a table was empty, a foreign key's above all, would go on scanning
            # it until the first ANALYZE: measured, a hot package fell to a quarter of its rate.
            "enable_seqscan": "off",
            "statement_timeout": f"{STATEMENT_TIMEOUT_S * 1000:.0f}",
            "idle_in_transaction_session_timeout": f"{IDLE_IN_TRANSACTION_TIMEOUT_S * 1000:.0f}",
        }


def query_timeout_s() -> float | None:
    """What the current RPC has left for a query; None outside one. Raises StatementTimeout."""
    left = remaining_s()
    if left is not None and left <= 0:
        raise StatementTimeout("the deadline passed before the query")
    return left


@contextmanager
def translated() -> Iterator[None]:
    """Turns what the driver raises into this module's errors, without their texts."""
    try:
        yield
    except asyncpg.PostgresError as error:
        raise _of_sqlstate(error) from None
    except asyncpg.InterfaceError as error:
        if isinstance(error, ValueError):
            # The driver could not encode an argument.
            raise DataRefused(None) from None
        if any(fault in str(error) for fault in _OUR_FAULTS):
            raise
        raise ConnectionLost("the connection was closed") from None
    except asyncpg.InternalClientError:
        raise ConnectionLost("the connection broke") from None
    except TimeoutError:
        raise StatementTimeout("the database did not answer in time") from None
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise ConnectionLost(f"the database cannot be reached: {reason}") from None


def _budget_s(limit_s: float) -> float:
    left = query_timeout_s()
    return limit_s if left is None else min(left, limit_s)


def _of_sqlstate(error: asyncpg.PostgresError) -> Exception:
    sqlstate: str = getattr(error, "sqlstate", None) or ""
    constraint: str | None = getattr(error, "constraint_name", None)
    match sqlstate:
        case "40001" | "40P01":
            return Conflict(sqlstate)
        case "55P03":
            return LockTimeout(sqlstate)
        case "23505":
            return DuplicateKey(sqlstate, constraint)
        case "57014":
            return StatementTimeout("the database ended a statement that took too long")
        case "3D000":
            return ConnectionLost("there is no such database", absent=True)
        case "28P01" | "28000":
            return ConnectionLost("the database refused the user or the password")
        case "25P03":
            return ConnectionLost("a transaction was idle for too long")
    if sqlstate[:2] in ("22", "23"):
        return DataRefused(sqlstate, constraint)
    if sqlstate[:2] in ("08", "53", "57", "58"):
        return ConnectionLost(f"the connection was lost ({sqlstate})")
    return DatabaseError(sqlstate, constraint)


# What the driver says of a mistake in this code, with the class it uses for a closed connection.
_OUR_FAULTS = ("another operation is in progress", "the server expects")
