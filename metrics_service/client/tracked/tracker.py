"""Makes records of ended queries and passes them to the sinks; no failure here reaches a query."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any, Final
from weakref import WeakSet

from metrics_service.client.queries.record import (
    Outcome,
    QueryDefinition,
    QueryRecord,
    QuerySink,
    TraceIdProvider,
)
from metrics_service.client.queries.statements import StatementTable
from metrics_service.client.tracked.running import RunningConnection
from metrics_service.client.tracked.timing import Timing
from protos.tracking.v1 import tracking_pb2
from servicekit.clock import wall_us
from servicekit.pauses import PauseDetector
from servicekit.tracing.span import current_trace_id

SAMPLE_MASK: Final = 63
"""The cost of timing is measured for a query when these bits of the record count are 0: one in 64.
"""

SAMPLES: Final = 64
"""How many of the newest measurements the mean includes."""


class Tracker:
    """The sinks, the clocks and the statement table that connections, pools and operations share.

    now_us returns UTC microseconds since the epoch and only dates records; durations come from
    monotonic_ns, without the pauses of this process while a pool or connection of the tracker was
    open. on_slow is called with the statement of each query of a user that took longer
    than slow_ns.
    """

    __slots__ = (
        "_samples",
        "connections",
        "connections_lost",
        "monotonic_ns",
        "now_us",
        "on_slow",
        "pauses",
        "records",
        "sink_errors",
        "sinks",
        "slow_ns",
        "statements",
        "trace_id",
    )

    def __init__(
        self,
        sinks: Iterable[QuerySink] = (),
        *,
        now_us: Callable[[], int] | None = None,
        monotonic_ns: Callable[[], int] = time.monotonic_ns,
        trace_id: TraceIdProvider | None = None,
        statements: StatementTable | None = None,
        pauses: PauseDetector | None = None,
    ) -> None:
        self.sinks: tuple[QuerySink, ...] = tuple(sinks)
        self.now_us = now_us or wall_us
        self.monotonic_ns = monotonic_ns
        self.pauses = pauses or PauseDetector()
        self.trace_id = current_trace_id.get if trace_id is None else _silenced(trace_id)
        self.statements = statements or StatementTable()
        self.records = 0
        self.sink_errors = 0
        self.connections_lost = 0
        self.connections: WeakSet[RunningConnection] = WeakSet()
        self.slow_ns = _NEVER_NS
        self.on_slow: Callable[[Any], None] | None = None
        self._samples: deque[int] = deque(maxlen=SAMPLES)

    def add_sink(self, sink: QuerySink) -> None:
        """Send records to this sink too from now on."""
        self.sinks = (*self.sinks, sink)

    def emit(
        self,
        definition: QueryDefinition,
        started_us: int,
        timing: Timing,
        outcome: Outcome,
        sqlstate: str | None,
        internal: bool,
    ) -> None:
        """Make a record of what ended. Never raises; failures of sinks are counted."""
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
            self.trace_id(),
            timing.capture_id,
        )
        for sink in self.sinks:
            try:
                sink.record_query(record, definition)
            except Exception:
                self.sink_errors += 1

    def since(self, begun_ns: int) -> int:
        """Return the nanoseconds since begun_ns, without pauses of this process."""
        return self.pauses.unpaused_ns(self.monotonic_ns() - begun_ns)

    def ran(self, spent_ns: int, outcome: Outcome) -> tuple[int, Outcome]:
        """Return the time, without pauses, and the outcome of what ended just now after spent_ns.

        Timeouts go on during a pause, so one that expires within CATCH_UP_NS after it says nothing
        about the database: this process gave up, and the outcome is CANCELLED. One that expires
        later stays a timeout: an answer would have been read by then.
        """
        if outcome is Outcome.TIMEOUT and self.pauses.just_resumed(spent_ns):
            outcome = Outcome.CANCELLED
        return self.pauses.unpaused_ns(spent_ns), outcome

    def slow(self, statement: Any) -> None:
        """Call on_slow for a statement that took longer than slow_ns. Never raises."""
        if self.on_slow is None:
            return
        try:
            self.on_slow(statement)
        except Exception:
            self.sink_errors += 1

    def sample(self, overhead_ns: int) -> None:
        """Record how long timing one query took."""
        self._samples.append(overhead_ns)

    def cost(self) -> tracking_pb2.MonitorCost:
        """Return the cost of the tracker: it includes the time of the sinks but not their memory or
        the time to find a statement by its text.
        """
        samples = self._samples
        return tracking_pb2.MonitorCost(
            queries=self.records,
            overhead_ns=sum(samples) // len(samples) if samples else 0,
            bytes_held=self.statements.bytes_held,
            evicted=self.statements.fingerprints.evicted,
            sink_errors=self.sink_errors,
        )


def set_default_tracker(tracker: Tracker | None) -> None:
    """Set the tracker of operations and pools without one; None switches them off."""
    global _default
    _default = tracker


def default_tracker() -> Tracker | None:
    """Return what set_default_tracker was given last."""
    return _default


def _silenced(provider: TraceIdProvider) -> TraceIdProvider:
    def trace_id() -> bytes | None:
        try:
            return provider()
        except Exception:
            return None

    return trace_id


_NEVER_NS: Final = 1 << 62
_default: Tracker | None = None
