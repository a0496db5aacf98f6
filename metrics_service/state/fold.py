"""The fold of the log: the same records give the same state, whenever and in how many parts they
are applied.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Self, TypeVar

from google.protobuf.message import DecodeError

from metrics_service.measure.sketch import Sketch
from metrics_service.state import answers
from metrics_service.state.batch import Item, UnusableBatchError, newest_us, read_batch
from metrics_service.state.event_fold import EventFold
from metrics_service.state.queries.critical import CriticalQuery
from metrics_service.state.queries.fingerprints import Query
from metrics_service.state.queries.stats import fingerprint_window_us
from metrics_service.state.record import LogRecord
from metrics_service.state.series.rings import SECOND_US, duration_us
from metrics_service.state.tables import Tables
from protos.metrics.v1 import checkpoint_pb2, metrics_pb2

# Of what dump() writes and of what the figures mean; a checkpoint of another version is refolded.
VERSION = 4

# The log gets a record at least every second while it is written; more time than this between two
# was an outage, whose events still wait to be delivered.
_OUTAGE_US = 5 * SECOND_US
_HEAD = "head"
_CACHED_ANSWERS = 16

Answer = TypeVar(
    "Answer",
    metrics_pb2.MetricsSnapshot,
    metrics_pb2.Funnel,
    metrics_pb2.ErrorMetrics,
    metrics_pb2.GetQueryStatsResponse,
)


class CheckpointError(ValueError):
    """The rows are not those of a state that this code can take over."""


class State:
    """All metrics up to the record at `position`.

    The only clock is the log's: `as_of_us` is the latest receive time so far; a backfilled batch
    moves it only as far as its own newest event. `revision` grows by one with each record. Neither
    goes back.

    Reads give messages that are shared: they are not to be changed. Each raises WindowError (a
    ValueError) for a window that is not kept; None stands for all that was ever folded.
    """

    def __init__(self) -> None:
        self.position = 0
        self.revision = 0
        self.as_of_us = 0
        self._running_us = 0
        self._tables = Tables()
        self._events = EventFold(self._tables)
        self._snapshots: dict[int | None, metrics_pb2.MetricsSnapshot] = {}

    def apply(self, record: LogRecord) -> None:
        """Fold one record in; one at or before `position` has no effect.

        A batch that cannot be applied takes its position, and is counted as quarantined.
        """
        if record.position <= self.position:
            return
        self.position = record.position
        self.revision += 1
        self._snapshots.clear()
        if record.kind == "batch":
            self._apply_batch(record)
            return
        self._advance(record.received_at_us, _OUTAGE_US)
        if record.kind == "unclean_end":
            self._events.unclean_end(record)

    def prepare(self) -> Iterator[None]:
        """Add up what reads of long windows would have to, in small steps; records may be applied
        between two of them. Worth while again whenever a slot of time has ended.
        """
        yield from self._tables.prepare()

    def metrics(self, window_us: int | None = None) -> metrics_pb2.MetricsSnapshot:
        """All figures of the window that ends at `as_of_us`."""
        snapshot = self._snapshots.get(window_us)
        if snapshot is None:
            tables = self._tables
            business = tables.business.rings.window(window_us)
            funnel = answers.funnel(tables, window_us, business)
            errors = answers.errors(tables, window_us, self.as_of_us)
            snapshot = metrics_pb2.MetricsSnapshot(
                funnel=self._stamped(funnel, window_us),
                business=answers.business(business),
                performance=answers.performance(tables, window_us, business),
                errors=self._stamped(errors, window_us),
                quality=answers.quality(tables),
            )
            self._stamped(snapshot, window_us)
            if len(self._snapshots) < _CACHED_ANSWERS:
                self._snapshots[window_us] = snapshot
        return snapshot

    def funnel(self, window_us: int | None = None) -> metrics_pb2.Funnel:
        """View -> Start -> Complete -> Confirm, and attempts beside it."""
        business = self._tables.business.rings.window(window_us)
        answer = answers.funnel(self._tables, window_us, business)
        return self._stamped(answer, window_us)

    def errors(self, window_us: int | None = None) -> metrics_pb2.ErrorMetrics:
        """Errors by reason, and their rate."""
        answer = answers.errors(self._tables, window_us, self.as_of_us)
        return self._stamped(answer, window_us)

    def query_stats(
        self, request: metrics_pb2.GetQueryStatsRequest
    ) -> metrics_pb2.GetQueryStatsResponse:
        """Query statistics per operation or fingerprint. Fingerprints are kept for an hour, from
        five minutes on in steps of a minute; the answer says which window it is of.
        """
        window_us = duration_us(request.window) if request.HasField("window") else None
        if request.group_by == metrics_pb2.GetQueryStatsRequest.FINGERPRINT:
            window_us = fingerprint_window_us(window_us)
        return self._stamped(self._tables.queries.stats(request, window_us), window_us)

    def recent_queries(
        self, request: metrics_pb2.ListRecentQueriesRequest
    ) -> metrics_pb2.ListRecentQueriesResponse:
        """The newest queries, newest first."""
        tables = self._tables
        answer = metrics_pb2.ListRecentQueriesResponse(
            queries=tables.recent.newest(request, tables.queries.fingerprints),
            revision=self.revision,
        )
        answer.as_of.FromMicroseconds(self.as_of_us)
        return answer

    def execute_times(self, window_us: int, ended_us: int = 0) -> dict[str, Sketch]:
        """Execute times in microseconds by operation, of the window that ended `ended_us` ago, a
        whole number of its ring's steps. Not to be changed.
        """
        return self._tables.queries.execute_times(window_us, ended_us)

    def critical_queries(self, after: int) -> list[tuple[CriticalQuery, Query]]:
        """Queries above the critical threshold that came after the one of a number, oldest first,
        and what each stands for. Those folded before a restart are not among them.
        """
        tables = self._tables
        fingerprints = tables.queries.fingerprints
        return [
            (slow, fingerprints.resolve(slow.fingerprint)) for slow in tables.critical.after(after)
        ]

    def slow_queries(
        self, request: metrics_pb2.ListSlowQueriesRequest
    ) -> metrics_pb2.ListSlowQueriesResponse:
        """The queries that run for long now, longest first, then the slowest of all times."""
        tables = self._tables
        answer = metrics_pb2.ListSlowQueriesResponse(
            queries=tables.slowest.slowest(request, tables.queries.fingerprints),
            revision=self.revision,
        )
        answer.as_of.FromMicroseconds(self.as_of_us)
        return answer

    def dump(self) -> Iterator[tuple[str, int, bytes]]:
        """Rows (section, bucket, bytes) of a checkpoint; the same state gives the same rows, and a
        slot of time that nothing touches any more gives the same row from dump to dump.

        Nothing may be applied before the last row is taken; reads may.
        """
        head = checkpoint_pb2.CheckpointHead(
            version=VERSION,
            position=self.position,
            revision=self.revision,
            as_of_us=self.as_of_us,
            running_us=self._running_us,
            counters=self._tables.counters(),
        )
        yield _HEAD, 0, head.SerializeToString(deterministic=True)
        yield from self._tables.dump()

    @classmethod
    def load(cls, rows: Iterable[tuple[str, int, bytes]]) -> Self:
        """The state whose dump() gave `rows`, which come in any order. CheckpointError for rows of
        another VERSION, and for rows that make no sense.
        """
        ordered = sorted(rows, key=lambda row: (row[0] != _HEAD, row[0], row[1]))
        if not ordered or ordered[0][0] != _HEAD:
            raise CheckpointError("a checkpoint without its head")
        try:
            head = checkpoint_pb2.CheckpointHead.FromString(ordered[0][2])
        except DecodeError as problem:
            raise CheckpointError("a checkpoint whose head cannot be read") from problem
        if head.version != VERSION:
            raise CheckpointError(f"a checkpoint of version {head.version}, not {VERSION}")
        state = cls()
        state.position, state.revision, state.as_of_us = head.position, head.revision, head.as_of_us
        state._running_us = head.running_us
        try:
            state._tables.load(ordered[1:], head.counters, head.as_of_us, head.running_us)
        except (DecodeError, KeyError, IndexError, ValueError) as problem:
            raise CheckpointError(f"a checkpoint that makes no sense: {problem!r}") from problem
        return state

    def _apply_batch(self, record: LogRecord) -> None:
        try:
            items = read_batch(record)
        except UnusableBatchError as unusable:
            self._advance_to(record, [])
            self._tables.quality.quarantined_batches += 1
            self._tables.quality.quarantined_events += unusable.events
            return
        self._advance_to(record, items)
        self._events.apply(items, record)

    def _advance_to(self, record: LogRecord, items: list[Item]) -> None:
        if not record.backfill:
            self._advance(record.received_at_us, _OUTAGE_US)
        elif (newest := newest_us(items)) is not None:
            now_us = min(newest, record.received_at_us)
            self._advance(now_us, now_us)

    def _advance(self, now_us: int, longest_us: int) -> None:
        """Move the clock, and the running time by as much, but by no more than longest_us."""
        passed_us = now_us - self.as_of_us
        if passed_us > 0:
            self.as_of_us = now_us
            self._running_us += min(passed_us, longest_us)
            self._tables.advance(self.as_of_us, self._running_us)

    def _stamped(self, answer: Answer, window_us: int | None) -> Answer:
        answer.as_of.FromMicroseconds(self.as_of_us)
        answer.revision = self.revision
        if window_us is not None:
            answer.window.FromMicroseconds(window_us)
        return answer
