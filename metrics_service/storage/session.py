"""One connection to the metrics database, made when it is needed and again after it was lost."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, Final, TypeVar

import asyncpg

from metrics_service.storage.connections import TROUBLE, connect
from metrics_service.storage.errors import LogUnavailableError

QUERY_TIMEOUT_S: Final = 30.0

T = TypeVar("T")


class Session:
    """A connection that runs one query at a time, with these settings of its PostgreSQL session."""

    def __init__(self, dsn: str, **settings: str) -> None:
        self._dsn = dsn
        self._settings = settings
        self._connection: asyncpg.Connection[Any] | None = None
        self._lock = asyncio.Lock()

    async def using(self, query: Callable[[asyncpg.Connection[Any]], Coroutine[Any, Any, T]]) -> T:
        """Run a query on the connection, one at a time. LogUnavailableError when that fails."""
        async with self._lock:
            try:
                if self._connection is None or self._connection.is_closed():
                    self._connection = await connect(self._dsn, **self._settings)
                async with asyncio.timeout(QUERY_TIMEOUT_S):
                    return await query(self._connection)
            except TROUBLE as trouble:
                self._drop()
                raise LogUnavailableError(str(trouble)) from trouble
            except BaseException:
                self._drop()
                raise

    async def close(self) -> None:
        """Close the connection once no query runs."""
        async with self._lock:
            self._drop()

    def _drop(self) -> None:
        if self._connection is not None:
            self._connection.terminate()
            self._connection = None
