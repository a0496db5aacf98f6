"""What is stored of the state: the rows of the newest checkpoint, of which only those that have
changed are written again.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import partial

import structlog

from metrics_service.eventlog.event_log import EventLog
from metrics_service.eventlog.recovery import begun_state
from metrics_service.eventlog.saved_history import HOURS, Hours, SavedHistory
from metrics_service.eventlog.shown import Shown
from metrics_service.state.fold import State
from metrics_service.state.history.cells import TABLES
from metrics_service.state.history.changes import HistoryChange
from metrics_service.storage import history as history_rows
from metrics_service.storage import session_rows
from metrics_service.storage.checkpoints import Section
from metrics_service.storage.errors import LogUnavailableError, line_of
from servicekit.background import TimeSlice

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Change:
    """What makes the stored rows those of a state: the digest of each of its rows, the rows that
    are not stored, and the keys of the stored ones that it does not have; and of its sessions and
    its history.
    """

    digests: dict[tuple[str, int], bytes]
    rows: list[Section]
    removed: list[tuple[str, int]]
    state: State
    history: HistoryChange


class SavedState:
    """The newest checkpoint, as far as this process knows it; `position` and `as_of_us` are those
    of its state, 0 before the first; `stored_us` is the time of the newest that is stored.
    """

    def __init__(self, event_log: EventLog) -> None:
        self.position = 0
        self.as_of_us = 0
        self.stored_us = 0
        self.shown = Shown.nothing()
        self.history = SavedHistory()
        self._log = event_log
        self._digests: dict[tuple[str, int], bytes] = {}
        # Whether it is unknown which rows are stored.
        self._replace = True

    async def restore(self, kind: type[State], version: int) -> State:
        """Return the stored state; where another version of the code has written it, or it cannot
        be read, the one with which a fold of the whole log begins. LogUnavailableError.
        """
        checkpoint = await self._log.load_checkpoint()
        if checkpoint.position == 0:
            return kind()
        if checkpoint.state_version == version:
            try:
                state = kind.load(checkpoint.rows)
            except ValueError as problem:
                log.error("checkpoint_rejected", reason=line_of(problem))
            else:
                self._restored(state, checkpoint.rows)
                log.info("checkpoint_restored", position=state.position)
                return state
        else:
            log.warning("checkpoint_outdated", written_by=checkpoint.state_version, code=version)
        self.shown = Shown.stored(checkpoint)
        self.history.repaired(anew=True)
        return await begun_state(self._log, kind, version)

    def _restored(self, state: State, rows: list[Section]) -> None:
        self._digests = {(name, bucket): _digest(data) for name, bucket, data in rows}
        self._replace = False
        self.position, self.as_of_us = state.position, state.as_of_us
        self.stored_us = state.as_of_us
        hours: Hours = {}
        for row in rows:
            _keep_hour(hours, row, self._digests[row[0], row[1]])
        self.history.restored(state, hours)

    async def change_to(self, state: State) -> Change:
        """Compare a state with what is stored. Raises where a row or an answer of it cannot be
        written. Nothing may be folded meanwhile.
        """
        self.as_of_us = state.as_of_us
        digests: dict[tuple[str, int], bytes] = {}
        changed: list[Section] = []
        hours: Hours = {}
        turn = TimeSlice()
        for section, bucket, data in state.dump():
            digest = digests[(section, bucket)] = _digest(data)
            if self._replace or self._digests.get((section, bucket)) != digest:
                changed.append((section, bucket, data))
            _keep_hour(hours, (section, bucket, data), digest)
            if turn.over:
                await turn.renew()
        await turn.run(state.encode_answers())
        removed = [key for key in self._digests if key not in digests]
        history, work = self.history.change_to(state, hours, replace=self._replace)
        await turn.run(work)
        return Change(digests, changed, removed, state, history)

    async def write(self, change: Change, position: int, version: int) -> bool:
        """Store a change; returns whether it is stored. Raises CheckpointConflictError."""
        # Until the save has succeeded it is unknown which rows are stored.
        replace, self._replace = self._replace, True
        try:
            await self._log.save_checkpoint(
                position,
                version,
                change.rows,
                change.removed,
                replace=replace,
                also=[
                    partial(session_rows.write, changes=change.state.journeys.changes),
                    partial(history_rows.write, change=change.history),
                ],
            )
        except LogUnavailableError as trouble:
            log.warning("checkpoint_failed", reason=line_of(trouble))
            return False
        self._digests, self._replace, self.position = change.digests, False, position
        self.stored_us = self.as_of_us
        change.state.journeys.saved()
        self.history.stored()
        return True


def _digest(data: bytes) -> bytes:
    return hashlib.blake2b(data, digest_size=16).digest()


def _keep_hour(hours: Hours, row: Section, digest: bytes) -> None:
    """Add a row if it is an hour of a table that the history has."""
    section, bucket, data = row
    if section.endswith(HOURS) and (table := section.removesuffix(HOURS)) in TABLES:
        hours[table, bucket] = data, digest
