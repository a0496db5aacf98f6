"""Counts the queries of the last five minutes exactly, in slots, so that neither memory nor the
cost of a query depends on the load.
"""

from __future__ import annotations

import contextlib
import time
from collections import deque
from collections.abc import Callable, Iterable
from itertools import islice
from typing import Final

from metrics_service.client.health.judge import DEFAULT, Criteria, Figures
from metrics_service.client.health.slot import Slot
from metrics_service.client.queries.record import (
    Outcome,
    QueryDefinition,
    QueryRecord,
    is_failed,
)
from metrics_service.measure.sketch import Sketch
from metrics_service.measure.thresholds import SLOW_US
from protos.tracking.v1 import tracking_pb2

WINDOW_S: Final = 300
SLOT_S: Final = 5
MAX_OPERATIONS_IN_BEAT: Final = 10
MAX_FIGURE: Final = 2**53 - 1
"""A count that is shown is at most this, so that it is exact as a JSON number."""

_SLOT_NS: Final = SLOT_S * 1_000_000_000
_MAX_PENDING: Final = 500
_OK: Final = Outcome.OK
_NOT_COUNTED: Final = frozenset({Outcome.CANCELLED, Outcome.MISUSE})


class HealthWindow:
    """Takes single records (it is a QuerySink) or the counts of a heartbeat, and returns the
    figures of the last WINDOW_S.

    A slot leaves the window as a whole. Whether failed and slow exceed their limits is exact to the
    event, by the times of the newest ones.
    """

    def __init__(
        self, criteria: Criteria = DEFAULT, *, monotonic_ns: Callable[[], int] = time.monotonic_ns
    ) -> None:
        self._monotonic_ns = monotonic_ns
        self._slots: deque[Slot] = deque()
        # The sum of all slots except the newest; None when it is outdated.
        self._older: Slot | None = None
        self._slot_end_ns = 0
        self._failed_ns: deque[int] = deque(maxlen=criteria.failed_max + 1)
        self._slow_ns: deque[int] = deque(maxlen=criteria.slow_max + 1)
        self._beat = Slot(0)
        # Execute times that are not yet added to the newest slot and the beat.
        self._pending_us: list[int] = []

    def record_query(self, record: QueryRecord, definition: QueryDefinition) -> None:
        """Count a query that ended now."""
        if record.internal:
            return
        outcome, execute_us = record.outcome, record.execute_us
        if outcome is not _OK and outcome in _NOT_COUNTED:
            return
        now_ns = self._monotonic_ns()
        if now_ns >= self._slot_end_ns:
            self._new_slot(now_ns)
        if execute_us > SLOW_US or outcome is not _OK:
            self._add_exceptional(record, definition, now_ns)
        pending = self._pending_us
        pending.append(execute_us)
        if len(pending) >= _MAX_PENDING:
            self._flush()

    def add_counts(
        self,
        counts: tracking_pb2.QueryCounts,
        operations: Iterable[tracking_pb2.OperationCounts] = (),
    ) -> None:
        """Count the queries of a heartbeat that arrived now, as if they had ended now."""
        now_ns = self._monotonic_ns()
        slot = self._slots[-1] if now_ns < self._slot_end_ns else self._new_slot(now_ns)
        self._failed_ns.extend([now_ns] * min(counts.failed, self._failed_ns.maxlen or 0))
        self._slow_ns.extend([now_ns] * min(counts.over_500ms, self._slow_ns.maxlen or 0))
        slot.add_totals(counts)
        if counts.HasField("execute_us"):
            # A malformed sketch affects the percentiles that are shown, not the verdict.
            with contextlib.suppress(ValueError):
                slot.sketch.merge(Sketch.from_proto(counts.execute_us))
        for operation in operations:
            slot.add_operation(
                operation.operation, operation.total, operation.failed, operation.slow
            )

    def absorb(self, other: HealthWindow) -> None:
        """Add what another window, of the same clock, has taken from heartbeats."""
        slots = {slot.number: slot for slot in self._slots}
        for theirs in other._slots:
            slots.setdefault(theirs.number, Slot(theirs.number)).merge(theirs)
        self._slots = deque(slots[number] for number in sorted(slots))
        self._older = None
        self._slot_end_ns = (max(slots, default=-1) + 1) * _SLOT_NS
        for newest_ns, theirs_ns in (
            (self._failed_ns, other._failed_ns),
            (self._slow_ns, other._slow_ns),
        ):
            both_ns = sorted([*newest_ns, *theirs_ns])
            newest_ns.clear()
            newest_ns.extend(both_ns)

    def figures(self) -> Figures:
        """Return the figures of the window that ends now."""
        now_ns = self._monotonic_ns()
        self._expire(now_ns)
        self._flush()
        whole = self._whole()
        quantiles_us = whole.sketch.quantiles((0.5, 0.95, 0.99)) or (None, None, None)
        p50, p95, p99 = (_ms(value_us) for value_us in quantiles_us)
        return Figures(
            samples=min(whole.total, MAX_FIGURE),
            failed=self._exact(self._failed_ns, whole.failed, now_ns),
            slow=self._exact(self._slow_ns, whole.over_500ms, now_ns),
            at_least_1000ms=min(whole.at_least_1000ms, MAX_FIGURE),
            over_1000ms=min(whole.over_1000ms, MAX_FIGURE),
            at_least_2000ms=min(whole.at_least_2000ms, MAX_FIGURE),
            over_2000ms=min(whole.over_2000ms, MAX_FIGURE),
            p50_ms=p50,
            p95_ms=p95,
            p99_ms=p99,
            operations=tuple(whole.worst()),
        )

    def beat(self) -> tuple[tracking_pb2.QueryCounts, list[tracking_pb2.OperationCounts]]:
        """Return the counts since the last call, for a heartbeat."""
        self._flush()
        beat, self._beat = self._beat, Slot(0)
        counts = tracking_pb2.QueryCounts(
            total=beat.total,
            failed=beat.failed,
            over_500ms=beat.over_500ms,
            at_least_1000ms=beat.at_least_1000ms,
            over_1000ms=beat.over_1000ms,
            at_least_2000ms=beat.at_least_2000ms,
            over_2000ms=beat.over_2000ms,
            execute_us=beat.sketch.to_proto() if beat.total else None,
        )
        operations = [
            tracking_pb2.OperationCounts(
                operation=figures.operation,
                total=figures.total,
                failed=figures.failed,
                slow=figures.slow,
            )
            for figures in beat.worst()[:MAX_OPERATIONS_IN_BEAT]
        ]
        return counts, operations

    def _add_exceptional(
        self, record: QueryRecord, definition: QueryDefinition, now_ns: int
    ) -> None:
        """Count a query as failed or slow if it was."""
        execute_us = record.execute_us
        failed = is_failed(record.outcome, record.sqlstate)
        slow = execute_us > SLOW_US
        if failed:
            self._failed_ns.append(now_ns)
        if slow:
            self._slow_ns.append(now_ns)
        if failed or slow:
            self._slots[-1].add_exceptional(definition.label, failed, execute_us)
            self._beat.add_exceptional(definition.label, failed, execute_us)

    def _whole(self) -> Slot:
        """Sum all slots. Only the newest still grows."""
        if self._older is None:
            self._older = Slot(0)
            for slot in islice(self._slots, max(0, len(self._slots) - 1)):
                self._older.merge(slot)
        whole = Slot(0)
        whole.merge(self._older)
        if self._slots:
            whole.merge(self._slots[-1])
        return whole

    def _new_slot(self, now_ns: int) -> Slot:
        self._flush()
        self._expire(now_ns)
        number = now_ns // _SLOT_NS
        slot = Slot(number)
        self._slots.append(slot)
        self._older = None
        self._slot_end_ns = (number + 1) * _SLOT_NS
        return slot

    def _expire(self, now_ns: int) -> None:
        oldest = now_ns // _SLOT_NS - WINDOW_S // SLOT_S
        while self._slots and self._slots[0].number <= oldest:
            if len(self._slots) == 1:
                self._flush()
            self._slots.popleft()
            self._older = None

    def _flush(self) -> None:
        if self._pending_us and self._slots:
            batch = Sketch()
            batch.add_many(self._pending_us)
            for counts in (self._slots[-1], self._beat):
                counts.total += len(self._pending_us)
                counts.sketch.merge(batch)
        self._pending_us.clear()

    def _exact(self, newest_ns: deque[int], counted: int, now_ns: int) -> int:
        """Count the newest events in the window; use the slots if more than the kept ones are."""
        first_ns = now_ns - WINDOW_S * 1_000_000_000
        inside = sum(1 for event_ns in newest_ns if event_ns > first_ns)
        if inside < (newest_ns.maxlen or 0):
            return inside
        return min(max(inside, counted), MAX_FIGURE)


def _ms(value_us: float | None) -> float | None:
    return None if value_us is None else value_us / 1000
