"""Connects to the booking database: its pool, transactions and time limits.

No driver error leaves it, and every wait for the database is bounded.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from types import MappingProxyType
from typing import Final

import asyncpg

from booking_service.storage.clock import Clock, DatabaseClock
from booking_service.storage.connection import Connection, OwnConnection, Record
from booking_service.storage.driver_errors import StatementTimeout, translate_driver_errors
from metrics_service.client import NamedQuery, TrackedPool, Tracker, connect
from metrics_service.client.host import check_session
from servicekit.context import remaining_s

CONNECT_TIMEOUT_S: Final = 5.0
ACQUIRE_TIMEOUT_S: Final = 5.0
STATEMENT_TIMEOUT_S: Final = 5.0
# The server ends a statement itself; this is for a server that no longer answers.
COMMAND_TIMEOUT_S: Final = STATEMENT_TIMEOUT_S + 1.0
IDLE_IN_TRANSACTION_TIMEOUT_S: Final = 10.0


class Database:
    """The booking database, opened once per process with a pool of at most `pool_size` connections.

    `tracker` gets a record of each query. Driver errors are raised as those of `driver_errors`.
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
        with translate_driver_errors():
            self.pool = await TrackedPool.create(
                self.dsn,
                tracker=self.tracker,
                # No statement of sql/ leaves anything in a session.
                reset_on_release=False,
                min_size=1,
                max_size=self._pool_size,
                timeout=CONNECT_TIMEOUT_S,
                command_timeout=COMMAND_TIMEOUT_S,
                server_settings={"application_name": self._application_name},
                session_settings=_session_settings(),
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
        """Return a new connection outside the pool, with these settings of its session.

        The caller closes it.
        """
        with translate_driver_errors():
            return await self._connect(purpose, {**_session_settings(), **settings})

    async def check_session(self) -> bool:
        """Return whether a pooler is in between. PoolerError unless it is one of sessions."""
        settings = _session_settings()
        with translate_driver_errors():
            return await check_session(lambda: self._connect("start", settings), settings)

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[Connection]:
        """Take a connection of the pool, within the deadline of the current RPC."""
        with translate_driver_errors():
            async with self.pool.acquire(timeout=_budget_s(ACQUIRE_TIMEOUT_S)) as connection:
                try:
                    yield connection
                except asyncpg.ReadOnlySQLTransactionError:
                    # The session would stay read-only when the database no longer is.
                    connection.terminate()
                    raise

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Connection]:
        """Run a READ COMMITTED transaction on a connection of the pool.

        Any exception rolls it back. After a ConnectionLost the outcome of the commit may be
        unknown.
        """
        async with self.connection() as connection, connection.transaction():
            yield connection

    async def fetch(self, query: NamedQuery, *args: object) -> list[Record]:
        """Return all rows of one read, within the deadline of the current RPC."""
        async with self.connection() as connection:
            return await connection.fetch(query, *args, timeout=query_timeout_s())

    async def fetchrow(self, query: NamedQuery, *args: object) -> Record | None:
        """Return the first row of one read, or None, within the deadline of the current RPC."""
        async with self.connection() as connection:
            return await connection.fetchrow(query, *args, timeout=query_timeout_s())

    async def _connect(self, purpose: str, settings: Mapping[str, str]) -> OwnConnection:
        return await connect(
            self.dsn,
            tracker=self.tracker,
            timeout=CONNECT_TIMEOUT_S,
            command_timeout=COMMAND_TIMEOUT_S,
            server_settings={"application_name": f"{self._application_name}/{purpose}"},
            session_settings=settings,
        )


def _session_settings() -> dict[str, str]:
    return {
        "timezone": "UTC",
        "default_transaction_isolation": "read committed",
        # A plan made while a table was empty, above all a foreign key's, scans the table until the
        # first ANALYZE: measured, the rate of a hot package fell to a quarter.
        "enable_seqscan": "off",
        "statement_timeout": f"{STATEMENT_TIMEOUT_S * 1000:.0f}",
        "idle_in_transaction_session_timeout": f"{IDLE_IN_TRANSACTION_TIMEOUT_S * 1000:.0f}",
    }


def query_timeout_s() -> float | None:
    """Return the time left before the RPC's deadline; None outside an RPC.

    Raises StatementTimeout after the deadline.
    """
    left = remaining_s()
    if left is not None and left <= 0:
        raise StatementTimeout("the deadline passed before the query")
    return left


def _budget_s(limit_s: float) -> float:
    left = query_timeout_s()
    return limit_s if left is None else min(left, limit_s)
