"""The query statistics of one slot; cells add up. Verdicts use the exact counters, the sketches are
for display.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Self

from metrics_service.measure.sketch import Sketch
from metrics_service.measure.sums import clamped
from metrics_service.measure.thresholds import CRITICAL_US, SLOW_US
from metrics_service.state.figures import distribution
from metrics_service.state.queries import columns as columns_of
from protos.metrics.v1 import checkpoint_pb2, metrics_pb2

MAX_GROUPS: Final = 500
# The group of queries that found all groups taken.
OTHER: Final = "other"
MAX_BUCKETS: Final = 30_000
"""Of the sketches of all groups of a slot, and of a sum of slots. That is 75 groups whose durations
differ as much as ordinary ones do; with more, percentiles become less exact.
"""

_FIELDS: Final = (
    "total",
    "failed",
    "errors",
    "cancelled",
    "misuse",
    "rows",
    "over_500ms",
    "at_least_1000ms",
    "over_1000ms",
    "at_least_2000ms",
    "over_2000ms",
)


class QueryCell:
    """Queries of one group in one slot.

    total, rows: of all queries. failed: connection lost, timed out, or an SQLSTATE of a
    failing server; errors: any other SQLSTATE. execute_us, pool_wait_us and the exact counters of
    execute time cover ok, failed and errors only.
    """

    __slots__ = (*_FIELDS, "execute_us", "pool_wait_us")

    def __init__(self) -> None:
        self.total = 0
        self.failed = 0
        self.errors = 0
        self.cancelled = 0
        self.misuse = 0
        self.rows = 0
        self.over_500ms = 0
        self.at_least_1000ms = 0
        self.over_1000ms = 0
        self.at_least_2000ms = 0
        self.over_2000ms = 0
        self.execute_us = Sketch()
        self.pool_wait_us = Sketch()

    @property
    def buckets(self) -> int:
        """Those of both sketches."""
        return self.execute_us.buckets + self.pool_wait_us.buckets

    def coarsen(self, level: int) -> None:
        """See Sketch.coarsen."""
        self.execute_us.coarsen(level)
        self.pool_wait_us.coarsen(level)

    def time(self, execute_us: Sequence[int], pool_wait_us: Sequence[int]) -> None:
        """Add the durations of queries that ended ok, failed or in error."""
        self.execute_us.add_many(execute_us)
        self.pool_wait_us.add_many(pool_wait_us)
        if max(execute_us) > SLOW_US:
            self.over_500ms += sum(value > SLOW_US for value in execute_us)
            self.at_least_1000ms += sum(value >= CRITICAL_US for value in execute_us)
            self.over_1000ms += sum(value > CRITICAL_US for value in execute_us)
            self.at_least_2000ms += sum(value >= 2_000_000 for value in execute_us)
            self.over_2000ms += sum(value > 2_000_000 for value in execute_us)

    def merge(self, other: QueryCell, level: int = 0) -> None:
        """Add a cell, which is not changed, its sketches as coarse as of this level."""
        self.total += other.total
        self.rows = clamped(self.rows + other.rows)
        if other.execute_us.count != other.total:
            self.cancelled += other.cancelled
            self.misuse += other.misuse
        if other.failed or other.errors:
            self.failed += other.failed
            self.errors += other.errors
        if other.over_500ms:
            self.over_500ms += other.over_500ms
            self.at_least_1000ms += other.at_least_1000ms
            self.over_1000ms += other.over_1000ms
            self.at_least_2000ms += other.at_least_2000ms
            self.over_2000ms += other.over_2000ms
        self.execute_us.merge(other.execute_us, level)
        self.pool_wait_us.merge(other.pool_wait_us, level)

    def to_proto(self, key: str = "") -> checkpoint_pb2.QueryCell:
        """Convert to the message of a checkpoint."""
        message = checkpoint_pb2.QueryCell(
            key=key,
            execute_us=self.execute_us.to_proto(),
            pool_wait_us=self.pool_wait_us.to_proto(),
        )
        for field in _FIELDS:
            setattr(message, field, getattr(self, field))
        return message

    @classmethod
    def from_proto(cls, message: checkpoint_pb2.QueryCell) -> Self:
        cell = cls()
        for field in _FIELDS:
            setattr(cell, field, getattr(message, field))
        cell.execute_us = Sketch.from_proto(message.execute_us)
        cell.pool_wait_us = Sketch.from_proto(message.pool_wait_us)
        return cell

    def stats(self) -> metrics_pb2.QueryStats:
        """Convert to the message of the contract, without the name of the group."""
        return metrics_pb2.QueryStats(
            total=self.total,
            slow_warning=self.over_500ms - self.over_1000ms,
            slow_critical=self.over_1000ms,
            failed=self.failed,
            errors=self.errors,
            cancelled=self.cancelled,
            misuse=self.misuse,
            rows=self.rows,
            total_time_ms=self.execute_us.sum / 1000,
            execute=distribution(self.execute_us),
            pool_wait=distribution(self.pool_wait_us),
        )


def cell_of(
    fate: int, execute_us: list[int], pool_wait_us: list[int], rows: list[int]
) -> QueryCell:
    """Return the statistics of queries with the same end."""
    cell = QueryCell()
    cell.total = len(rows)
    cell.rows = clamped(sum(rows))
    if fate == columns_of.OK:
        cell.time(execute_us, pool_wait_us)
    elif fate == columns_of.ERROR:
        cell.errors = cell.total
        cell.time(execute_us, pool_wait_us)
    elif fate == columns_of.FAILED:
        cell.failed = cell.total
        cell.time(execute_us, pool_wait_us)
    elif fate == columns_of.CANCELLED:
        cell.cancelled = cell.total
    elif fate == columns_of.MISUSE:
        cell.misuse = cell.total
    return cell


class QueryTotals:
    """All queries of one slot, and the internal ones separately."""

    __slots__ = ("internal", "total")

    def __init__(self) -> None:
        self.total = QueryCell()
        self.internal = QueryCell()

    def merge(self, other: Self) -> None:
        self.total.merge(other.total)
        self.internal.merge(other.internal)

    take = merge

    def encode(self) -> bytes:
        """Serialize as checkpoint_pb2.QueryCells without groups."""
        return checkpoint_pb2.QueryCells(
            total=self.total.to_proto(), internal=self.internal.to_proto()
        ).SerializeToString()

    @classmethod
    def decode(cls, data: bytes) -> Self:
        message = checkpoint_pb2.QueryCells.FromString(data)
        totals = cls()
        totals.total = QueryCell.from_proto(message.total)
        totals.internal = QueryCell.from_proto(message.internal)
        return totals


class QueryCells:
    """The queries of one slot by group, without internal ones.

    The sketches of all groups have the same level, the lowest at which they have MAX_BUCKETS
    together (see Sketch.coarsen). So they are the same in whatever order queries are added.

    Groups that are only decoded, to add to others, stay messages: a batch of late queries may open
    a thousand slots.
    """

    __slots__ = ("_buckets", "_cells", "_encoded", "level")

    def __init__(self) -> None:
        self.level = 0
        self._cells: dict[str, QueryCell] = {}
        self._encoded: dict[str, checkpoint_pb2.QueryCell] = {}
        self._buckets = 0

    @property
    def groups(self) -> dict[str, QueryCell]:
        """The cells by group; callers must not change them."""
        for key in [*self._encoded]:
            self._open(key)
        return self._cells

    def add(self, key: str, cell: QueryCell, level: int = 0) -> None:
        """Add a cell, which has this level and is not changed, to a group, or to that of OTHER once
        there are too many.
        """
        known = key in self._cells or key in self._encoded
        if not known and len(self._cells) + len(self._encoded) >= MAX_GROUPS:
            key = OTHER
        mine = self._open(key)
        self._buckets -= mine.buckets
        mine.merge(cell, self.level if self.level > level else 0)
        self._buckets += mine.buckets
        self._bound()

    def merge(self, other: Self) -> None:
        if other.level > self.level:
            self._coarsen(other.level)
        for key, theirs in other.groups.items():
            self.add(key, theirs, other.level)

    take = merge

    def encode(self) -> bytes:
        """Serialize as checkpoint_pb2.QueryCells without totals."""
        messages = {
            **self._encoded,
            **{key: cell.to_proto(key) for key, cell in self._cells.items()},
        }
        return checkpoint_pb2.QueryCells(
            groups=[messages[key] for key in sorted(messages)], level=self.level
        ).SerializeToString()

    @classmethod
    def decode(cls, data: bytes) -> Self:
        message = checkpoint_pb2.QueryCells.FromString(data)
        cells = cls()
        cells._encoded = {group.key: group for group in message.groups}
        cells.level = message.level
        cells._buckets = sum(map(_buckets_of, message.groups))
        cells._bound()
        return cells

    def _open(self, key: str) -> QueryCell:
        """Return the cell of a group to write to, a new one if there is none."""
        cell = self._cells.get(key)
        if cell is None:
            message = self._encoded.pop(key, None)
            cell = QueryCell() if message is None else QueryCell.from_proto(message)
            self._cells[key] = cell
        return cell

    def _bound(self) -> None:
        while self._buckets > MAX_BUCKETS:
            self._coarsen(self.level + 1)

    def _coarsen(self, level: int) -> None:
        self.level = level
        for cell in self.groups.values():
            cell.coarsen(level)
        self._buckets = sum(cell.buckets for cell in self._cells.values())


class LateQueryCells(QueryCells):
    """Late queries of one slot, with every group and bucket: the bounds are those of the slot."""

    __slots__ = ()

    def add(self, key: str, cell: QueryCell, level: int = 0) -> None:  # noqa: ARG002 - always 0
        self._open(key).merge(cell)


def _buckets_of(message: checkpoint_pb2.QueryCell) -> int:
    execute, wait = message.execute_us, message.pool_wait_us
    zeros = (execute.zero_count > 0) + (wait.zero_count > 0)
    return len(execute.index_delta) + len(wait.index_delta) + zeros
