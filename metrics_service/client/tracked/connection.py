"""A connection that times its queries, which asyncpg's own code runs."""
# The signatures with a timeout are asyncpg's.
# ruff: noqa: ASYNC109

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable, Iterator, Mapping
from functools import partial
from time import perf_counter_ns
from typing import Any, Final

import asyncpg

from metrics_service.client.queries import statements
from metrics_service.client.queries.record import NamedQuery, Outcome
from metrics_service.client.queries.statements import Statement
from metrics_service.client.tracked import internals
from metrics_service.client.tracked.copying import CopyingConnection
from metrics_service.client.tracked.counting import (
    Counted,
    affected,
    no_rows,
    returned_rows,
    status_rows,
)
from metrics_service.client.tracked.cursors import TrackedCursorFactory
from metrics_service.client.tracked.prepared import TrackedPreparedStatement
from metrics_service.client.tracked.query_timer import QueryTimer
from metrics_service.client.tracked.session import NO_SETTINGS, SessionConnection, may_last
from metrics_service.client.tracked.timing import Timing
from metrics_service.client.tracked.tracker import SAMPLE_MASK, Tracker, default_tracker

# Bound once, since super() and a member of an Enum cost a look-up at each use.
_execute: Final[Any] = internals.Connection._execute
_OK: Final = Outcome.OK


async def connect(
    dsn: str,
    *,
    tracker: Tracker | None = None,
    session_settings: Mapping[str, str] = NO_SETTINGS,
    **options: Any,
) -> TrackedConnection:
    """One tracked connection outside a pool; options are asyncpg.connect's. Without a tracker it
    uses the default tracker, that of `client.init`, if there is one now. session_settings are made
    after connecting, and so arrive through a pooler of sessions.
    """
    tracker = tracker or default_tracker() or Tracker()
    connection = await asyncpg.connect(dsn, connection_class=TrackedConnection, **options)
    if not isinstance(connection, TrackedConnection):
        raise TypeError("asyncpg.connect did not take its connection_class")
    if session_settings:
        await with_settings(connection, session_settings, options.get("timeout"))
    connection.track(tracker)
    connection.watch_pauses(tracker)
    return connection


async def with_settings(
    connection: TrackedConnection, settings: Mapping[str, str], timeout: float | None
) -> None:
    """Make these settings in the session of a new connection, which is ended if that fails."""
    try:
        await connection.keep_settings(settings, timeout)
    except BaseException:
        connection.terminate()
        raise


