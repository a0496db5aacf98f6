"""The newest queries above the critical threshold, numbered in order of arrival, for notices: a
reader that remembers the last number gets each query once. Not part of a checkpoint.
"""

from __future__ import annotations

from collections import deque
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
from protos.tracking.v1 import event_pb2

MAX_KEPT: Final = 1_000

_COUNTED: Final = frozenset(fate << FATE_SHIFT for fate in (OK, ERROR, FAILED))


class CriticalQuery(NamedTuple):
    """One query above CRITICAL_US; numbers start at 1, trace_id may be empty."""

    number: int
    fingerprint: int
    start_us: int
    execute_us: int
    trace_id: bytes
    instance: str


class CriticalQueries:
    """Queries above CRITICAL_US that ended ok, failed or in error, and are not internal."""

    def __init__(self, *, max_kept: int = MAX_KEPT) -> None:
        self._newest: deque[CriticalQuery] = deque(maxlen=max_kept)
        self._number = 0

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
            self._number += 1
            self._newest.append(
                CriticalQuery(
                    self._number,
                    fingerprint,
                    columns.start_us[index],
                    execute_us[index],
                    traces.get(index, b"")[:16],
                    instance,
                )
            )

    def after(self, number: int) -> list[CriticalQuery]:
        """Return the kept queries with a number above `number`, oldest first."""
        if number >= self._number:
            return []
        return [query for query in self._newest if query.number > number]
