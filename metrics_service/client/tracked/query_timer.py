"""Times one query from its call to its record. Pauses of the process, the wait for an earlier
cancellation and type introspection are not in its execute time.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from metrics_service.client.queries.count import current_query_count
from metrics_service.client.queries.record import Outcome
from metrics_service.client.tracked.outcome import classify
from metrics_service.client.tracked.timing import Timing, enclosing_operation
from metrics_service.client.tracked.tracker import Tracker
from servicekit.pauses import MIN_PAUSE_NS

# Bound once, since a member of an Enum costs a look-up at each use.
_OK: Final = Outcome.OK


class QueryTimer:
    """Starts when it is made and records the query at `end`; while the query is with the server it
    is what observers see of it.
    """

    __slots__ = (
        "_begun_ns",
        "_internal",
        "_outcome",
        "_sqlstate",
        "_tracker",
        "started_us",
        "statement",
        "timing",
        "trace_id",
    )

    def __init__(self, tracker: Tracker, statement: Any, timing: Timing, internal: bool) -> None:
        self.timing = timing
        self.statement = statement
        self.trace_id: bytes | None = None
        self._tracker = tracker
        self._internal = internal
        self._outcome = _OK
        self._sqlstate: str | None = None
        self.started_us = tracker.now_us()
        self._begun_ns = tracker.monotonic_ns()

    @property
    def sent_ns(self) -> int:
        """When the query was sent, by the tracker's monotonic_ns."""
        return self._begun_ns + self.timing.cancel_wait_ns

    def failed(self, error: BaseException, *, closed: bool) -> None:
        """Take the outcome of a query that raised; closed says whether its connection is gone."""
        self._outcome, self._sqlstate = classify(error, closed=closed)
        # What a user's call needs on the way counts as the user's when it fails.
        self._internal = self.statement.internal

    def end(
        self,
        introspect_ns: int,
        part_of: Timing | None,
        batch_size: Callable[[], int] | None,
    ) -> None:
        """Record the query. introspect_ns is what of its time introspection took; part_of collects
        the timing of a part of something that is recorded by itself.
        """
        tracker, timing, internal = self._tracker, self.timing, self._internal
        outcome = self._outcome
        spent_ns = tracker.monotonic_ns() - self._begun_ns
        # A quicker one cannot have a pause in it. Its parts are without theirs already.
        if spent_ns > MIN_PAUSE_NS:
            spent_ns, outcome = tracker.ran(spent_ns, outcome)
        spent_ns -= timing.cancel_wait_ns + introspect_ns
        timing.execute_ns = spent_ns if spent_ns > 0 else 0
        if timing.execute_ns > tracker.slow_ns and not internal:
            tracker.slow(self.statement)
        if batch_size is not None:
            timing.batch_size = batch_size()
        operation = enclosing_operation()
        if operation is not None:
            operation.parts.add(timing)
        if part_of is not None:
            part_of.add(timing)
            internal = True
        if not internal and (counted := current_query_count.get()) is not None:
            counted.own += 1
        internal = internal or operation is not None
        tracker.emit(
            self.statement.definition, self.started_us, timing, outcome, self._sqlstate, internal
        )
