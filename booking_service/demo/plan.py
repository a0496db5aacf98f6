"""Orders the stays of a file into days of traffic and computes the capacity that this order needs.

Within a day every visit comes before every cancellation. The capacity of a night is the peak of
exactly this order, including stays that are cancelled later and visitors who never book, so that a
replay in this order meets no refusal.

The file contains only guests who booked. Visitors who only viewed or gave up are generated: for
each row as many as the rates below require, drawn with a fixed seed, on the day of the row and for
its package and dates.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import date, timedelta
from enum import IntEnum
from random import Random
from typing import Final, NamedTuple

from booking_service.demo.hotel import Offer, Stay

VIEW_TO_START: Final = 0.30
START_TO_COMPLETE: Final = 0.75
COMPLETE_TO_CONFIRM: Final = 0.93
SEED: Final = 20150701

TIGHT_PERCENT: Final = 90

Capacity = dict[Offer, dict[date, int]]
"""Units by offer and night; nights without a stay are absent."""


class Goal(IntEnum):
    """The step at which a visitor stops."""

    VIEW = 1
    START = 2
    COMPLETE = 3
    CONFIRM = 4


class Visit(NamedTuple):
    """One visitor: the guest of a row (0, who books) or one generated for it (1, 2, ...)."""

    stay: Stay
    visitor: int
    goal: Goal


@dataclass(slots=True)
class Day:
    """The traffic of one day of the file's calendar, in the order of the file."""

    date: date
    parties: list[tuple[Visit, ...]] = field(default_factory=list)
    """The visits of each row: first the generated visitors, last its guest."""
    cancellations: list[Stay] = field(default_factory=list)


class Run(NamedTuple):
    """Consecutive nights of equal capacity."""

    first: date
    end: date
    """First night after the run."""
    units: int


def days_of(stays: Sequence[Stay]) -> list[Day]:
    """Return the days with traffic, in order."""
    days: dict[date, Day] = {}
    draw = Random(SEED)  # noqa: S311 - the draw must be repeatable
    for stay in stays:
        visits = tuple(_visits(stay, draw))
        days.setdefault(stay.booked_on, Day(stay.booked_on)).parties.append(visits)
    for stay in stays:
        if stay.cancelled_on is not None:
            day = days.setdefault(stay.cancelled_on, Day(stay.cancelled_on))
            day.cancellations.append(stay)
    return [days[on] for on in sorted(days)]


def capacity_for(days: Sequence[Day], percent: int = 100) -> Capacity:
    """Return the peak of each night over the days in order, or `percent` of it, at least 1."""
    taken: defaultdict[Offer, Counter[date]] = defaultdict(Counter)
    peak: defaultdict[Offer, dict[date, int]] = defaultdict(dict)
    for day in days:
        visits = [visit for party in day.parties for visit in party if visit.goal > Goal.VIEW]
        for visit in visits:
            nights = taken[visit.stay.offer]
            peaks = peak[visit.stay.offer]
            for night in nights_of(visit.stay):
                nights[night] += 1
                peaks[night] = max(peaks.get(night, 0), nights[night])
        leaving = [visit.stay for visit in visits if visit.goal < Goal.CONFIRM]
        for stay in leaving + day.cancellations:
            taken[stay.offer].subtract(nights_of(stay))
    return {
        offer: {night: max(1, units * percent // 100) for night, units in sorted(nights.items())}
        for offer, nights in sorted(peak.items())
    }


def nights_of(stay: Stay) -> Iterator[date]:
    """Yield the days of the package that a stay takes."""
    for offset in range((stay.departure - stay.arrival).days):
        yield stay.arrival + timedelta(days=offset)


def runs_of(nights: dict[date, int]) -> list[Run]:
    """Join sorted nights to runs of equal capacity without a gap."""
    runs: list[Run] = []
    for night, units in nights.items():
        if runs and runs[-1].end == night and runs[-1].units == units:
            runs[-1] = runs[-1]._replace(end=night + timedelta(days=1))
        else:
            runs.append(Run(night, night + timedelta(days=1), units))
    return runs


def _visits(stay: Stay, draw: Random) -> Iterator[Visit]:
    completes = 1 / COMPLETE_TO_CONFIRM
    starts = completes / START_TO_COMPLETE
    views = starts / VIEW_TO_START
    visitor = 0
    for goal, mean in (
        (Goal.VIEW, views - starts),
        (Goal.START, starts - completes),
        (Goal.COMPLETE, completes - 1),
    ):
        # The whole part always, and one more with the probability of the fraction.
        for _ in range(int(mean) + (draw.random() < mean % 1)):
            visitor += 1
            yield Visit(stay, visitor, goal)
    yield Visit(stay, 0, Goal.CONFIRM)
