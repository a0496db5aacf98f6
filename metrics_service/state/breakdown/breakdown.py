"""Figures by package, package type, location and vendor, by time."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from metrics_service.state.breakdown.cell import (
    ATTEMPTS,
    COUNTERS,
    ERRORS,
    REACHED,
    VIEWS,
    BreakdownCell,
    LateBreakdownCell,
)
from metrics_service.state.breakdown.packages import OTHER, Group, Groups, KnownPackages
from metrics_service.state.series.rings import RESOLUTIONS, Rings, ring_of, span_of

_TABLE: Final = "breakdown"
BREAKDOWN_RESOLUTIONS: Final = RESOLUTIONS[1:]
"""Steps of a minute and of an hour."""
MAX_WAITING: Final = 1_000

_STEP_US: Final = BREAKDOWN_RESOLUTIONS[0].step_us


class BreakdownFold:
    """The counters of groups. Those of the funnel are written by FunnelFold.

    What is counted waits until a minute is over, or something is read, and is then added to the
    cells once for each group and slot: that is cheaper than once for each event.
    """

    tables = (_TABLE, *KnownPackages.tables)

    def __init__(self) -> None:
        self.packages = KnownPackages()
        self._rings = Rings(
            _TABLE,
            BreakdownCell,
            BreakdownCell.decode,
            BREAKDOWN_RESOLUTIONS,
            new_late=LateBreakdownCell,
        )
        self._waiting: dict[tuple[int, Group], list[int]] = {}
        self._waiting_money: dict[tuple[int, Group, str], list[int]] = {}
        self._now_us = 0

    @property
    def rings(self) -> Rings[BreakdownCell]:
        """The cells, with everything counted so far."""
        self.settle()
        return self._rings

    @property
    def month(self) -> Rings[BreakdownCell]:
        """The cells; what waits for settle() is not in them yet."""
        return self._rings

    def count(
        self, group: Group, counter: int, number: int, time_us: int, *, ahead: bool = False
    ) -> None:
        """Add to a counter of a group; `ahead`: in the figures of all times only."""
        if ahead:
            counts = [0] * COUNTERS
            counts[counter] = number
            self.rings.total.add(group, counts)
        else:
            self._counts(time_us, group)[counter] += number

    def count_view(self, groups: Groups, time_us: int) -> None:
        """Count a view of a package."""
        for group in groups:
            self._counts(time_us, group)[VIEWS] += 1

    def count_write(self, groups: Groups, time_us: int, *, error: bool = False) -> None:
        """Count a write of a package, and whether it ended with an error that counts."""
        for group in groups:
            counts = self._counts(time_us, group)
            counts[ATTEMPTS] += 1
            counts[ERRORS] += error

    def count_money(
        self, groups: Groups, currency: str, sums: tuple[int, int, int], time_us: int
    ) -> None:
        """Add [confirmed, gross, refunded] of a booking that was confirmed at time_us."""
        for group in groups:
            # The order in which a cell gets its groups is that of the events.
            self._counts(time_us, group)
            place = (time_us // _STEP_US, group, currency)
            waiting = self._waiting_money.get(place)
            if waiting is None:
                self._waiting_money[place] = [*sums]
            else:
                waiting[0] += sums[0]
                waiting[1] += sums[1]
                waiting[2] += sums[2]

    @property
    def late_figures(self) -> int:
        """See Rings.late_figures."""
        return self._rings.late_figures

    def advance(self, now_us: int) -> None:
        """Advance the clock."""
        if now_us // _STEP_US != self._now_us // _STEP_US:
            self.settle()
        self._now_us = now_us
        self._rings.advance(now_us)

    def whole_minutes(self, window_us: int, ended_us: int) -> tuple[int, int]:
        """Return the least window of whole minutes that covers one, and how long ago it ended."""
        if RESOLUTIONS[ring_of(window_us, ended_us)] in BREAKDOWN_RESOLUTIONS:
            return window_us, ended_us
        low_us, high_us = span_of(self._now_us, window_us, ended_us)
        end_us = (self._now_us // _STEP_US + 1) * _STEP_US
        ended_us = end_us - -(-high_us // _STEP_US) * _STEP_US
        return end_us - ended_us - low_us // _STEP_US * _STEP_US, ended_us

    def settle(self) -> None:
        """Add what waits to the cells."""
        for (slot, group), counts in self._waiting.items():
            for cell in self._rings.at(slot * _STEP_US):
                cell.add(group, counts)
        for (slot, group, currency), sums in self._waiting_money.items():
            for cell in self._rings.at(slot * _STEP_US):
                cell.add_money(group, currency, sums)
        self._waiting.clear()
        self._waiting_money.clear()

    def evicted(self) -> dict[str, int]:
        """Return what was counted without its package, as that did not fit into the table of all
        times: views, writes and actors.
        """
        groups = self.rings.total.groups.items()
        other = [counts for group, counts in groups if group.package == OTHER]
        return {"breakdown": sum(each[VIEWS] + each[ATTEMPTS] + each[REACHED] for each in other)}

    def dump(self) -> Iterator[tuple[str, int, bytes]]:
        """Yield rows of a checkpoint."""
        yield from self.packages.dump()
        yield from self.rings.dump()

    def load(self, section: str, bucket: int, data: bytes) -> None:
        """Take back one row of dump()."""
        table = section.partition(".")[0]
        (self._rings if table == _TABLE else self.packages).load(section, bucket, data)

    def _counts(self, time_us: int, group: Group) -> list[int]:
        place = (time_us // _STEP_US, group)
        counts = self._waiting.get(place)
        if counts is None:
            if len(self._waiting) >= MAX_WAITING:
                self.settle()
            counts = self._waiting[place] = [0] * COUNTERS
        return counts
