"""All watched instances together: their queries over the window, and the verdict on these."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final

from metrics_service.client.host import (
    Criteria,
    Figures,
    HealthWindow,
    Status,
    VerdictHysteresis,
    judge,
)
from metrics_service.health.instance import Instance
from protos.tracking.v1 import tracking_pb2

LEFT_COUNTS_S: Final = 60.0
"""The queries of an instance that is forgotten count for so long after its last heartbeat."""

MIN_REBUILD_S: Final = 5.0


class Combined:
    """The verdict on the sum of all that count; what one has brought leaves with it, so that an
    instance that nobody knows cannot turn the verdict for the whole window.
    """

    def __init__(
        self,
        criteria: Criteria,
        new_window: Callable[[], HealthWindow],
        new_verdict: Callable[[], VerdictHysteresis],
    ) -> None:
        self._criteria = criteria
        self._new_window = new_window
        self._new_verdict = new_verdict
        self._window = new_window()
        self._rebuild_ns: int | None = None
        self._rebuilt_ns = 0
        self.verdict = new_verdict()
        self.figures = Figures()
        # It has a status from the start: a burst must not show before it has lasted.
        self.judge()

    def count(
        self,
        queries: tracking_pb2.QueryCounts,
        operations: Iterable[tracking_pb2.OperationCounts],
    ) -> None:
        """Count the queries of a watched instance's heartbeat."""
        self._window.add_counts(queries, operations)

    def judge(self) -> None:
        """Judge the figures of the window that ends now."""
        self.figures = self._window.figures()
        self.verdict.update(judge(self.figures, None, self._criteria))

    def on_forgotten(self, entry: Instance) -> None:
        """Take note that an instance that counted is forgotten."""
        due_ns = max(
            entry.last_beat_ns + int(LEFT_COUNTS_S * 1e9),
            self._rebuilt_ns + int(MIN_REBUILD_S * 1e9),
        )
        self._rebuild_ns = min(due_ns, self._rebuild_ns or due_ns)

    def tick(self, deciding: Iterable[Instance], now_ns: int) -> None:
        """Judge, without what forgotten instances have brought where that is due."""
        if self._rebuild_ns is not None and now_ns >= self._rebuild_ns:
            self._rebuild_ns, self._rebuilt_ns = None, now_ns
            self._window = self._new_window()
            for entry in deciding:
                self._window.absorb(entry.window)
            if self.verdict.status is not Status.HEALTHY:
                self.verdict = self._new_verdict()
        self.judge()
