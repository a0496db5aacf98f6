"""The funnel of one slot; cells add up."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Self, TypeAlias

from metrics_service.measure.sketch import Sketch
from protos.metrics.v1 import checkpoint_pb2

Times: TypeAlias = list[tuple[int, int, int]]
LateChain: TypeAlias = tuple[Times, int, bool]


class FunnelCell:
    """The actors whose best chain began in one slot, by step.

    reached: actors that reached the step. from_first_us, from_previous_us: the times they took to
    reach it, from the second step on. abandoned: actors that gave up. unmatched: events of this
    slot that extended no chain.
    """

    __slots__ = ("abandoned", "from_first_us", "from_previous_us", "reached", "unmatched")

    @property
    def chains(self) -> Sequence[LateChain]:
        """What add_chain is to be called with, where that is left to the cell of a sum."""
        return ()

    def __init__(self, steps: int) -> None:
        self.reached = [0] * steps
        self.unmatched = [0] * steps
        self.abandoned = 0
        self.from_first_us = [Sketch() for _ in range(steps - 1)]
        self.from_previous_us = [Sketch() for _ in range(steps - 1)]

    @property
    def entered(self) -> int:
        """Actors that took the first step."""
        return self.reached[0]

    @property
    def converted(self) -> int:
        """Actors that took the last step."""
        return self.reached[-1]

    @property
    def open(self) -> int:
        """Actors whose chain may still grow; always 0 in a funnel of one step."""
        return self.entered - self.converted - self.abandoned

    def add_chain(self, times: Times, sign: int, *, entered: bool) -> None:
        """Count steps of a chain, each as (step, time from the first, time from the previous), and
        the first step if `entered`; sign -1 subtracts them.
        """
        if entered:
            self.reached[0] += sign
        for step, first_us, previous_us in times:
            self.reached[step] += sign
            if sign > 0:
                self.from_first_us[step - 1].add(first_us)
                self.from_previous_us[step - 1].add(previous_us)
            else:
                self.from_first_us[step - 1].remove(first_us)
                self.from_previous_us[step - 1].remove(previous_us)

    def merge(self, other: Self) -> None:
        self.abandoned += other.abandoned
        for step, count in enumerate(other.reached):
            self.reached[step] += count
            self.unmatched[step] += other.unmatched[step]
        for mine, theirs in zip(self.from_first_us, other.from_first_us, strict=True):
            mine.merge(theirs)
        for mine, theirs in zip(self.from_previous_us, other.from_previous_us, strict=True):
            mine.merge(theirs)
        for times, sign, entered in other.chains:
            self.add_chain(times, sign, entered=entered)

    take = merge

    def encode(self) -> bytes:
        """Serialize as checkpoint_pb2.FunnelCell."""
        return checkpoint_pb2.FunnelCell(
            reached=self.reached,
            unmatched=self.unmatched,
            abandoned=self.abandoned,
            from_first_us=[sketch.to_proto() for sketch in self.from_first_us],
            from_previous_us=[sketch.to_proto() for sketch in self.from_previous_us],
        ).SerializeToString()

    @classmethod
    def decode(cls, data: bytes) -> Self:
        message = checkpoint_pb2.FunnelCell.FromString(data)
        cell = cls(len(message.reached))
        cell.reached = list(message.reached)
        cell.unmatched = list(message.unmatched)
        cell.abandoned = message.abandoned
        cell.from_first_us = [Sketch.from_proto(sketch) for sketch in message.from_first_us]
        cell.from_previous_us = [Sketch.from_proto(sketch) for sketch in message.from_previous_us]
        return cell


class LateFunnelCell(FunnelCell):
    """Late figures of one slot. Its chains are counted where it is added to: a chain that grows is
    subtracted first, which only a sum that has it can do, and in the order of the events.
    """

    __slots__ = ("_chains",)

    def __init__(self, steps: int) -> None:
        super().__init__(steps)
        self._chains: list[LateChain] = []

    @property
    def chains(self) -> Sequence[LateChain]:
        return self._chains

    def add_chain(self, times: Times, sign: int, *, entered: bool) -> None:
        self._chains.append((times, sign, entered))
