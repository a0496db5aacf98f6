"""The fold of the log: the same records always give the same state, in however many steps they are
applied.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final, Self, TypeVar, cast

from google.protobuf.message import DecodeError

from metrics_service.state import answers, groups
from metrics_service.state.answers import Section
from metrics_service.state.batch import Item, UnusableBatchError, newest_us, read_batch
from metrics_service.state.event_fold import EventFold
from metrics_service.state.queries.limit import MAX_LIMIT
from metrics_service.state.queries.stats import fingerprint_window_us
from metrics_service.state.query_reads import QueryReads
from metrics_service.state.record import LogRecord
from metrics_service.state.sections import naming
from metrics_service.state.series.past import Border
from metrics_service.state.series.rings import RESOLUTIONS, SECOND_US, duration_us
from metrics_service.state.tables import HourCells
from protos.metrics.v1 import checkpoint_pb2, metrics_pb2
from protos.metrics.v1.metrics_pb2 import MetricsSnapshot

# Of the rows of dump() and the meaning of the figures; the log is folded again for another version.
VERSION: Final = 7

# While the log is written it gets a record at least every second; a longer gap than this was an
# outage, and the events of that time are still to be delivered.
_OUTAGE_US: Final = 5 * SECOND_US
_HEAD: Final = "head"
MAX_LATE_FIGURES: Final = 20_000
"""Of closed slots of time, each counted once for every table that it belongs to."""
MAX_CORRECTED: Final = 2_000
"""Former hours of a table with corrections that wait to be stored."""

_Stats = metrics_pb2.GetQueryStatsRequest
_MAX_CACHED_SECTIONS: Final = 100
_LIVE: Final = metrics_pb2.GetFunnelRequest()

Answer = TypeVar(
    "Answer",
    bound=metrics_pb2.MetricsSnapshot
    | metrics_pb2.Funnel
    | metrics_pb2.ErrorMetrics
    | metrics_pb2.GetQueryStatsResponse,
)


class CheckpointError(ValueError):
    """The rows cannot be loaded by this version of the code."""


class State(QueryReads):
    """All metrics up to the record at `position`.

    The only clock is that of the log: `as_of_us` is the latest receive time so far; a backfilled
    batch advances it only to its own newest event. `revision` grows by one with each record. None
    of the three decreases, but for `as_of_us` with the first record after the times of a log were
    corrected that a wrong clock had dated ahead.

    Reads return shared messages: callers must not change them. A window of None covers everything
    ever folded; a window that is not kept raises WindowError, a ValueError.
    """

    def __init__(self) -> None:
        super().__init__()
        self._running_us = 0
        self.journeys = self._tables.journeys
        # Up to this record the history has the corrections of a former fold.
        self._known_to = 0
        self._events = EventFold(self._tables)
        self._sections: dict[tuple[str, int | None, int], Section] = {}

    def apply(self, record: LogRecord) -> str:
        """Fold one record; a record at or before `position` has no effect.

        A batch that cannot be applied advances the position and is counted as quarantined; the
        reason is returned, and "" for any other record.
        """
        if record.position <= self.position:
            return ""
        if 0 < self._known_to < record.position:
            self._known_to = 0
            self.begin_history(self.border._replace(known_to=0))
        self.position = record.position
        self.revision += 1
        self._sections.clear()
        if record.kind == "batch":
            return self._apply_batch(record)
        if not record.backfill:
            self._advance(record.received_at_us, _OUTAGE_US)
        if record.kind == "unclean_end":
            self._events.unclean_end(record)
        return ""

    def quarantine(self, record: LogRecord) -> None:
        """Pass over a record that cannot be applied; a batch is counted, and no time passes."""
        self.position = record.position
        self.revision += 1
        self._sections.clear()
        if record.kind == "batch":
            self._count_quarantined(min(max(record.count, 0), len(record.payload)))

    @property
    def history_due(self) -> bool:
        """Whether so much has left for the history that a checkpoint is to store it."""
        return any(
            len(past.left.corrections) > MAX_CORRECTED for past in self._tables.pasts().values()
        )

    def encode_answers(self) -> Iterator[None]:
        """Write an answer of every kind, one per step; an answer that cannot be written raises.
        What the answers need is prepared first, so that each step is short.
        """
        yield from self.prepare()
        for window_us in (None, *(resolution.span_us for resolution in RESOLUTIONS)):
            self.metrics(window_us).SerializeToString()
            yield
        for group_by in (_Stats.OPERATION, _Stats.FINGERPRINT):
            with naming("query_stats"):
                self.query_stats(_Stats(group_by=group_by, limit=MAX_LIMIT)).SerializeToString()
            yield
        recent = metrics_pb2.ListRecentQueriesRequest(limit=MAX_LIMIT, include_internal=True)
        with naming("recent_queries"):
            self.recent_queries(recent).SerializeToString()
        yield
        slow = metrics_pb2.ListSlowQueriesRequest(limit=MAX_LIMIT)
        with naming("slow_queries"):
            self.slow_queries(slow).SerializeToString()
        yield

    def prepare(self) -> Iterator[None]:
        """Add late figures to their slots of time, and compute the sums that reads of long windows
        need, in small steps; records may be applied between two steps. No answer and no row of
        dump() changes. Call it again after slots of time have ended.
        """
        yield from self._tables.prepare()

    def make(self, window_us: int, ended_us: int = 0) -> Iterator[None]:
        """Compute what prepare() has not prepared yet for a read of this window, in small steps."""
        yield from self._tables.make(window_us, ended_us)

    def settle(self) -> Iterator[None]:
        """Do the same, between two records, if too many late figures wait for it."""
        if self._tables.late_figures > MAX_LATE_FIGURES:
            yield from self.prepare()

    def metrics(self, window_us: int | None = None, ended_us: int = 0) -> MetricsSnapshot:
        """Return all figures of the window that ended `ended_us` before `as_of_us`."""
        snapshot = MetricsSnapshot()
        for name in answers.SECTIONS:
            getattr(snapshot, name).CopyFrom(self.section(name, window_us, ended_us))
        return self.stamp(snapshot, window_us, ended_us)

    def section(self, name: str, window_us: int | None = None, ended_us: int = 0) -> Section:
        """Return one of the fields of a snapshot that answers.SECTIONS names. It is computed once
        for all readers of a state.
        """
        key = name, window_us, ended_us
        section = self._sections.get(key)
        if section is None:
            section = answers.section(self._tables, name, window_us, ended_us, self.as_of_us)
            if isinstance(section, metrics_pb2.Funnel | metrics_pb2.ErrorMetrics):
                self.stamp(section, window_us, ended_us)
            if len(self._sections) < _MAX_CACHED_SECTIONS:
                self._sections[key] = section
        return section

    def funnel(
        self,
        window_us: int | None = None,
        ended_us: int = 0,
        request: metrics_pb2.GetFunnelRequest = _LIVE,
    ) -> metrics_pb2.Funnel:
        """Return the funnel View -> Start -> Complete -> Confirm, and the booking attempts; of the
        request are its state, groups and days.
        """
        if request == _LIVE:
            return cast("metrics_pb2.Funnel", self.section("funnel", window_us, ended_us))
        tables, now_us = self._tables, self.as_of_us
        funnel = answers.funnel(tables, window_us, ended_us, now_us, request.state or request.LIVE)
        if request.by:
            groups.add_groups(funnel, tables, (window_us, ended_us), now_us, request.by)
        groups.add_days(funnel, tables, now_us, request.entry_days)
        return self.stamp(funnel, window_us, ended_us)

    def errors(self, window_us: int | None = None, ended_us: int = 0) -> metrics_pb2.ErrorMetrics:
        """Return errors by reason, and their rate, with samples, and the packages with errors."""
        answer = answers.error_breakdown(self._tables, window_us, ended_us, self.as_of_us)
        return self.stamp(answer, window_us, ended_us)

    def query_stats(
        self, request: metrics_pb2.GetQueryStatsRequest
    ) -> metrics_pb2.GetQueryStatsResponse:
        """Return query statistics by operation or by fingerprint.

        Fingerprints are kept for an hour, and in steps of a minute for windows above five minutes;
        the answer names the window it covers.
        """
        window_us = duration_us(request.window) if request.HasField("window") else None
        ended_us = duration_us(request.ended)
        if request.group_by == metrics_pb2.GetQueryStatsRequest.FINGERPRINT:
            window_us = fingerprint_window_us(window_us)
        stats = self._tables.queries.stats(request, window_us, ended_us)
        return self.stamp(stats, window_us, ended_us)

    def hour(self, time_us: int) -> HourCells:
        """Return the figures of the clock hour of a time; it is kept for 30 days."""
        return self._tables.hour(time_us)

    def dump(self) -> Iterator[tuple[str, int, bytes]]:
        """Yield rows (section, bucket, bytes) of a checkpoint. The same state gives the same rows,
        and a slot of time that no longer changes gives the same row in each dump.

        No record may be applied before the last row is taken; reads are allowed.
        """
        head = checkpoint_pb2.CheckpointHead(
            version=VERSION,
            position=self.position,
            revision=self.revision,
            as_of_us=self.as_of_us,
            running_us=self._running_us,
            counters=self._tables.counters(),
            border=checkpoint_pb2.HistoryBorder(**self.border._asdict()),
        )
        yield _HEAD, 0, head.SerializeToString(deterministic=True)
        yield from self._tables.dump()

    @classmethod
    def load(cls, rows: Iterable[tuple[str, int, bytes]]) -> Self:
        """Return the state whose dump() and journeys.unsaved() gave `rows`, in any order. Raises
        CheckpointError for rows of another VERSION and for rows that cannot be read.
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
        border = head.border
        state._known_to = border.known_to
        state.begin_history(Border(border.from_us, border.own_us, border.known_to))
        try:
            state._tables.load(ordered[1:], head.counters, head.as_of_us, head.running_us)
        except Exception as problem:
            raise CheckpointError(f"a checkpoint that cannot be read: {problem!r}") from problem
        return state

    def _apply_batch(self, record: LogRecord) -> str:
        try:
            items = read_batch(record)
        except UnusableBatchError as unusable:
            self._advance_to(record, [])
            self._count_quarantined(unusable.events)
            return str(unusable)
        self._advance_to(record, items)
        self._events.apply(items, record)
        return ""

    def _count_quarantined(self, events: int) -> None:
        self._tables.quality.quarantined_batches += 1
        self._tables.quality.quarantined_events += events

    def _advance_to(self, record: LogRecord, items: list[Item]) -> None:
        if not record.backfill:
            self._advance(record.received_at_us, _OUTAGE_US)
        elif (newest := newest_us(items)) is not None:
            now_us = max(min(newest, record.received_at_us), self.as_of_us)
            self._advance(now_us, now_us)

    def _advance(self, now_us: int, max_us: int) -> None:
        """Advance the clock to now_us, and the running time by the same, at most by max_us. A clock
        that goes back, as that of the log may, leaves the running time as it is.
        """
        passed_us = now_us - self.as_of_us
        if passed_us:
            self.as_of_us = now_us
            self._running_us += max(0, min(passed_us, max_us))
            self._tables.advance(self.as_of_us, self._running_us)

    def stamp(self, answer: Answer, window_us: int | None, ended_us: int = 0) -> Answer:
        """Set of which state and window an answer is."""
        answer.as_of.FromMicroseconds(self.as_of_us)
        answer.revision = self.revision
        if window_us is not None:
            answer.window.FromMicroseconds(window_us)
        if ended_us:
            answer.ended.FromMicroseconds(ended_us)
        return answer
