"""What is read of queries, beside the sections of a snapshot."""

from __future__ import annotations

from copy import deepcopy

from metrics_service.state.counter_base import Counts
from metrics_service.state.counters import counted, counters
from metrics_service.state.series.past import Border, Pasts
from metrics_service.state.tables import Tables
from metrics_service.state.watched import Watched
from protos.metrics.v1 import metrics_pb2


class QueryReads:
    """The tables of a state at one revision, and the answers about queries."""

    def __init__(self) -> None:
        self.position = 0
        self.revision = 0
        self.as_of_us = 0
        self._tables = Tables()

    def slots(self, table: str, step_us: int, low_us: int, high_us: int) -> dict[int, bytes]:
        """Return slots of a table, encoded, by their begin: those of the ring with this step that
        begin in [low_us, high_us). After prepare() it takes less than a millisecond, mostly.
        """
        return self._tables.kept()[table].slots(step_us, low_us, high_us)

    def counters(self) -> Counts:
        """Return everything counted since the log began (see state/counters.py)."""
        return counters(self._tables)

    def go_on_from(self, shown: Counts) -> None:
        """Let the counters be what they were in another fold of the same records."""
        self._tables.counter_base.move(counted(self._tables), shown)

    @property
    def border(self) -> Border:
        """Where the history begins."""
        return self._tables.pasts()["business"].border

    def begin_history(self, border: Border) -> None:
        """Set where the history begins, for what is counted from now on."""
        self._tables.settle()
        for past in self._tables.pasts().values():
            past.begin(border)

    def copy_past(self) -> Pasts:
        """Return a copy of what has left for the history since it was taken."""
        self._tables.settle()
        return {table: past.copy() for table, past in self._tables.pasts().items()}

    def take_past(self) -> Pasts:
        """Take what has left for the history, and begin again with nothing."""
        self._tables.settle()
        return {table: past.take() for table, past in self._tables.pasts().items()}

    def adopt_past(self, pasts: Pasts) -> None:
        """Go on from what had left for the history when a state was dumped."""
        own = self._tables.pasts()
        for table, left in pasts.items():
            own[table].adopt(deepcopy(left))

    def recent_queries(
        self, request: metrics_pb2.ListRecentQueriesRequest
    ) -> metrics_pb2.ListRecentQueriesResponse:
        """Return the newest queries, newest first."""
        tables = self._tables
        answer = metrics_pb2.ListRecentQueriesResponse(
            queries=tables.recent.newest(request, tables.queries.fingerprints),
            revision=self.revision,
        )
        answer.as_of.FromMicroseconds(self.as_of_us)
        return answer

    @property
    def watched(self) -> Watched:
        """What rules watch, until the next record is folded."""
        return Watched(self._tables, self.as_of_us)

    def slow_queries(
        self, request: metrics_pb2.ListSlowQueriesRequest
    ) -> metrics_pb2.ListSlowQueriesResponse:
        """Return the long queries that still run, longest first, then the slowest ever ended."""
        tables = self._tables
        answer = metrics_pb2.ListSlowQueriesResponse(
            queries=tables.slowest.slowest(request, tables.queries.fingerprints),
            revision=self.revision,
        )
        answer.as_of.FromMicroseconds(self.as_of_us)
        return answer
