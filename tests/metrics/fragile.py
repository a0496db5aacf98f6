"""A state with planted faults: one in the fold, one in its rows and one in its answers."""

from __future__ import annotations

from collections.abc import Iterator

from metrics_service.state.fold import State
from metrics_service.state.record import LogRecord
from protos.metrics.v1 import metrics_pb2

# Dropped events that a batch reports; each sum shows which faults it contains.
BREAKS_APPLY = 1
BREAKS_ROWS = 1_000
BREAKS_ANSWERS = 1_000_000


class Fragile(State):
    """Breaks after it has counted, with half of an effect, when dropped events are reported."""

    def apply(self, record: LogRecord) -> str:
        before = self._dropped()
        reason = super().apply(record)
        if self._dropped() - before == BREAKS_APPLY:
            raise ZeroDivisionError("planted in the fold")
        return reason

    def dump(self) -> Iterator[tuple[str, int, bytes]]:
        for number, row in enumerate(super().dump()):
            if number == 3 and self._dropped() % BREAKS_ANSWERS >= BREAKS_ROWS:
                raise OverflowError("planted in the rows")
            yield row

    def metrics(
        self, window_us: int | None = None, ended_us: int = 0
    ) -> metrics_pb2.MetricsSnapshot:
        if self._dropped() >= BREAKS_ANSWERS:
            raise OverflowError("planted in the answers")
        return super().metrics(window_us, ended_us)

    def _dropped(self) -> int:
        return self._tables.quality.dropped_events
