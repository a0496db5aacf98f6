"""Seats of one package on one day: never more taken than there are."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import date, timedelta


@dataclass(frozen=True, slots=True)
class Day:
    """Units that can be sold on a day, and how many of them are held and confirmed."""

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
        return replace(self, held=self.held + held, confirmed=self.confirmed + confirmed)


def days_of(start: date, end: date) -> Iterator[date]:
    """Every day in [start, end)."""
    for n in range((end - start).days):
        yield start + timedelta(days=n)
