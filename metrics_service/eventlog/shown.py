"""What counters were shown before the log was folded anew: they go on from it, whatever the new
fold gives.
"""

from __future__ import annotations

from typing import Final, Self

import structlog

from metrics_service.state import fold
from metrics_service.state.counter_base import Counts
from metrics_service.state.history.begin import beginning
from metrics_service.storage.checkpoints import Checkpoint

log = structlog.get_logger()

_BASE: Final = "counters.base"


class Shown:
    """The counters at a position, until they are handed on."""

    def __init__(self, counts: Counts | None = None, position: int = 0) -> None:
        self._counts = counts
        self._position = position

    @classmethod
    def of(cls, state: fold.State) -> Self:
        """Return those of a state; none where they cannot be read."""
        try:
            return cls(state.counters(), state.position)
        except Exception:
            log.exception("counters_lost", position=state.position)
            return cls()

    @classmethod
    def stored(cls, checkpoint: Checkpoint) -> Self:
        """Return those of a checkpoint, of any version; none where they cannot be read."""
        try:
            sections, _, states = zip(*checkpoint.rows, strict=True)
            rows = beginning(sections, states, version=fold.VERSION, after_us=0, known_to=0)
            base = [row for row in checkpoint.rows if row[0] == _BASE]
            return cls.of(fold.State.load([*rows, *base]))
        except Exception:
            log.exception("counters_lost", position=checkpoint.position)
            return cls()

    def hand_on(self, state: fold.State) -> None:
        """Let the counters of a state go on from these, once it has come as far."""
        if self._counts is not None and state.position >= self._position:
            counts, self._counts = self._counts, None
            state.go_on_from(counts)
