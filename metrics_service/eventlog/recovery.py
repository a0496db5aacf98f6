"""Folds a part of the log again without the records that break the fold, or the writing of what it
folded: whatever a stored batch does, the state that follows from all others is had.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from itertools import chain
from typing import Final

import structlog

from metrics_service.eventlog.event_log import EventLog
from metrics_service.state.fold import State
from metrics_service.state.history.begin import TOTAL, beginning
from metrics_service.state.record import LogRecord
from metrics_service.state.sections import SectionError
from metrics_service.state.series.past import Pasts
from metrics_service.storage.checkpoints import Section
from metrics_service.storage.errors import LogUnavailableError, line_of
from servicekit.background import TimeSlice
from servicekit.handlers import LineLimit

log = structlog.get_logger()

RETRY_S: Final = 0.5


class Quarantine:
    """Names quarantined batches in the log, with at most one line a second."""

    def __init__(self, monotonic_s: Callable[[], float]) -> None:
        self._lines = LineLimit(monotonic_s)

    def name(self, record: LogRecord, reason: str) -> None:
        """Log a batch, with the number of those since the last line."""
        unnamed = self._lines.take()
        if unnamed is not None:
            log.error(
                "batch_quarantined",
                position=record.position,
                producer=record.producer_id,
                lane=record.lane,
                epoch=record.epoch,
                seq=record.seq,
                reason=reason,
                unnamed=unnamed,
            )


class BrokenFoldError(Exception):
    """The state cannot be folded up to `position`, or not be written there. Up to `guess` it was
    folded.
    """

    def __init__(self, position: int, reason: str, guess: int = 0) -> None:
        super().__init__(reason)
        self.position = position
        self.guess = guess


class UnreadableError(Exception):
    """The state is broken, and no whole one is known yet."""


def reason_of(failure: Exception) -> str:
    """Return what broke: the section of the state, where it is known, and the kind of error."""
    if isinstance(failure, SectionError):
        return f"{failure.section}: {type(failure.__cause__).__name__}"
    return type(failure).__name__


class Recovery:
    """The rows of the last state that could be written, and the records after it.

    The fold is deterministic: a record that fails, fails each time, and a state that cannot be
    written stays so. The record that is to blame is found by halving the range, at the cost of
    about two folds of it; `rows` move on with each half that is good, and so does `good`, the state
    of these rows, which is None where the log is folded from its `beginning`. `past` is what had
    left the state of the rows for the history.
    """

    def __init__(
        self,
        read: Callable[[int], Awaitable[list[LogRecord]]],
        kind: type[State],
        quarantine: Quarantine,
        rows: list[Section],
        past: Pasts | None = None,
        beginning: list[Section] | None = None,
    ) -> None:
        self.rows = rows
        self.past = past or {}
        self._beginning = beginning or []
        self.good: State | None = None
        # Whether the rows could not be used at all.
        self.anew = False
        self._read = read
        self._kind = kind
        self._quarantine = quarantine

    async def state_at(self, until: int) -> State:
        """Return the state at a position, without the records that break it."""
        try:
            self.good = self._loaded() if self.rows else None
            state = await self._attempt(0, 0)
        except (BrokenFoldError, ValueError):
            self.rows, self.past, self.good = self._beginning, {}, None
            self.anew = True
            state = self._loaded()
        low, goal = state.position, max(state.position + 1, until - 1)
        bad: BrokenFoldError | None = None
        while low < until:
            try:
                state = await self._attempt(low, goal)
            except BrokenFoldError as broken:
                bad = broken
            else:
                low = goal
            if bad is not None and bad.position - low == 1:
                state = await self._without(bad)
                low, bad = bad.position, None
            goal = until if bad is None else max(bad.guess, (low + bad.position) // 2)
        return state

    def _loaded(self) -> State:
        state = self._kind.load(self.rows) if self.rows else self._kind()
        if self.past:
            state.adopt_past(self.past)
        return state

    async def _attempt(self, low: int, goal: int) -> State:
        """Fold the records of (low, goal] and write the state. Raises BrokenFoldError."""
        state = self._loaded()
        turn = TimeSlice()
        position = low
        while position < goal and (page := await self._read(position)):
            for record in page:
                if record.position > goal:
                    break
                try:
                    state.apply(record)
                    await turn.run(state.settle())
                except Exception as failure:
                    raise BrokenFoldError(
                        record.position, reason_of(failure), record.position - 1
                    ) from failure
                if turn.over:
                    await turn.renew()
            position = page[-1].position
        try:
            rows = []
            for row in chain(state.dump(), state.journeys.unsaved()):
                rows.append(row)
                if turn.over:
                    await turn.renew()
            await turn.run(self._kind.load(rows).encode_answers())
        except Exception as failure:
            raise BrokenFoldError(goal, reason_of(failure)) from failure
        self.rows, self.past = rows, state.copy_past()
        if self.good is not None:
            self.good = state
        return state

    async def _without(self, bad: BrokenFoldError) -> State:
        """Return the last good state with the record after it in quarantine."""
        state = self._loaded()
        for record in await self._read(bad.position - 1):
            if record.position == bad.position:
                state.quarantine(record)
                self._quarantine.name(record, str(bad))
        self.rows = [*state.dump(), *state.journeys.unsaved()]
        self.past = state.copy_past()
        return state


class Repair:
    """Puts a whole state in the place of a broken one. `rows` are those of the newest state that a
    repair has found whole, with what had left it for the history, until a checkpoint may have them.
    """

    def __init__(self, event_log: EventLog, quarantine: Quarantine) -> None:
        self.rows: list[Section] = []
        self.under_way = False
        self.anew = False
        self._past: Pasts = {}
        self._log = event_log
        self._quarantine = quarantine
        self._recovery: Recovery | None = None

    @property
    def good(self) -> State | None:
        """The newest whole state before the broken one, as far as is known; None if none is."""
        return self._recovery.good if self._recovery is not None else None

    async def state_at(self, until: int, kind: type[State], version: int) -> State:
        """Return the state at a position; tries again while the log cannot be read."""
        self.under_way = True
        while True:
            try:
                begun = await beginning_rows(self._log, version)
                past = self._past if self.rows else {}
                rows = self.rows or await self._stored_rows(version) or begun
                self._recovery = Recovery(self._log.read, kind, self._quarantine, rows, past, begun)
                state = await self._recovery.state_at(until)
                break
            except LogUnavailableError:
                await asyncio.sleep(RETRY_S)
        self.rows, self._past = self._recovery.rows, self._recovery.past
        self.anew = self._recovery.anew
        self._recovery, self.under_way = None, False
        return state

    async def _stored_rows(self, version: int) -> list[Section]:
        checkpoint = await self._log.load_checkpoint()
        return checkpoint.rows if checkpoint.state_version == version else []


async def beginning_rows(event_log: EventLog, version: int) -> list[Section]:
    """Return the rows of the state before the first record of the log; none where it has them all.
    LogUnavailableError.
    """
    stored = await event_log.history.beginning()
    if stored.first == 1:
        return []
    return beginning(
        stored.sections,
        stored.states,
        version=version,
        after_us=stored.received_us,
        known_to=stored.known_to,
    )


async def begun_state(event_log: EventLog, kind: type[State], version: int) -> State:
    """Return the state before the first record of the log, with the figures of all times that are
    kept of what was before. LogUnavailableError.
    """
    rows = await beginning_rows(event_log, version)
    if not rows:
        return kind()
    try:
        state = kind.load(rows)
    except ValueError as problem:
        log.error("totals_rejected", reason=line_of(problem))
        return kind.load([row for row in rows if not row[0].endswith(TOTAL)])
    log.info("totals_restored", position=state.position)
    return state
