"""The seats of one package on one day, of which never more are taken than exist."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, timedelta


@dataclass(frozen=True, slots=True)
class Day:
    """The units that can be sold on a day, and how many of them are held and confirmed."""

    capacity: int = 0
    held: int = 0
    confirmed: int = 0

    @property
    def taken(self) -> int:
        return self.held + self.confirmed

    @property
    def free(self) -> int:
        return self.capacity - self.taken

    def changed(self, *, held: int = 0, confirmed: int = 0) -> Day:
        """Return the day with more (or, negative, fewer) units held and confirmed."""
        return Day(self.capacity, self.held + held, self.confirmed + confirmed)


def days_of(start: date, end: date) -> Iterator[date]:
    """Yield every day of [start, end)."""
    for n in range((end - start).days):
        yield start + timedelta(days=n)
