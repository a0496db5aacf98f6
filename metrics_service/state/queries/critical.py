"""The newest queries above the critical threshold, in order of arrival."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import Final, NamedTuple

from metrics_service.measure.thresholds import CRITICAL_US
from metrics_service.state.queries.columns import (
    ERROR,
    FAILED,
    FATE_BITS,
    FATE_SHIFT,
    FINGERPRINT_SHIFT,
    OK,
    Columns,
)
from protos.metrics.v1 import checkpoint_pb2
from protos.tracking.v1 import event_pb2

MAX_KEPT: Final = 1_000

_TABLE: Final = "critical_queries"
_COUNTED: Final = frozenset(fate << FATE_SHIFT for fate in (OK, ERROR, FAILED))


class CriticalQuery(NamedTuple):
    """One query above CRITICAL_US; trace_id may be empty."""

    fingerprint: int
    start_us: int
    execute_us: int
    trace_id: bytes
    instance: str


class CriticalQueries:
    """Queries above CRITICAL_US that ended ok, failed or in error, and are not internal."""

    tables = (_TABLE,)

    def __init__(self, *, max_kept: int = MAX_KEPT) -> None:
        self._newest: deque[CriticalQuery] = deque(maxlen=max_kept)

    def add(self, timings: event_pb2.QueryTimings, columns: Columns, instance: str) -> None:
        """Keep the slowest query of each fingerprint of one event."""
        execute_us = columns.execute_us
        if not execute_us or max(execute_us) <= CRITICAL_US:
            return
        slowest: dict[int, int] = {}
        for index, (took_us, key) in enumerate(zip(execute_us, columns.keys, strict=True)):
            if took_us > CRITICAL_US and key & FATE_BITS in _COUNTED:
                fingerprint = columns.fingerprints[key >> FINGERPRINT_SHIFT]
                known = slowest.setdefault(fingerprint, index)
                if took_us > execute_us[known]:
                    slowest[fingerprint] = index
        traces = {trace.index: trace.trace_id for trace in timings.traces}
        for fingerprint, index in slowest.items():
            self._newest.append(
                CriticalQuery(
                    fingerprint,
                    columns.start_us[index],
                    execute_us[index],
                    traces.get(index, b"")[:16],
                    instance,
                )
            )

    def dump(self) -> Iterator[tuple[str, int, bytes]]:
        """Yield one row of a checkpoint."""
        message = checkpoint_pb2.CriticalQueries()
        for query in self._newest:
            message.queries.add(**query._asdict())
        yield _TABLE, 0, message.SerializeToString()

    def load(self, _section: str, _bucket: int, data: bytes) -> None:
        """Take back the row of dump()."""
        message = checkpoint_pb2.CriticalQueries.FromString(data)
        self._newest.clear()
        for query in message.queries:
            self._newest.append(
                CriticalQuery(
                    query.fingerprint,
                    query.start_us,
                    query.execute_us,
                    query.trace_id,
                    query.instance,
                )
            )

    def __iter__(self) -> Iterator[CriticalQuery]:
        """Yield them, oldest first."""
        return iter(self._newest)
