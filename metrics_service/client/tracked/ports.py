"""What cursors, prepared statements and observers need of a connection that times its queries, so
that none of them imports the connection.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Protocol

from metrics_service.client.tracked.running import RunningConnection
from metrics_service.client.tracked.timing import Timing
from metrics_service.client.tracked.tracker import Tracker


class TimedConnection(RunningConnection, Protocol):
    """A connection whose queries are timed."""

    @property
    def tracker(self) -> Tracker | None:
        """Where its records go; None for a connection that times nothing."""

    def statement(self, query: str) -> Any:
        """How to record a query: a Statement, or the NamedQuery, which has the same attributes."""

    async def timed(
        self,
        statement: Any,
        run: Callable[[float | None], Awaitable[Any]],
        timeout: float | None,  # noqa: ASYNC109 - asyncpg's
        rows: Callable[[Any], int],
        part_of: Timing | None = None,
        internal: bool = False,
        batch_size: Callable[[], int] | None = None,
    ) -> Any:
        """Await run(what is left of timeout) and record it; returns and raises what run does."""
