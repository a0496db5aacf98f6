"""The funnel's figures by time, and what a change of an actor's outcome corrects in them."""

from __future__ import annotations

from typing import Final

from metrics_service.state.funnel import chain
from metrics_service.state.funnel.cell import FunnelCell, Gains, LateFunnelCell
from metrics_service.state.funnel.chain import Chain, Change
from metrics_service.state.series.rings import RESOLUTIONS, Rings

TABLE: Final = "funnel"
MAX_WAITING: Final = 1_000

_STEP_US: Final = RESOLUTIONS[0].step_us


class FunnelSlots:
    """Cells of the funnel. `ahead`: a change counts in the figures of all times only.

    Steps that chains have gained wait until a slot of the finest ring is over, or something is
    read, and are then added to the cells together: that is cheaper than one by one. Before a time
    is taken from a cell again, it is there.
    """

    def __init__(self, steps: int) -> None:
        self._steps = steps
        self._rings = Rings(
            TABLE,
            lambda: FunnelCell(steps),
            FunnelCell.decode,
            new_late=lambda: LateFunnelCell(steps),
        )
        self._waiting: dict[int, Gains] = {}
        self._waiting_chains = 0
        self._now_us = 0

    @property
    def rings(self) -> Rings[FunnelCell]:
        """The cells, with everything counted so far."""
        if self._waiting:
            self.settle()
        return self._rings

    @property
    def month(self) -> Rings[FunnelCell]:
        """The cells; what waits for settle() is not in them yet."""
        return self._rings

    def advance(self, now_us: int) -> None:
        """Advance the clock."""
        if now_us // _STEP_US != self._now_us // _STEP_US:
            self.settle()
        self._now_us = now_us
        self._rings.advance(now_us)

    def count(self, change: Change, *, ahead: bool) -> None:
        """Correct the slots of an actor's best chain."""
        old, new, shared, gone_before, gone_after = change
        if old is not new:
            if old and not shared:
                self._lose(old, ahead=ahead)
            if len(new) > shared:
                self._gain(new, shared, ahead=ahead)
        if gone_before and (not gone_after or old[0] != new[0]):
            self.add_abandoned(old, -1, ahead=ahead)
        if gone_after and (not gone_before or old[0] != new[0]):
            self.add_abandoned(new, 1, ahead=ahead)

    def add_abandoned(self, best: Chain, sign: int, *, ahead: bool) -> None:
        """Count that an actor with this chain gave up."""
        for cell in self._cells(best[0], ahead=ahead):
            cell.abandoned += sign

    def count_unmatched(
        self, before: tuple[int, ...], after: tuple[int, ...], *, ahead: bool
    ) -> None:
        """Correct the slots of packed events that extend no chain."""
        shared = len(before) if before == after[: len(before)] else 0
        for sign, events in ((-1, before), (1, after)):
            for time_us, step in map(chain.unpack, events[shared:]):
                for cell in self._cells(time_us, ahead=ahead):
                    cell.unmatched[step] += sign

    def settle(self) -> None:
        """Add what waits to the cells."""
        for slot, gains in self._waiting.items():
            for cell in self._rings.at(slot * _STEP_US, gains.chains):
                cell.add_gains(gains)
        self._waiting.clear()
        self._waiting_chains = 0

    def _cells(self, time_us: int, *, ahead: bool) -> tuple[FunnelCell, ...]:
        return (self._rings.total,) if ahead else self._rings.at(time_us)

    def _gain(self, best: Chain, shared: int, *, ahead: bool) -> None:
        if ahead:
            self._rings.total.add_gains(self._gains(best, shared))
            return
        slot = best[0] // _STEP_US
        gains = self._waiting.get(slot)
        if gains is None:
            self._waiting[slot] = self._gains(best, shared)
        else:
            gains.add(best, shared)
        self._waiting_chains += 1
        if self._waiting_chains >= MAX_WAITING:
            self.settle()

    def _lose(self, best: Chain, *, ahead: bool) -> None:
        if len(best) > 1:
            self.settle()
        gains = self._gains(best)
        for cell in self._cells(best[0], ahead=ahead):
            cell.add_gains(gains, -1)

    def _gains(self, best: Chain, shared: int = 0) -> Gains:
        gains = Gains(self._steps)
        gains.add(best, shared)
        return gains
