"""Times one query from its call to its record. Pauses of the process, the wait for an earlier
cancellation and type introspection are not in its execute time.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from metrics_service.client.queries.count import current_query_count
from metrics_service.client.queries.record import Outcome
from metrics_service.client.tracked.outcome import classify
from metrics_service.client.tracked.timing import Timing, enclosing_operation
from metrics_service.client.tracked.tracker import Tracker
from servicekit.pauses import MIN_PAUSE_NS


class QueryTimer(Timing):
    """The timing of a query, which may begin with the acquire of its connection. After `start` it
    is also what observers see of the query while it is with the server.

    Every query makes one, so it has no field that could be computed later.
    """

    __slots__ = ("_begun_ns", "_internal", "_tracker", "started_us", "statement", "trace_id")

    trace_id: bytes | None

    @property
    def sent_ns(self) -> int:
        """When the query was sent, by the tracker's monotonic_ns."""
        return self._begun_ns + self.cancel_wait_ns

    def start(self, tracker: Tracker, statement: Any, internal: bool) -> None:
        """Start the time of a query, which is internal unless it fails."""
        self._tracker = tracker
        self._internal = internal
        self.statement = statement
        self.started_us = tracker.now_us()
        self._begun_ns = tracker.monotonic_ns()

    def fail(self, error: BaseException, *, closed: bool) -> tuple[Outcome, str | None]:
        """Return outcome and SQLSTATE of a query that raised; closed is whether its connection is
        gone.
        """
        # What a user's call needs on the way counts as the user's when it fails.
        self._internal = self.statement.internal
        return classify(error, closed=closed)

    def end(
        self,
        outcome: Outcome,
        sqlstate: str | None,
        introspect_ns: int,
        part_of: Timing | None,
        batch_size: Callable[[], int] | None,
    ) -> None:
        """Record the query. introspect_ns is the part of its time that introspection took; part_of
        collects the timing of a part of something that has its own record.
        """
        tracker, internal = self._tracker, self._internal
        spent_ns = tracker.monotonic_ns() - self._begun_ns
        # A quicker one cannot contain a pause. Its parts are already without theirs.
        if spent_ns > MIN_PAUSE_NS:
            spent_ns, outcome = tracker.ran(spent_ns, outcome)
        spent_ns -= self.cancel_wait_ns + introspect_ns
        self.execute_ns = spent_ns if spent_ns > 0 else 0
        if spent_ns > tracker.slow_ns and not internal:
            tracker.slow(self.statement)
        if batch_size is not None:
            self.batch_size = batch_size()
        operation = enclosing_operation()
        if operation is not None:
            operation.parts.add(self)
        if part_of is not None:
            part_of.add(self)
            internal = True
        if not internal and (counted := current_query_count.get()) is not None:
            counted.own += 1
        internal = internal or operation is not None
        tracker.emit(self.statement.definition, self.started_us, self, outcome, sqlstate, internal)
