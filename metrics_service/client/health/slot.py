"""The counts of one slot of a window, or of one heartbeat."""

from __future__ import annotations

from typing import Final

from metrics_service.client.health.judge import OperationFigures
from metrics_service.measure.sketch import Sketch
from metrics_service.measure.thresholds import CRITICAL_US, SLOW_US
from protos.tracking.v1.tracking_pb2 import QueryCounts

MAX_OPERATIONS: Final = 100
OTHER_OPERATIONS: Final = "other"


class Slot:
    """Counts of one slot, or of one beat."""

    __slots__ = (
        "at_least_1000ms",
        "at_least_2000ms",
        "failed",
        "number",
        "operations",
        "over_500ms",
        "over_1000ms",
        "over_2000ms",
        "sketch",
        "total",
    )

    def __init__(self, number: int) -> None:
        self.number = number
        self.total = 0
        self.failed = 0
        self.over_500ms = 0
        self.at_least_1000ms = 0
        self.over_1000ms = 0
        self.at_least_2000ms = 0
        self.over_2000ms = 0
        self.sketch = Sketch()
        # Of operations that were slow or failed: total, failed, slow.
        self.operations: dict[str, list[int]] = {}

    def add_exceptional(self, operation: str, failed: bool, execute_us: int) -> None:
        """Count a failed or slow query, except in total, which counts every query."""
        self.failed += failed
        self.over_500ms += execute_us > SLOW_US
        self.at_least_1000ms += execute_us >= CRITICAL_US
        self.over_1000ms += execute_us > CRITICAL_US
        self.at_least_2000ms += execute_us >= 2_000_000
        self.over_2000ms += execute_us > 2_000_000
        self.add_operation(operation, 1, int(failed), int(execute_us > SLOW_US))

    def add_operation(self, operation: str, total: int, failed: int, slow: int) -> None:
        """Count for one operation; beyond MAX_OPERATIONS, for OTHER_OPERATIONS."""
        counts = self.operations.get(operation)
        if counts is None:
            if len(self.operations) >= MAX_OPERATIONS:
                operation = OTHER_OPERATIONS
            counts = self.operations.setdefault(operation, [0, 0, 0])
        counts[0] += total
        counts[1] += failed
        counts[2] += slow

    def add_totals(self, other: Slot | QueryCounts) -> None:
        """Add what another slot, or a heartbeat, counts without sketch and operations."""
        self.total += other.total
        self.failed += other.failed
        self.over_500ms += other.over_500ms
        self.at_least_1000ms += other.at_least_1000ms
        self.over_1000ms += other.over_1000ms
        self.at_least_2000ms += other.at_least_2000ms
        self.over_2000ms += other.over_2000ms

    def merge(self, other: Slot) -> None:
        """Add another slot's counts."""
        self.add_totals(other)
        self.sketch.merge(other.sketch)
        for operation, (total, failed, slow) in other.operations.items():
            self.add_operation(operation, total, failed, slow)

    def worst(self) -> list[OperationFigures]:
        """Sort the operations by failed, then by slow queries, most first."""
        return sorted(
            (OperationFigures(name, *counts) for name, counts in self.operations.items()),
            key=lambda figures: (figures.failed, figures.slow),
            reverse=True,
        )
