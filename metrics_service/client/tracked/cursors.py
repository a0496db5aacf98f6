"""Times the round trips of cursors. A cursor is recorded once, when it has ended, with the sum of
its round trips, which are its parts.
"""
# The signatures with a timeout are asyncpg's.
# ruff: noqa: ASYNC109

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Generator
from typing import Any

from metrics_service.client.queries.count import current_query_count
from metrics_service.client.queries.record import Outcome
from metrics_service.client.tracked import internals
from metrics_service.client.tracked.counting import no_rows, one_row
from metrics_service.client.tracked.outcome import classify
from metrics_service.client.tracked.ports import TimedConnection
from metrics_service.client.tracked.timing import Timing, enclosing_operation


class TrackedCursorFactory(internals.CursorFactory):
    """Makes the cursors."""

    __slots__ = ("_source",)

    def __init__(self, *args: Any) -> None:
        super().__init__(*args[:-1])
        self._source = args[-1]

    def __aiter__(self) -> TrackedCursorIterator:
        self._check_conn_validity("__aiter__")
        return TrackedCursorIterator(
            self._connection,
            self._query,
            self._state,
            self._args,
            self._record_class,
            50 if self._prefetch is None else self._prefetch,
            self._timeout,
            self._source,
        )

    def __await__(self) -> Generator[Any, None, Any]:
        self._check_conn_validity("__await__")
        if self._prefetch is not None:
            return super().__await__()  # which refuses it
        made = TrackedCursor(
            self._connection,
            self._query,
            self._state,
            self._args,
            self._record_class,
            self._source,
        )
        return made._init(self._timeout).__await__()


class TrackedCursorIterator(internals.CursorIterator):
    """Records each prefetch as a part of one cursor."""

    __slots__ = ("_whole",)

    def __init__(self, *args: Any) -> None:
        super().__init__(*args[:-1])
        self._whole = _WholeCursor(self._connection, args[-1])

    async def __anext__(self) -> Any:
        if self._buffer or self._exhausted:
            return await super().__anext__()
        self._check_conn_validity("__anext__")
        run = super().__anext__
        row = await self._whole.part(
            self._connection, lambda _: run(), None, lambda _: 1 + len(self._buffer)
        )
        if self._exhausted:
            self._whole.end()
        return row

    def __del__(self) -> None:
        super().__del__()
        self._whole.abandon()


class TrackedCursor(internals.Cursor):
    """Records each fetch as a part of one cursor."""

    __slots__ = ("_whole",)

    def __init__(self, *args: Any) -> None:
        super().__init__(*args[:-1])
        self._whole = _WholeCursor(self._connection, args[-1])

    async def fetch(self, n: int, *, timeout: float | None = None) -> Any:
        run = super().fetch
        return await self._part("fetch", lambda left: run(n, timeout=left), timeout, len)

    async def fetchrow(self, *, timeout: float | None = None) -> Any:
        run = super().fetchrow
        return await self._part("fetchrow", lambda left: run(timeout=left), timeout, one_row)

    async def forward(self, n: int, *, timeout: float | None = None) -> int:
        run = super().forward
        return int(await self._part("forward", lambda left: run(n, timeout=left), timeout, int))

    async def _init(self, timeout: float | None) -> TrackedCursor:
        run = super()._init
        await self._whole.part(self._connection, lambda left: run(left), timeout, no_rows)
        return self

    async def _part(
        self,
        method: str,
        run: Callable[[float | None], Awaitable[Any]],
        timeout: float | None,
        rows: Callable[[Any], int],
    ) -> Any:
        self._check_conn_validity(method)
        if self._exhausted:
            return await run(timeout)
        result = await self._whole.part(self._connection, run, timeout, rows)
        if self._exhausted:
            self._whole.end()
        return result

    def __del__(self) -> None:
        super().__del__()
        self._whole.abandon()


class _WholeCursor:
    """One cursor: the sum of its round trips, recorded once."""

    __slots__ = ("_internal", "_loop", "_open", "_started_us", "_statement", "_sum", "_tracker")

    def __init__(self, connection: TimedConnection, source: str) -> None:
        self._statement = connection.statement(source)
        self._tracker = connection.tracker
        self._loop = asyncio.get_running_loop()
        self._sum = Timing()
        self._started_us = 0
        self._internal = True
        self._open = False

    async def part(
        self,
        connection: TimedConnection,
        run: Callable[[float | None], Awaitable[Any]],
        timeout: float | None,
        rows: Callable[[Any], int],
    ) -> Any:
        """Run one round trip; a failure ends the cursor."""
        if not self._open and self._tracker is not None:
            self._open = True
            self._started_us = self._tracker.now_us()
            self._internal = self._statement.internal or enclosing_operation() is not None
            if not self._statement.internal and (counted := current_query_count.get()) is not None:
                counted.own += 1
        tracker = self._tracker
        begun_ns = 0 if tracker is None else tracker.monotonic_ns()
        try:
            return await connection.timed(self._statement, run, timeout, rows, part_of=self._sum)
        except StopAsyncIteration:
            self.end()
            raise
        except BaseException as error:
            outcome, sqlstate = classify(error, closed=connection.is_closed())
            if tracker is not None:
                _, outcome = tracker.ran(tracker.monotonic_ns() - begun_ns, outcome)
            self.end(outcome, sqlstate)
            raise

    def end(self, outcome: Outcome = Outcome.OK, sqlstate: str | None = None) -> None:
        """Record the cursor, unless it is recorded already."""
        if self._open and self._tracker is not None:
            self._open = False
            definition = self._statement.definition
            self._tracker.emit(
                definition, self._started_us, self._sum, outcome, sqlstate, self._internal
            )

    def abandon(self) -> None:
        """Record a cursor that was not read to its end, from the thread that collects it."""
        if not self._open:
            return
        try:
            here = asyncio.get_running_loop() is self._loop
        except RuntimeError:
            here = False
        if here:
            self.end()
        elif not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self.end)
