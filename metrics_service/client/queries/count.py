"""Counts the queries that a piece of work runs, in all of its tasks, and those of a transaction
that it shares with other work.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextvars import ContextVar


class QueryCount:
    """The queries of one piece of work, without internal ones. The parts of an operation count
    instead of the operation, so that a query in a loop shows.
    """

    __slots__ = ("_shared", "own")

    def __init__(self) -> None:
        self.own = 0
        self._shared: set[QueryCount] = set()

    @property
    def queries(self) -> int:
        """Its own queries, and those of all work that it shares, each once."""
        return self.own + sum(count.own for count in self._shared)

    def share(self, counts: Iterable[QueryCount]) -> None:
        """Count the queries that were run for this work and other work together."""
        self._shared.update(counts)


current_query_count: ContextVar[QueryCount | None] = ContextVar("current_query_count", default=None)
"""The count of this context."""


def count_queries() -> QueryCount:
    """Start a new count of what this context and the tasks it starts run from now on."""
    count = QueryCount()
    current_query_count.set(count)
    return count


def share_queries(counts: Iterable[QueryCount]) -> None:
    """Add work that another task did for this context, if this context counts."""
    count = current_query_count.get()
    if count is not None:
        count.share(counts)
