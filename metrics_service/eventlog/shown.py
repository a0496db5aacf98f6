"""What counters were shown before the log was folded anew: they go on from it, whatever the new
fold gives; from 0 where that cannot be read, which monitors take for a restart.
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
    """The counters at a position, until they are handed on. None: they are not known."""

    def __init__(self, counts: Counts | None, position: int) -> None:
        self._counts = counts
        self._position = position
        self._pending = True

    @classmethod
    def nothing(cls) -> Self:
        """Return what is never handed on: no fold was there before."""
        none = cls(None, 0)
        none._pending = False
        return none

    @classmethod
    def of(cls, state: fold.State) -> Self:
        """Return those of a state."""
        try:
            return cls(state.counters(), state.position)
        except Exception:
            log.exception("counters_lost", position=state.position)
            return cls(None, state.position)

    @classmethod
    def stored(cls, checkpoint: Checkpoint) -> Self:
        """Return those of a checkpoint of any version."""
        try:
            sections, _, states = zip(*checkpoint.rows, strict=True)
            rows = beginning(sections, states, version=fold.VERSION, after_us=0, known_to=0)
            state = fold.State.load([*rows, *(row for row in checkpoint.rows if row[0] == _BASE)])
            if state.position != checkpoint.position:
                raise ValueError(f"its counters are those of position {state.position}")
            return cls(state.counters(), state.position)
        except Exception:
            log.exception("counters_lost", position=checkpoint.position)
            return cls(None, checkpoint.position)

    def hand_on(self, state: fold.State) -> None:
        """Let the counters of a state go on from these, once it has come as far."""
        if not self._pending or state.position < self._position:
            return
        self._pending = False
        counts = self._counts
        try:
            if counts is None:
                counts = {name: dict.fromkeys(found, 0) for name, found in state.counters().items()}
            state.go_on_from(counts)
        except Exception:
            # The record that was just folded is not to blame: nothing is lost but the counters.
            log.exception("counters_lost", position=state.position)
