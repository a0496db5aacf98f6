"""Query statistics by operation, for as long as rings keep figures, and by fingerprint, for an
hour; the internal queries of a service are counted separately.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator
from typing import Final, NamedTuple, Self

from metrics_service.measure.sketch import Sketch
from metrics_service.state.queries.cell import (
    OTHER,
    LateQueryCells,
    QueryCell,
    QueryCells,
    QueryTotals,
    cell_of,
)
from metrics_service.state.queries.columns import (
    FATE_BITS,
    FATE_SHIFT,
    FINGERPRINT_SHIFT,
    INTERNAL,
    Columns,
    picked,
)
from metrics_service.state.queries.durations import QueryDurations
from metrics_service.state.queries.fingerprints import Fingerprints, Query
from metrics_service.state.queries.limit import bounded_limit, fitting
from metrics_service.state.series.rings import HOUR_US, RESOLUTIONS, Resolution, Rings
from protos.metrics.v1 import metrics_pb2
from protos.tracking.v1 import event_pb2

MAX_OPERATIONS: Final = 200
MAX_WAITING: Final = 5_000
FINGERPRINT_RESOLUTIONS: Final = (
    Resolution("10s", RESOLUTIONS[0].step_us, 30),
    Resolution("1m", RESOLUTIONS[1].step_us, 60),
)

_TOTALS: Final = "query_totals"
_OPERATIONS: Final = "queries"
_FINGERPRINTS: Final = "fingerprints"
_DEFINITIONS: Final = "queries.known"
_STEP_US: Final = RESOLUTIONS[0].step_us
_Request = metrics_pb2.GetQueryStatsRequest


class _Waiting(NamedTuple):
    """Queries with the same end, not counted yet: each list has one entry per query."""

    execute_us: list[int]
    pool_wait_us: list[int]
    rows: list[int]

    @classmethod
    def empty(cls) -> Self:
        return cls([], [], [])


class QueryFold:
    """Statistics of queries by time."""

    tables = (_TOTALS, _OPERATIONS, _FINGERPRINTS)

    def __init__(self) -> None:
        self.fingerprints = Fingerprints()
        self.durations = QueryDurations()
        self.evicted_operations = 0
        # (slot of the finest ring, fingerprint, fate): queries not counted yet.
        self._waiting: dict[tuple[int, int, int], _Waiting] = defaultdict(_Waiting.empty)
        self._waiting_queries = 0
        self._now_us = 0
        # Separate from the operations: the most frequent read must not depend on their number.
        self._total_rings = Rings(_TOTALS, QueryTotals, QueryTotals.decode)
        self._operation_rings = Rings(
            _OPERATIONS, QueryCells, QueryCells.decode, new_late=LateQueryCells
        )
        self._fingerprint_rings = Rings(
            _FINGERPRINTS,
            QueryCells,
            QueryCells.decode,
            FINGERPRINT_RESOLUTIONS,
            new_late=LateQueryCells,
            endless=False,
        )
        self.month = (self._total_rings, self._operation_rings)
        self._rings = (*self.month, self._fingerprint_rings)

    def define(self, definition: event_pb2.QueryDefinition) -> None:
        """Keep the definition of a fingerprint; queries so far keep their operation."""
        self._settle()
        self.fingerprints.define(definition)

    def add(self, columns: Columns) -> None:
        """Count the queries of one event, each in the slot of its start."""
        start_us = columns.start_us
        if not start_us:
            return
        first, last = min(start_us) // _STEP_US, max(start_us) // _STEP_US
        if first == last:
            self._add_slot(first, columns)
        else:
            slots: dict[int, list[int]] = defaultdict(list)
            for index, time_us in enumerate(start_us):
                slots[time_us // _STEP_US].append(index)
            for slot, wanted in slots.items():
                self._add_slot(slot, columns.pick(wanted))
        self._waiting_queries += len(start_us)
        if self._waiting_queries >= MAX_WAITING:
            self._settle()

    def advance(self, now_us: int) -> None:
        """Advance the clock."""
        if now_us // _STEP_US != self._now_us // _STEP_US:
            self._settle()
        self._now_us = now_us
        for rings in self._rings:
            rings.advance(now_us)

    def make(self, window_us: int, ended_us: int = 0) -> Iterator[None]:
        """See Rings.make."""
        yield from self._total_rings.make(window_us, ended_us)
        yield from self._operation_rings.make(window_us, ended_us)
        if not ended_us and (kept_us := fingerprint_window_us(window_us)) <= HOUR_US:
            yield from self._fingerprint_rings.make(kept_us)

    def prepare(self) -> Iterator[None]:
        """See Rings.prepare."""
        for rings in self._rings:
            yield from rings.prepare()

    @property
    def late_figures(self) -> int:
        """See Rings.late_figures."""
        return sum(rings.late_figures for rings in self._rings)

    def total(self, window_us: int | None, ended_us: int = 0) -> QueryCell:
        """Return all queries of a window but internal ones; callers must not change them."""
        self._settle()
        return self._total_rings.window(window_us, ended_us).total

    @property
    def totals(self) -> Rings[QueryTotals]:
        """All queries by time; callers must not change them."""
        self._settle()
        return self._total_rings

    def execute_times(self, window_us: int, ended_us: int = 0) -> dict[str, Sketch]:
        """Return execute times in microseconds by operation, of a window `ended_us` ago."""
        self._settle()
        cells = self._operation_rings.window(window_us, ended_us)
        return {operation: cell.execute_us for operation, cell in cells.groups.items()}

    def stats(
        self, request: _Request, window_us: int | None, ended_us: int = 0
    ) -> metrics_pb2.GetQueryStatsResponse:
        """Return the groups of a window, in the request's order. By fingerprint the window must be
        one of fingerprint_window_us(). Raises WindowError for a window that is not kept.
        """
        self._settle()
        totals = self._total_rings.window(window_us, ended_us)
        if request.group_by == _Request.FINGERPRINT:
            groups: list[tuple[Query, QueryCell]] = self._by_fingerprint(window_us, ended_us)
        else:
            cells = self._operation_rings.window(window_us, ended_us).groups
            groups = [(Query(operation, "", ""), cell) for operation, cell in cells.items()]
        worth = _WORTH[request.order_by]
        groups.sort(key=lambda group: (-worth(group[1]), group[0]))
        return metrics_pb2.GetQueryStatsResponse(
            total=totals.total.stats(),
            internal=totals.internal.stats(),
            groups=fitting((_stats(*group) for group in groups), bounded_limit(request.limit)),
        )

    def settle(self) -> None:
        """Count every query in the rings."""
        self._settle()

    def evicted(self) -> dict[str, int]:
        """Return what did not fit into the tables."""
        return {
            "operations": self.evicted_operations,
            "fingerprints": self.fingerprints.evicted_fingerprints,
            "query_definitions": self.fingerprints.evicted_definitions,
        }

    def dump(self) -> Iterator[tuple[str, int, bytes]]:
        """Yield rows of a checkpoint, without the counters of evicted()."""
        self._settle()
        yield _DEFINITIONS, 0, self.fingerprints.encode()
        for rings in self._rings:
            yield from rings.dump()

    def load(self, section: str, bucket: int, data: bytes) -> None:
        """Take back one row of dump()."""
        if section == _DEFINITIONS:
            self.fingerprints.restore(data)
            return
        table = section.partition(".")[0]
        {rings.tables[0]: rings for rings in self._rings}[table].load(section, bucket, data)

    def _add_slot(self, slot: int, columns: Columns) -> None:
        """Add queries that all started in one slot of the finest ring to those not counted yet."""
        groups: dict[int, list[int]] = defaultdict(list)
        for index, key in enumerate(columns.keys):
            groups[key].append(index)
        for key, wanted in groups.items():
            fingerprint = columns.fingerprints[key >> FINGERPRINT_SHIFT]
            if not key & INTERNAL:
                self.fingerprints.use(fingerprint)
            waiting = self._waiting[slot, fingerprint, key & FATE_BITS]
            waiting.execute_us.extend(picked(columns.execute_us, wanted))
            waiting.pool_wait_us.extend(picked(columns.pool_wait_us, wanted))
            waiting.rows.extend(picked(columns.rows, wanted))

    def _settle(self) -> None:
        """Count the waiting queries.

        Each group is summed up once and then merged into every cell it belongs to: the cost of a
        merge grows with buckets, not with queries, so fewer merges are cheaper. Call it before
        anything changes that decides where a waiting query counts.
        """
        totals: dict[int, QueryCell] = {}
        for (slot, fingerprint, fate), queries in self._waiting.items():
            cell = cell_of(fate >> FATE_SHIFT, *queries)
            time_us = slot * _STEP_US
            if fate & INTERNAL:
                for counted in self._total_rings.at(time_us):
                    counted.internal.merge(cell)
                continue
            query = self.fingerprints.resolve(fingerprint)
            operation = self._operation(query.operation, cell.total)
            self.durations.add(operation, cell)
            for cells in self._operation_rings.at(time_us):
                cells.add(operation, cell)
            for cells in self._fingerprint_rings.at(time_us):
                cells.add(query.fingerprint, cell)
            if slot in totals:
                totals[slot].merge(cell)
            else:
                totals[slot] = cell
        for slot, cell in totals.items():
            for counted in self._total_rings.at(slot * _STEP_US):
                counted.total.merge(cell)
        self._waiting.clear()
        self._waiting_queries = 0

    def _operation(self, operation: str, queries: int) -> str:
        groups = self._operation_rings.total.groups
        if operation in groups or len(groups) < MAX_OPERATIONS:
            return operation
        self.evicted_operations += queries
        return OTHER

    def _by_fingerprint(
        self, window_us: int | None, ended_us: int
    ) -> list[tuple[Query, QueryCell]]:
        tracked = self.fingerprints.tracked()
        other = QueryCell()
        groups = []
        cells = self._fingerprint_rings.window(window_us, ended_us)
        for fingerprint, cell in cells.groups.items():
            if query := tracked.get(fingerprint):
                groups.append((query, cell))
            else:
                other.merge(cell)
        if other.total:
            groups.append((Query(OTHER, "", ""), other))
        return groups


def _stats(query: Query, cell: QueryCell) -> metrics_pb2.QueryStats:
    stats = cell.stats()
    stats.operation, stats.fingerprint, stats.text = query
    return stats


def fingerprint_window_us(window_us: int | None) -> int:
    """Return the window of an answer by fingerprint: an hour for None, rounded up to whole minutes
    where no finer steps are kept. A window that is not kept at all is returned unchanged.
    """
    if window_us is None:
        return HOUR_US
    fine, coarse = FINGERPRINT_RESOLUTIONS
    if window_us <= fine.span_us or window_us > coarse.span_us or window_us % fine.step_us:
        return window_us
    return -(-window_us // coarse.step_us) * coarse.step_us


_WORTH: dict[int, Callable[[QueryCell], float]] = {
    _Request.ORDER_BY_UNSPECIFIED: lambda cell: cell.execute_us.sum,
    _Request.TOTAL_TIME: lambda cell: cell.execute_us.sum,
    _Request.P95: lambda cell: cell.execute_us.quantile(0.95) or 0.0,
    _Request.COUNT: lambda cell: cell.total,
    _Request.FAILURES: lambda cell: cell.failed,
}
