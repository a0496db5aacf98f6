"""Makes records of what has ended and hands them to the sinks; nothing that goes wrong here
reaches the query.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from contextvars import ContextVar

from metrics_service.client.record import (
    Outcome,
    QueryDefinition,
    QueryRecord,
    QuerySink,
    TraceIdProvider,
    current_trace_id,
)
from metrics_service.client.statements import StatementTable


class Tracker:
    """The sinks, the clocks and the statement table that connections, pools and operations share.

    now_us gives UTC microseconds since the epoch and only dates records; durations come from
    monotonic_ns.
    """

    __slots__ = (
        "connections_lost",
        "monotonic_ns",
        "now_us",
        "records",
        "sink_errors",
        "sinks",
        "statements",
        "trace_id",
    )

    def __init__(
        self,
        sinks: Iterable[QuerySink] = (),
        *,
        now_us: Callable[[], int] | None = None,
        monotonic_ns: Callable[[], int] = time.monotonic_ns,
        trace_id: TraceIdProvider = current_trace_id.get,
        statements: StatementTable | None = None,
    ) -> None:
        self.sinks: tuple[QuerySink, ...] = tuple(sinks)
        self.now_us = now_us or _now_us
        self.monotonic_ns = monotonic_ns
        self.trace_id = trace_id
        self.statements = statements or StatementTable()
        self.records = 0
        self.sink_errors = 0
        self.connections_lost = 0

    def add_sink(self, sink: QuerySink) -> None:
        """Send the records from now on to this sink too."""
        self.sinks = (*self.sinks, sink)

    def remove_sink(self, sink: QuerySink) -> None:
        """Send it nothing more."""
        self.sinks = tuple(other for other in self.sinks if other is not sink)

    def emit(
        self,
        definition: QueryDefinition,
        started_us: int,
        timing: Timing,
        outcome: Outcome,
        sqlstate: str | None,
        internal: bool,
    ) -> None:
        """Make the record of something that ended. Never raises; a sink that does is counted."""
        try:
            trace_id = self.trace_id()
        except Exception:
            trace_id = None
        self.records += 1
        record = QueryRecord(
            definition.fingerprint,
            started_us,
            timing.pool_wait_ns // 1000,
            timing.connect_ns // 1000,
            timing.cancel_wait_ns // 1000,
            timing.execute_ns // 1000,
            timing.rows,
            timing.batch_size,
            outcome,
            sqlstate,
            internal,
            trace_id,
        )
        for sink in self.sinks:
            try:
                sink.record_query(record, definition)
            except Exception:
                self.sink_errors += 1


class Timing:
    """Where the time of one query went, nanoseconds, or the sums over the parts of an operation."""

    __slots__ = (
        "batch_size",
        "cancel_wait_ns",
        "connect_ns",
        "execute_ns",
        "pool_wait_ns",
        "rows",
    )

    def __init__(self, pool_wait_ns: int = 0, connect_ns: int = 0) -> None:
        self.pool_wait_ns = pool_wait_ns
        self.connect_ns = connect_ns
        self.cancel_wait_ns = 0
        self.execute_ns = 0
        self.rows = 0
        self.batch_size = 0

    def add(self, part: Timing) -> None:
        """Add a part that ended."""
        self.pool_wait_ns += part.pool_wait_ns
        self.connect_ns += part.connect_ns
        self.cancel_wait_ns += part.cancel_wait_ns
        self.execute_ns += part.execute_ns
        self.rows += part.rows


class Operation:
    """An operation around queries: collects their waits until it is done."""

    __slots__ = ("done", "parts")

    def __init__(self) -> None:
        self.parts = Timing()
        self.done = False


current_operation: ContextVar[Operation | None] = ContextVar("current_operation", default=None)
"""The operation whose parts the queries of this context are."""


def enclosing_operation() -> Operation | None:
    """The operation that is still open around this code. A task that outlives the operation it was
    started in is no part of it.
    """
    operation = current_operation.get()
    return None if operation is None or operation.done else operation


def set_default_tracker(tracker: Tracker | None) -> None:
    """The tracker of operations that name none; None switches them off."""
    global _default
    _default = tracker


def default_tracker() -> Tracker | None:
    """What set_default_tracker was given last."""
    return _default


def _now_us() -> int:
    return time.time_ns() // 1000


_default: Tracker | None = None
