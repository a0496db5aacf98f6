"""The figures of a dimension: what the groups of a cell count under each of its keys."""

from __future__ import annotations

from metrics_service.measure.sums import clamped
from metrics_service.state.breakdown.cell import COUNTERS, BreakdownCell
from metrics_service.state.breakdown.packages import OTHER


class Sums:
    """The counters of one key, or of several; money: [confirmed, gross, refunded] by currency."""

    def __init__(self) -> None:
        self.counts = [0] * COUNTERS
        self.money: dict[str, list[int]] = {}

    def add(self, other: Sums) -> None:
        """Add the sums of others."""
        self.add_counts(other.counts)
        for currency, sums in other.money.items():
            self.add_money(currency, sums)

    def add_counts(self, counts: list[int]) -> None:
        """Add the counters of a group."""
        self.counts = [mine + theirs for mine, theirs in zip(self.counts, counts, strict=True)]

    def add_money(self, currency: str, sums: list[int]) -> None:
        """Add the money of a group."""
        mine = self.money.setdefault(currency, [0, 0, 0])
        mine[:] = [clamped(one + other) for one, other in zip(mine, sums, strict=True)]


def sums_by(cell: BreakdownCell, dimension: int) -> dict[str | None, Sums]:
    """Return the sums by the keys of a dimension, a field of Group; None is the rest. A key that a
    bound has divided, so that a part of it is negative, belongs to the rest.
    """
    found: dict[str | None, Sums] = {None: Sums()}
    for group, counts in cell.groups.items():
        _of(found, group[dimension]).add_counts(counts)
    for (group, currency), sums in cell.money.items():
        _of(found, group[dimension]).add_money(currency, sums)
    for key in [key for key, sums in found.items() if key is not None and min(sums.counts) < 0]:
        found[None].add(found.pop(key))
    return found


def _of(found: dict[str | None, Sums], key: str) -> Sums:
    kept = None if key == OTHER else key
    sums = found.get(kept)
    if sums is None:
        sums = found[kept] = Sums()
    return sums
