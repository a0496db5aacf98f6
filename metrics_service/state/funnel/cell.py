"""The funnel of one slot; cells add up."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Self

from metrics_service.measure.sketch import Sketch
from metrics_service.state.funnel.chain import Chain
from metrics_service.state.series.kind import Kind
from protos.metrics.v1 import checkpoint_pb2


class Gains:
    """Steps that chains of one slot have gained: how many of them each step, and, from the second
    step on, the times from the first and from the previous one.
    """

    __slots__ = ("chains", "first_us", "previous_us", "reached")

    def __init__(self, steps: int) -> None:
        self.chains = 0
        self.reached = [0] * steps
        self.first_us: list[list[int]] = [[] for _ in range(steps - 1)]
        self.previous_us: list[list[int]] = [[] for _ in range(steps - 1)]

    def add(self, chain: Chain, shared: int) -> None:
        """Add the steps of a chain from that number on."""
        self.chains += 1
        for step in range(shared, len(chain)):
            self.reached[step] += 1
            if step:
                self.first_us[step - 1].append(chain[step] - chain[0])
                self.previous_us[step - 1].append(chain[step] - chain[step - 1])


class FunnelCounts:
    """The actors of a slot, as FunnelCell has them."""

    __slots__ = ("abandoned", "reached", "unmatched")

    def __init__(self, reached: Sequence[int], unmatched: Sequence[int], abandoned: int) -> None:
        self.reached = list(reached)
        self.unmatched = list(unmatched)
        self.abandoned = abandoned

    @property
    def late(self) -> Sequence[tuple[Gains, int]]:
        """What add_gains is to be called with, where that is left to the cell of a sum."""
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
        for gains, each in other.late:
            for step, count in enumerate(gains.reached):
                self.reached[step] += sign * each * count

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

    def add_gains(self, gains: Gains, sign: int = 1) -> None:
        """Count steps of chains; sign -1 subtracts them."""
        for step, count in enumerate(gains.reached):
            if count:
                self.reached[step] += sign * count
                if step:
                    _count(self.from_first_us[step - 1], gains.first_us[step - 1], sign)
                    _count(self.from_previous_us[step - 1], gains.previous_us[step - 1], sign)

    def merge(self, other: Self) -> None:  # type: ignore[override]  # Adds up with its like only.
        self.abandoned += other.abandoned
        for step, count in enumerate(other.reached):
            self.reached[step] += count
            self.unmatched[step] += other.unmatched[step]
        for mine, theirs in zip(self.from_first_us, other.from_first_us, strict=True):
            mine.merge(theirs)
        for mine, theirs in zip(self.from_previous_us, other.from_previous_us, strict=True):
            mine.merge(theirs)
        for gains, sign in other.late:
            self.add_gains(gains, sign)

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

    __slots__ = ("_late",)

    def __init__(self, steps: int) -> None:
        super().__init__(steps)
        self._late: list[tuple[Gains, int]] = []

    @property
    def late(self) -> Sequence[tuple[Gains, int]]:
        return self._late

    def add_gains(self, gains: Gains, sign: int = 1) -> None:
        self._late.append((gains, sign))


def _count(sketch: Sketch, values: Sequence[int], sign: int) -> None:
    if sign > 0:
        sketch.add_many(values)
    else:
        for value in values:
            sketch.remove(value)
