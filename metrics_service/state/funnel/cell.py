"""The funnel of one slot; cells add up."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Self, TypeAlias

from metrics_service.measure.sketch import Sketch
from metrics_service.state.series.kind import Kind
from protos.metrics.v1 import checkpoint_pb2

Times: TypeAlias = list[tuple[int, int, int]]
LateChain: TypeAlias = tuple[Times, int, bool]


class FunnelCounts:
    """The actors of a slot, as FunnelCell has them."""

    __slots__ = ("abandoned", "reached", "unmatched")

    def __init__(self, reached: Sequence[int], unmatched: Sequence[int], abandoned: int) -> None:
        self.reached = list(reached)
        self.unmatched = list(unmatched)
        self.abandoned = abandoned

    @property
    def chains(self) -> Sequence[LateChain]:
        """What add_chain is to be called with, where that is left to the cell of a sum."""
        return ()

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

    def merge(self, other: FunnelCounts, sign: int = 1) -> None:
        self.abandoned += sign * other.abandoned
        for step, count in enumerate(other.reached):
            self.reached[step] += sign * count
            self.unmatched[step] += sign * other.unmatched[step]
        for times, each, entered in other.chains:
            self.reached[0] += sign * each * entered
            for step, *_ in times:
                self.reached[step] += sign * each

    @classmethod
    def decode_counts(cls, data: bytes) -> FunnelCounts:
        message = checkpoint_pb2.FunnelCell.FromString(data)
        return FunnelCounts(message.reached, message.unmatched, message.abandoned)


def counts_of(steps: int) -> Kind[FunnelCounts]:
    """Return how the actors of a funnel of so many steps are added up."""
    none = [0] * steps
    return Kind(lambda: FunnelCounts(none, none, 0), FunnelCounts.decode_counts)


class FunnelCell(FunnelCounts):
    """The actors whose best chain began in one slot, by step.

    reached: actors that reached the step. from_first_us, from_previous_us: the times they took to
    reach it, from the second step on. abandoned: actors that gave up. unmatched: events of this
    slot that extended no chain.
    """

    __slots__ = ("from_first_us", "from_previous_us")

    def __init__(self, steps: int) -> None:
        super().__init__([0] * steps, [0] * steps, 0)
        self.from_first_us = [Sketch() for _ in range(steps - 1)]
        self.from_previous_us = [Sketch() for _ in range(steps - 1)]

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

    def merge(self, other: Self) -> None:  # type: ignore[override]  # Adds up with its like only.
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

    def less(self, part: FunnelCell) -> FunnelCell:
        """Return the figures without those of a part of the slots."""
        left = FunnelCell(len(self.reached))
        FunnelCounts.merge(left, self)
        FunnelCounts.merge(left, part, -1)
        both = zip(self.from_first_us, part.from_first_us, strict=True)
        left.from_first_us = [mine.less(theirs) for mine, theirs in both]
        both = zip(self.from_previous_us, part.from_previous_us, strict=True)
        left.from_previous_us = [mine.less(theirs) for mine, theirs in both]
        return left

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