class TrackedConnection(CopyingConnection, SessionConnection):
    """Records each query once it has ended. Without a tracker it is a plain connection that also
    accepts a NamedQuery.
    """

    __slots__ = (
        "_acquired",
        "_driver",
        "_introspect_ns",
        "running",
        "tracker",
    )

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.tracker: Tracker | None = None
        # The user's query that is with the server now.
        self.running: QueryTimer | None = None
        # The statement that the driver's own queries are recorded under now.
        self._driver: Statement | None = None
        # The timing of the acquire, until the first query takes it over.
        self._acquired: QueryTimer | None = None
        self._introspect_ns = 0

    def track(self, tracker: Tracker, *, reset_on_release: bool = True) -> None:
        """Send records to this tracker. Without reset_on_release the reset query is sent only after
        a statement that may have left something in the session; open transactions are always rolled
        back and listeners removed.
        """
        self.tracker = self._session.tracker = tracker
        tracker.connections.add(self)
        self._reset_on_release = reset_on_release
        # Not a bound method: the listener must not keep the connection alive.
        self.add_termination_listener(self._session.ended)

    async def execute(self, query: str, *args: Any, timeout: float | None = None) -> str:
        if args:
            return await super().execute(query, *args, timeout=timeout)
        self._check_open()
        sql = _plain(query)
        run = super().execute
        status = await self.timed(
            self.statement(query), lambda left: run(sql, timeout=left), timeout, affected
        )
        return str(status)

    def cursor(
        self,
        query: str,
        *args: Any,
        prefetch: int | None = None,
        timeout: float | None = None,
        record_class: Any = None,
    ) -> Any:
        self._check_open()
        sql = _plain(query)
        return TrackedCursorFactory(self, sql, None, args, prefetch, timeout, record_class, query)

    def acquired(self, timer: QueryTimer) -> None:
        """Keep the timing of the acquire for the first query of a user."""
        self._acquired = timer

    @contextlib.contextmanager
    def driving(self, statement: Statement) -> Iterator[None]:
        """Record the queries inside as the driver's own, under this statement, and internal."""
        before, self._driver = self._driver, statement
        try:
            yield
        finally:
            self._driver = before

    def statement(self, query: str) -> Any:
        """Return how to record a query: a Statement or the NamedQuery, which has its attributes."""
        driver = self._driver
        if driver is not None:
            if driver is statements.INITIALISE and may_last(query):
                self._lasting_state = True
            return statements.set_up_by(query) if driver is statements.SET_UP else driver
        if isinstance(query, NamedQuery):
            return query
        if self.tracker is None:
            return statements.UNTRACKED
        return self.tracker.statements.statement(query)

    async def timed(
        self,
        statement: Any,
        run: Callable[[float | None], Awaitable[Any]],
        timeout: float | None,
        rows: Callable[[Any], int],
        part_of: Timing | None = None,
        internal: bool = False,
        batch_size: Callable[[], int] | None = None,
    ) -> Any:
        """Await run(remaining timeout) and record it; return and raise what run does.

        rows counts the rows in a result. part_of collects the timing of a part of something that
        has its own record. internal queries count as the user's if they fail.
        """
        tracker = self.tracker
        if tracker is None:
            return await run(timeout)
        sampled = not tracker.records & SAMPLE_MASK
        entered_ns, overhead_ns = perf_counter_ns() if sampled else 0, 0
        if statement.session_state:
            self._session_state = True
        driven = statement.internal or self._driver is not None
        timer = None if driven or internal else self._acquired
        if timer is None:
            timer = QueryTimer()
        else:
            self._acquired = None
        timer.start(tracker, statement, driven or internal)
        outcome, sqlstate, introspected_ns = _OK, None, self._introspect_ns
        session = self._session
        session.busy += 1
        try:
            protocol = self._protocol
            if protocol is not None and protocol._is_cancelling():
                timeout = await self._settled(protocol, timeout, timer, tracker)
                sampled = False  # this wait is no cost of the timing
            # A user's prepare is internal, but may wait for a lock as long as its query.
            if not driven and session.busy == 1:
                timer.trace_id = tracker.trace_id()
                self.running = timer
            if sampled:
                overhead_ns = perf_counter_ns() - entered_ns
            result = await run(timeout)
            timer.rows = rows(result)
        except StopAsyncIteration:
            raise
        except BaseException as error:
            outcome, sqlstate = timer.fail(error, closed=self.is_closed())
            raise
        finally:
            returned_ns = perf_counter_ns() if sampled else 0
            if self.running is timer:
                self.running = None
            session.busy -= 1
            timer.end(outcome, sqlstate, self._introspect_ns - introspected_ns, part_of, batch_size)
            if sampled:
                tracker.sample(overhead_ns + perf_counter_ns() - returned_ns)
        return result

    # Not a coroutine: it returns what it would await.
    def _execute(self, query: str, args: Any, limit: int, timeout: Any, **how: Any) -> Any:
        sql = _plain(query)
        return self.timed(
            self.statement(query),
            partial(_execute, self, sql, args, limit, **how),
            timeout,
            status_rows if how.get("return_status") else len,
        )

    async def _executemany(
        self, query: str, args: Any, timeout: Any, return_rows: bool = False, **how: Any
    ) -> Any:
        sql = _plain(query)
        counted = Counted(args)
        run = super()._executemany
        return await self.timed(
            self.statement(query),
            lambda left: run(sql, counted.source, left, return_rows, **how),
            timeout,
            returned_rows,
            batch_size=counted.count,
        )

    async def _prepare(self, query: str, *, timeout: Any = None, **how: Any) -> Any:
        self._check_open()
        sql = _plain(query)
        run = super()._prepare
        prepared = await self.timed(
            self.statement(query),
            lambda left: run(sql, timeout=left, **how),
            timeout,
            no_rows,
            internal=True,
        )
        return TrackedPreparedStatement(self, sql, prepared._state, query)

    async def _introspect_types(self, *args: Any) -> Any:
        tracker = self.tracker
        begun_ns = 0 if tracker is None else tracker.monotonic_ns()
        run = super()._introspect_types
        try:
            return await self.timed(statements.INTROSPECT, lambda _: run(*args), None, no_rows)
        finally:
            if tracker is not None:
                self._introspect_ns += tracker.since(begun_ns)

    async def _introspect_type(self, *args: Any) -> Any:
        with self.driving(statements.INTROSPECT):
            return await super()._introspect_type(*args)

    async def _settled(
        self, protocol: Any, timeout: Any, timing: Timing, tracker: Tracker
    ) -> float | None:
        """Wait until an earlier query is cancelled; return the remaining timeout."""
        begun_ns = tracker.monotonic_ns()
        try:
            left = await protocol._wait_for_cancellation(protocol._get_timeout(timeout))
        finally:
            timing.cancel_wait_ns = tracker.since(begun_ns)
        return None if left is None else float(left)


def _plain(query: str) -> str:
    return query.sql if isinstance(query, NamedQuery) else query
