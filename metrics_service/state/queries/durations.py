"""How long queries took since the log began, by operation, in a few wide buckets that only grow:
sketches become coarser, and what monitors compare with its former value must not.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from metrics_service.measure.sums import clamped
from metrics_service.state.queries.cell import QueryCell
from protos.metrics.v1 import checkpoint_pb2

BOUNDS_US: Final = (
    *(1_000, 5_000, 10_000, 25_000, 50_000, 100_000, 300_000),
    *(500_000, 1_000_000, 2_000_000),
    *(5_000_000, 10_000_000),
)
"""The first seven and the last two within 2%, the three between them exactly."""

_TABLE: Final = "query_durations"
_SECTION: Final = f"{_TABLE}.total"


class QueryDurations:
    """By operation: how many queries are in each bucket, the last of them above every bound, and
    the sum of their durations in microseconds.
    """

    tables = (_TABLE,)

    def __init__(self) -> None:
        self.counts: dict[str, list[int]] = {}
        self.sums_us: dict[str, int] = {}

    def add(self, operation: str, cell: QueryCell) -> None:
        """Count the queries of a cell."""
        sketch = cell.execute_us
        if not sketch.count:
            return
        up_to = sketch.up_to(BOUNDS_US)
        up_to[7] = sketch.count - cell.over_500ms
        up_to[8] = sketch.count - cell.over_1000ms
        up_to[9] = sketch.count - cell.over_2000ms
        counts = self.counts.get(operation)
        if counts is None:
            counts = self.counts[operation] = [0] * len(up_to)
        below = 0
        for at, reached in enumerate(up_to):
            counts[at] += reached - below
            below = reached
        self.sums_us[operation] = clamped(self.sums_us.get(operation, 0) + int(sketch.sum))

    def dump(self) -> Iterator[tuple[str, int, bytes]]:
        """Yield the row of a checkpoint, if there is one."""
        if self.counts:
            message = checkpoint_pb2.QueryDurations()
            for operation, counts in sorted(self.counts.items()):
                message.operations.add(
                    operation=operation, counts=counts, sum_us=self.sums_us[operation]
                )
            yield _SECTION, 0, message.SerializeToString()

    def load(self, section: str, _bucket: int, data: bytes) -> None:
        """Take back the row of dump(). Raises KeyError for another section."""
        if section != _SECTION:
            raise KeyError(section)
        for each in checkpoint_pb2.QueryDurations.FromString(data).operations:
            self.counts[each.operation] = list(each.counts)
            self.sums_us[each.operation] = each.sum_us
