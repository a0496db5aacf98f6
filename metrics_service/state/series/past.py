"""What leaves a ring of hours for the history, until a checkpoint has stored it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from copy import deepcopy
from typing import Any, Final, Generic, NamedTuple, Self, TypeAlias

from metrics_service.state.series.ring import C, Ring

HOUR_US: Final = 3_600_000_000
DAY_US: Final = 24 * HOUR_US
LIMIT_US: Final = 5 * 366 * DAY_US
"""How long before the border corrections are kept."""

KEPT_DAYS: Final = 29
"""Whole days before that of now, whose hours a ring of 30 days still has."""


class Border(NamedTuple):
    """Where the history begins, in microseconds, on whole days.

    Hours from `from_us` on are whole in the ring, and are stored as they are; to hours before it,
    what is counted later is added as a correction. Hours before `own_us` are of a former fold of
    the log: what it has added to them, up to the record at `known_to`, is not added again.
    """

    from_us: int = 0
    own_us: int = 0
    known_to: int = 0

    def at(self, now_us: int) -> Self:
        """Return the border at a time; it never goes back."""
        from_us = (now_us // DAY_US - KEPT_DAYS) * DAY_US
        return self._replace(from_us=max(self.from_us, from_us))


class Left(NamedTuple):
    """What has left a ring for the history. hours: the last bytes of hours that have passed the
    border. corrections: cells of what was counted in hours before it since. Both by hour.
    """

    hours: dict[int, bytes]
    corrections: dict[int, Any]


class Past(Generic[C]):
    """What has left a ring since it was taken, `left`. `found` is a cache of cells to write to."""

    def __init__(self, new: Callable[[], C], found: dict[Any, Any]) -> None:
        self.border = Border()
        self._new = new
        self.left = Left({}, {})
        self._found = found

    def at(self, time_us: int) -> C | None:
        """Return the cell of a correction; None where the hour is whole in the ring or too long
        ago, or the history has what is counted now already.
        """
        border = self.border
        if not border.from_us - LIMIT_US <= time_us < border.from_us:
            return None
        if border.known_to and time_us < border.own_us:
            return None
        return self._cell(time_us // HOUR_US)

    def advance(self, now_us: int, ring: Ring[C]) -> None:
        """Take the hours of the ring that the border passes; their late figures are corrections."""
        border, self.border = self.border, self.border.at(now_us)
        low, high = border.from_us // HOUR_US, self.border.from_us // HOUR_US
        if low < high:
            self.left.hours.update(ring.leaving(low, high))
            for hour, late in ring.late_cells(low, high):
                self._cell(hour).merge(late)

    def begin(self, border: Border) -> None:
        """Set where the history begins."""
        self.border = border
        self._found.clear()

    def take(self) -> Left:
        """Return all of it, and begin again with nothing."""
        taken = self.left
        self.adopt(Left({}, {}))
        return taken

    def copy(self) -> Left:
        """Return a copy."""
        return Left(dict(self.left.hours), deepcopy(self.left.corrections))

    def adopt(self, left: Left) -> None:
        """Go on from what had left the ring of an equal state."""
        self.left = left
        self._found.clear()

    def _cell(self, hour: int) -> C:
        found: C | None = self.left.corrections.get(hour)
        if found is None:
            found = self.left.corrections[hour] = self._new()
        return found


Pasts: TypeAlias = Mapping[str, Left]
"""By table."""
