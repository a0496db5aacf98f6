"""Times each execution of a prepared statement."""
# The signatures with a timeout are asyncpg's.
# ruff: noqa: ASYNC109

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any

from metrics_service.client.tracked import internals
from metrics_service.client.tracked.counting import Counted, no_rows, one_row, returned_rows
from metrics_service.client.tracked.cursors import TrackedCursorFactory
from metrics_service.client.tracked.ports import TimedConnection


class TrackedPreparedStatement(internals.PreparedStatement):
    """Records each execution; `source` is the NamedQuery or the text it was prepared from."""

    __slots__ = ("_source",)

    def __init__(self, connection: TimedConnection, query: str, state: Any, source: str) -> None:
        super().__init__(connection, query, state)
        self._source = source

    async def fetch(self, *args: object, timeout: float | None = None) -> Any:
        run = super().fetch
        return await self._timed("fetch", lambda left: run(*args, timeout=left), timeout, len)

    async def fetchval(self, *args: object, column: int = 0, timeout: float | None = None) -> Any:
        run = super().fetchval
        return await self._timed(
            "fetchval", lambda left: run(*args, column=column, timeout=left), timeout, one_row
        )

    async def fetchrow(self, *args: object, timeout: float | None = None) -> Any:
        run = super().fetchrow
        return await self._timed(
            "fetchrow", lambda left: run(*args, timeout=left), timeout, one_row
        )

    async def fetchmany(
        self, args: Iterable[Sequence[object]], *, timeout: float | None = None
    ) -> Any:
        counted = Counted(args)
        run = super().fetchmany
        return await self._timed(
            "fetchmany",
            lambda left: run(counted.source, timeout=left),
            timeout,
            returned_rows,
            counted.count,
        )

    async def executemany(
        self, args: Iterable[Sequence[object]], *, timeout: float | None = None
    ) -> None:
        counted = Counted(args)
        run = super().executemany
        await self._timed(
            "executemany",
            lambda left: run(counted.source, timeout=left),
            timeout,
            no_rows,
            counted.count,
        )

    def cursor(
        self, *args: object, prefetch: int | None = None, timeout: float | None = None
    ) -> Any:
        self._check_conn_validity("cursor")
        return TrackedCursorFactory(
            self._connection,
            self._query,
            self._state,
            args,
            prefetch,
            timeout,
            self._state.record_class,
            self._source,
        )

    async def _timed(
        self,
        method: str,
        run: Callable[[float | None], Awaitable[Any]],
        timeout: float | None,
        rows: Callable[[Any], int],
        batch_size: Callable[[], int] | None = None,
    ) -> Any:
        self._check_conn_validity(method)
        connection = self._connection
        statement = connection.statement(self._source)
        return await connection.timed(statement, run, timeout, rows, batch_size=batch_size)
