"""The comparison of a package's counters with its bookings, a number of days at a time."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import date
from typing import Final

from booking_service.domain.booking import LIVE, TAKEN, Booking
from booking_service.domain.inventory import Day, days_of

MAX_RECOUNTED_DAYS: Final = 200
"""Consecutive days that one command compares."""


@dataclass(slots=True)
class Recount:
    """The days in [first, until) that a package has, as computed from its bookings; `next_date` is
    the first one after them.
    """

    first: date
    until: date
    days: dict[date, Day] = field(default_factory=dict)
    next_date: date | None = None

    def count(self, booking: Booking | None, sign: int) -> None:
        """Add or take away the units of a booking."""
        if booking is None:
            return
        held = sign * booking.quantity * (booking.state in LIVE)
        confirmed = sign * booking.quantity * (booking.state in TAKEN)
        first, until = max(self.first, booking.start_date), min(self.until, booking.end_date)
        for day in days_of(first, until):
            self.days[day] = self.days.get(day, Day()).changed(held=held, confirmed=confirmed)


@dataclass(frozen=True, slots=True)
class Drift:
    """A day whose counters differ from what its bookings add up to."""

    day: date
    stored: Day
    recounted: Day


@dataclass(frozen=True, slots=True)
class Reconciliation:
    """The result of comparing counters of a package with its bookings; `next_date` is its first day
    that was not compared, None where there is none.
    """

    days: int
    drifts: tuple[Drift, ...]
    repaired: bool
    next_date: date | None = None
