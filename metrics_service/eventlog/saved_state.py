"""What is stored of the state: the rows of the newest checkpoint, of which only those that have
changed are written again.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import partial
from typing import Final

import structlog

from metrics_service.eventlog.event_log import EventLog
from metrics_service.state.fold import State
from metrics_service.state.journeys.journeys import Journeys
from metrics_service.state.series.rings import HOUR_US
from metrics_service.storage import session_rows
from metrics_service.storage.checkpoints import Section
from metrics_service.storage.errors import LogUnavailableError, line_of
from servicekit.background import TimeSlice

log = structlog.get_logger()

MAX_SPAN_US: Final = 10 * 24 * HOUR_US
"""A checkpoint is due after so much time of the log, which passes in a moment where history is
loaded: what the rings drop is to be stored before.
"""


@dataclass(frozen=True, slots=True)
class Change:
    """What makes the stored rows those of a state: the digest of each of its rows, the rows that
    are not stored, and the keys of the stored ones that it does not have; and its sessions.
    """

    digests: dict[tuple[str, int], bytes]
    rows: list[Section]
    removed: list[tuple[str, int]]
    sessions: Journeys


class SavedState:
    """The newest checkpoint, as far as this process knows it; `position` is that of its state."""

    def __init__(self, event_log: EventLog) -> None:
        self.position = 0
        self._as_of_us = 0
        self._log = event_log
        self._digests: dict[tuple[str, int], bytes] = {}
        # Whether it is unknown which rows are stored.
        self._replace = True

    def restored(self, state: State, rows: list[Section]) -> None:
        """Note that a state was read from these rows."""
        self._digests = {(name, bucket): _digest(data) for name, bucket, data in rows}
        self._replace = False
        self.position, self._as_of_us = state.position, state.as_of_us

    def outdated(self, state: State) -> bool:
        """Return whether a checkpoint is due by what it is to store: sessions that wait, or
        MAX_SPAN_US of the log since the last change, or since the first call.
        """
        self._as_of_us = self._as_of_us or state.as_of_us
        return state.journeys.due or state.as_of_us - self._as_of_us >= MAX_SPAN_US

    async def change_to(self, state: State) -> Change:
        """Compare a state with what is stored. Raises where a row or an answer of it cannot be
        written. Nothing may be folded meanwhile.
        """
        self._as_of_us = state.as_of_us
        digests: dict[tuple[str, int], bytes] = {}
        changed: list[Section] = []
        turn = TimeSlice()
        for section, bucket, data in state.dump():
            digest = digests[(section, bucket)] = _digest(data)
            if self._replace or self._digests.get((section, bucket)) != digest:
                changed.append((section, bucket, data))
            if turn.over:
                await turn.renew()
        await turn.run(state.encode_answers())
        removed = [key for key in self._digests if key not in digests]
        return Change(digests, changed, removed, state.journeys)

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
                also=[partial(session_rows.write, changes=change.sessions.changes)],
            )
        except LogUnavailableError as trouble:
            log.warning("checkpoint_failed", reason=line_of(trouble))
            return False
        self._digests, self._replace, self.position = change.digests, False, position
        change.sessions.saved()
        return True


def _digest(data: bytes) -> bytes:
    return hashlib.blake2b(data, digest_size=16).digest()
