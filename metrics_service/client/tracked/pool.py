"""A pool that times the wait for a connection apart from the query that follows it."""
# The signatures with a timeout are asyncpg's.
# ruff: noqa: ASYNC109

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from typing import Any, Self

import asyncpg

from metrics_service.client.queries import statements
from metrics_service.client.queries.record import Outcome, QuerySink
from metrics_service.client.queries.statements import Statement
from metrics_service.client.tracked import internals
from metrics_service.client.tracked.connection import TrackedConnection, with_settings
from metrics_service.client.tracked.outcome import classify
from metrics_service.client.tracked.query_timer import QueryTimer
from metrics_service.client.tracked.session import NO_SETTINGS
from metrics_service.client.tracked.timing import Timing, enclosing_operation
from metrics_service.client.tracked.tracker import Tracker, default_tracker
from protos.tracking.v1 import tracking_pb2
from servicekit.pauses import MIN_PAUSE_NS


class TrackedPool(internals.Pool):
    """asyncpg's pool, with records of its queries, acquires, connects and resets.

    Give either sinks or a tracker; without both it uses the default tracker, which `client.init`
    sets, if there is one when the pool is made. reset_on_release=False saves a round trip for each
    acquire where statements leave nothing in the session; after one that may, of setup= too, the
    reset is still sent. What init= does is done once per connection and stays, except settings,
    which any reset undoes, as with asyncpg: use server_settings for them. session_settings are made
    after connecting and again after each reset, and so arrive through a pooler of sessions. Further
    options are those of asyncpg.create_pool.
    """

    __slots__ = ("__weakref__", "_reset_on_release", "_session_settings", "_waiting", "tracker")

    def __init__(
        self,
        dsn: str | None = None,
        *,
        sinks: Iterable[QuerySink] | None = None,
        tracker: Tracker | None = None,
        reset_on_release: bool = True,
        session_settings: Mapping[str, str] = NO_SETTINGS,
        min_size: int = 1,
        max_size: int = 10,
        max_queries: int = 50_000,
        max_inactive_connection_lifetime: float = 300.0,
        connect: Any = None,
        setup: Any = None,
        init: Any = None,
        reset: Any = None,
        record_class: Any = asyncpg.Record,
        **connect_kwargs: Any,
    ) -> None:
        if tracker is None and sinks is None:
            tracker = default_tracker()
        self.tracker = tracker or Tracker(sinks or ())
        self._reset_on_release = reset_on_release
        self._session_settings = session_settings
        self._waiting = 0
        super().__init__(
            dsn,
            min_size=min_size,
            max_size=max_size,
            max_queries=max_queries,
            max_inactive_connection_lifetime=max_inactive_connection_lifetime,
            connect=self._connecting(connect or asyncpg.connect, init),
            setup=_on_proxy(setup, statements.SET_UP),
            reset=_on_connection(reset, statements.RESET),
            loop=None,
            connection_class=TrackedConnection,
            record_class=record_class,
            **connect_kwargs,
        )

    @classmethod
    async def create(cls, dsn: str | None = None, **options: Any) -> Self:
        """Make and open a pool; options are the constructor's."""
        pool = cls(dsn, **options)
        await pool
        return pool

    def gauges(self) -> tracking_pb2.PoolGauges:
        """Return the current connections, and the callers that wait for one."""
        return tracking_pb2.PoolGauges(
            size=self.get_size(),
            idle=self.get_idle_size(),
            max=self.get_max_size(),
            waiting=self._waiting,
        )

    async def close(self) -> None:
        try:
            await super().close()
        finally:
            self.tracker.pauses.leave(self)

    def terminate(self) -> None:
        try:
            super().terminate()
        finally:
            self.tracker.pauses.leave(self)

    async def release(self, connection: Any, *, timeout: float | None = None) -> None:
        """Release without asyncpg's task, which cannot be cancelled, if nothing has to be awaited
        and no caller waits for a connection; the task would give such callers their turn.
        """
        if self._waiting or not self._at_once(connection):
            await super().release(connection, timeout=timeout)
            return
        connection._con._on_release()
        await connection._holder.release(timeout)

    def _at_once(self, connection: Any) -> bool:
        """Whether asyncpg's holder takes this connection back without awaiting anything."""
        if type(connection) is not internals.PoolConnectionProxy or connection._con is None:
            return False
        holder, released = connection._holder, connection._con
        return (
            holder._pool is self
            and self._reset is None
            and released.clean()
            and holder._generation == self._generation
            and released._protocol.queries_count < holder._max_queries
            and not released._protocol._is_cancelling()
        )

    async def _async__init__(self) -> Any:
        opened = await super()._async__init__()
        if not self.is_closing():
            self.tracker.pauses.watch(self)
        return opened

    async def _acquire(self, timeout: float | None) -> Any:
        if self._closing:
            raise asyncpg.InterfaceError("pool is closing")
        self._check_init()
        tracker = self.tracker
        timing = QueryTimer()
        started_us = tracker.now_us()
        begun_ns = tracker.monotonic_ns()
        try:
            if timeout is None:
                return await self._take(timing, timeout, begun_ns)
            async with asyncio.timeout(timeout):
                return await self._take(timing, timeout, begun_ns)
        except BaseException as error:
            outcome, sqlstate = classify(error, closed=isinstance(error, OSError))
            _, outcome = tracker.ran(tracker.monotonic_ns() - begun_ns, outcome)
            operation = enclosing_operation()
            if operation is not None:
                operation.parts.add(timing)
            tracker.emit(
                statements.ACQUIRE.definition,
                started_us,
                timing,
                outcome,
                sqlstate,
                internal=operation is not None,
            )
            raise

    async def _take(self, timing: QueryTimer, timeout: float | None, begun_ns: int) -> Any:
        """Acquire as asyncpg does, with the time of each step."""
        tracker = self.tracker
        self._waiting += 1
        try:
            holder = await self._queue.get()
        finally:
            self._waiting -= 1
            slot_ns = tracker.monotonic_ns()
            wait_ns = slot_ns - begun_ns
            if wait_ns > MIN_PAUSE_NS:
                wait_ns = tracker.pauses.unpaused_ns(wait_ns)
            timing.pool_wait_ns = wait_ns
        connected = holder._con
        try:
            proxy = await holder.acquire()
        except BaseException:
            timing.connect_ns = tracker.since(slot_ns)
            self._queue.put_nowait(holder)
            self._schedule_min_size_maintenance()
            raise
        holder._timeout = timeout
        connection = proxy._con
        if connection is not connected or holder._setup is not None:
            timing.connect_ns = tracker.since(slot_ns)
        connection.acquired(timing)
        return proxy

    def _connecting(self, connect: Any, init: Any) -> Any:
        """Wrap connect and init in one call, each with its internal record."""
        tracker = self.tracker
        reset_on_release = self._reset_on_release

        async def connected(*args: Any, **kwargs: Any) -> Any:
            made = await connect(*args, **kwargs)
            if self._session_settings:
                await with_settings(made, self._session_settings, kwargs.get("timeout"))
            return made

        async def tracked(*args: Any, **kwargs: Any) -> Any:
            connection = await _recorded(tracker, statements.CONNECT, connected(*args, **kwargs))
            if isinstance(connection, TrackedConnection):
                connection.track(tracker, reset_on_release=reset_on_release)
                if init is not None:
                    with connection.driving(statements.INITIALISE):
                        await _initialised(connection, init)
            return connection

        return tracked


async def _initialised(connection: TrackedConnection, init: Any) -> None:
    try:
        await init(connection)
    except BaseException:
        # Its state is unknown, so it must not be used.
        connection.terminate()
        raise


async def _recorded(tracker: Tracker, statement: Statement, awaitable: Any) -> Any:
    timing = Timing()
    started_us = tracker.now_us()
    begun_ns = tracker.monotonic_ns()
    outcome, sqlstate = Outcome.OK, None
    try:
        return await awaitable
    except BaseException as error:
        outcome, sqlstate = classify(error, closed=isinstance(error, OSError))
        raise
    finally:
        timing.connect_ns, outcome = tracker.ran(tracker.monotonic_ns() - begun_ns, outcome)
        tracker.emit(statement.definition, started_us, timing, outcome, sqlstate, internal=True)


def _on_proxy(callback: Any, statement: Statement) -> Any:
    if callback is None:
        return None

    async def driven(proxy: Any) -> None:
        with proxy._con.driving(statement):
            await callback(proxy)

    return driven


def _on_connection(callback: Any, statement: Statement) -> Any:
    if callback is None:
        return None

    async def driven(connection: TrackedConnection) -> None:
        with connection.driving(statement):
            await callback(connection)

    return driven
