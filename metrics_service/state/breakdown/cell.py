"""The figures of one slot by package, with its type, location and vendor; cells add up."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import ClassVar, Final, Self

from metrics_service.measure.sums import clamped
from metrics_service.state.breakdown.packages import (
    OTHER,
    OTHER_GROUP,
    Group,
    read_groups,
    write_groups,
)
from protos.metrics.v1 import checkpoint_pb2

MAX_GROUPS: Final = 200
"""Of a slot. Further packages are counted together, by type, location and vendor."""
MAX_COARSE: Final = 50
"""Of a slot, more: types, locations and vendors of further packages. The rest is one group."""
MAX_MERGED: Final = 4
"""How many times as many a sum of slots has, each with groups of its own."""
MAX_MONEY: Final = 2
"""For each group: so many currencies on average; amounts beyond belong to the rest."""

VIEWS, ATTEMPTS, ERRORS, ABANDONED, REACHED = range(5)
STEPS: Final = 4
COUNTERS: Final = REACHED + STEPS


class BreakdownCell:
    """The counters of a slot by group: package views, ended writes of the package and the errors
    among them, and, of (session, package) as the actor, how many gave up and how many reached each
    step. money: [confirmed, gross, refunded] by group and currency.
    """

    __slots__ = ("groups", "money")
    scale: ClassVar[int] = 1

    def __init__(self) -> None:
        self.groups: dict[Group, list[int]] = {}
        self.money: dict[tuple[Group, str], list[int]] = {}

    def add(self, group: Group, counts: list[int]) -> None:
        """Add counters of a group."""
        self._add_counts(group, counts, 1, self.scale)

    def add_money(self, group: Group, currency: str, sums: Iterable[int]) -> None:
        """Add [confirmed, gross, refunded] of a group."""
        self._add_money(group, currency, sums, self.scale)

    def merge(self, other: Self, sign: int = 1) -> None:
        self._add(other, sign, MAX_MERGED)

    def take(self, late: Self) -> None:
        self._add(late, 1, self.scale)

    def _add(self, other: Self, sign: int, scale: int) -> None:
        for group, counts in other.groups.items():
            self._add_counts(group, counts, sign, scale)
        for (group, currency), sums in other.money.items():
            self._add_money(group, currency, [sign * each for each in sums], scale)

    def _add_counts(self, group: Group, counts: list[int], sign: int, scale: int) -> None:
        mine = self.groups.get(group)
        if mine is None:
            mine = self.groups.setdefault(self._kept(group, scale), [0] * COUNTERS)
        for index, number in enumerate(counts):
            if number:
                mine[index] += sign * number

    def _add_money(self, group: Group, currency: str, sums: Iterable[int], scale: int) -> None:
        mine = self.money.get((group, currency))
        if mine is None:
            kept = group if group in self.groups else self._kept(group, scale)
            if len(self.money) >= MAX_MONEY * (MAX_GROUPS + MAX_COARSE) * scale:
                kept = OTHER_GROUP
            self.groups.setdefault(kept, [0] * COUNTERS)
            mine = self.money.setdefault((kept, currency), [0, 0, 0])
        for index, number in enumerate(sums):
            mine[index] = clamped(mine[index] + number)

    def _kept(self, group: Group, scale: int) -> Group:
        """Return the group that one is counted in which the cell does not have yet."""
        room = MAX_GROUPS * scale - len(self.groups)
        if room > 0:
            return group
        coarse = group._replace(package=OTHER)
        if coarse in self.groups or room + MAX_COARSE * scale > 0:
            return coarse
        return OTHER_GROUP

    def encode(self) -> bytes:
        """Serialize as checkpoint_pb2.BreakdownCell."""
        groups = sorted(self.groups)
        places = {group: number for number, group in enumerate(groups)}
        money = sorted(
            (places[group], currency, sums) for (group, currency), sums in self.money.items()
        )
        return checkpoint_pb2.BreakdownCell(
            groups=write_groups(groups),
            count=[number for group in groups for number in self.groups[group]],
            money_group=[place for place, _, _ in money],
            currency=[currency for _, currency, _ in money],
            money=[number for _, _, sums in money for number in sums],
        ).SerializeToString()

    @classmethod
    def decode(cls, data: bytes) -> Self:
        message = checkpoint_pb2.BreakdownCell.FromString(data)
        cell = cls()
        groups, numbers, sums = read_groups(message.groups), list(message.count), message.money
        for place, group in enumerate(groups):
            cell.groups[group] = numbers[place * COUNTERS : (place + 1) * COUNTERS]
        for number, (place, currency) in enumerate(
            zip(message.money_group, message.currency, strict=True)
        ):
            cell.money[groups[place], currency] = list(sums[3 * number : 3 * number + 3])
        return cell


class LateBreakdownCell(BreakdownCell):
    """Late figures of one slot, with every group: the bound is that of the slot."""

    __slots__ = ()
    scale = sys.maxsize

    def merge(self, other: Self, sign: int = 1) -> None:
        self._add(other, sign, self.scale)
