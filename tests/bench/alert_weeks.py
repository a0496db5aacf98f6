"""Weeks of made-up business for the rules of alerts: how often the shipped rules fire while all is
well, and how soon they find what is not.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import accumulate
from typing import Any, Final

from metrics_service.alerts.engine.watch import Watch
from metrics_service.alerts.model import AlertEvent
from metrics_service.alerts.rules.load import load
from metrics_service.measure.sketch import Sketch
from metrics_service.state.queries.critical import CriticalQuery
from metrics_service.state.queries.fingerprints import Query
from metrics_service.state.series.rings import MINUTE_US
from protos.metrics.v1.health_pb2 import DatabaseHealth

MINUTES_A_DAY: Final = 24 * 60
MINUTES_A_WEEK: Final = 7 * MINUTES_A_DAY
MATURES: Final = 41
"""Minutes after which a minute is matured: the conversion window, the lateness, and its own end."""

EARLY: Final = 0.85
"""The share of each step's conversions that are there ten minutes after the view."""

_START: Final = 1_000_000 * MINUTES_A_DAY
_COLUMNS: Final = 14


@dataclass(frozen=True)
class Rates:
    """True rates, by default the middle of the good ranges. A step's is given the step before."""

    view_to_start: float = 0.30
    start_to_complete: float = 0.75
    complete_to_confirm: float = 0.925
    form_abandonment: float = 0.125
    error_rate: float = 0.0025
    booking_s: float = 150.0
    steps: tuple[float, float, float] = field(init=False)

    def __post_init__(self) -> None:
        steps = self.view_to_start, self.start_to_complete, self.complete_to_confirm
        object.__setattr__(self, "steps", steps)


class _Funnel:
    """What rules read of a funnel cell."""

    unmatched = (0, 0, 0, 0)

    def __init__(self, reached: Sequence[int]) -> None:
        self.reached = reached


class _Times:
    """What rules read of a sketch of booking times."""

    def __init__(self, count: int, total: float, squares: float) -> None:
        self.count = count
        self.mean = total / count if count else None
        self.variance = (squares - total * total / count) / (count - 1) if count > 1 else None


@dataclass
class _Business:
    started: int
    form_abandoned: int
    booking_time_us: _Times
    packages: dict[str, tuple[int, int]] = field(default_factory=dict)


@dataclass
class _Errors:
    kinds: dict[str, int]
    write_rpcs: int
    groups: dict[Any, Any] = field(default_factory=dict)


class Business:
    """The figures of made-up minutes, as rules read them; they begin before the first tick."""

    dropped = 0

    def __init__(self) -> None:
        self.minute = 0
        self._sums: list[tuple[float, ...]] = [(0.0,) * _COLUMNS]

    @property
    def as_of_us(self) -> int:
        return (_START + self.minute) * MINUTE_US

    @property
    def errors_in_five_minutes(self) -> int:
        return int(self._sum(5, 0)[12])

    def packages(self, window_us: int) -> dict[str, list[int]]:
        return {}

    def critical_queries(self, ended_after_us: int) -> list[tuple[CriticalQuery, Query]]:
        return []

    def execute_times(self, window_us: int, ended_us: int = 0) -> dict[str, Sketch]:
        return {}

    def hour(self, table: str, time_us: int) -> Any:
        raise NotImplementedError

    def oldest_hour_us(self, table: str) -> int | None:
        """None: there is no other week to compare with."""
        return None

    def matured(self, table: str, window_us: int) -> Any:
        return self._cell(table, window_us // MINUTE_US, MATURES, 0)

    def cell(self, table: str, window_us: int, ended_us: int = 0) -> Any:
        # Live figures of the funnel are those of the early ones.
        return self._cell(table, window_us // MINUTE_US, ended_us // MINUTE_US, 4)

    def _cell(self, table: str, window: int, ended: int, live: int) -> Any:
        found = self._sum(window, ended)
        if table == "funnel":
            return _Funnel([int(each) for each in found[live : live + 4]])
        if table == "business":
            return _Business(int(found[1]), int(found[8]), _Times(int(found[2]), *found[9:11]))
        return _Errors({"booking": int(found[12])}, int(found[11]))

    def _sum(self, window: int, ended: int) -> list[float]:
        end = max(self.minute - ended, 0)
        high, low = self._sums[end], self._sums[max(end - window, 0)]
        return [a - b for a, b in zip(high, low, strict=True)]

    def add(self, rates: Rates, an_hour: float, minutes: int, chance: random.Random) -> None:
        """Add minutes with as many sessions an hour."""
        made = [_minute(rates, an_hour / 60, chance) for _ in range(minutes)]
        sums = accumulate(
            made, lambda a, b: tuple(map(sum, zip(a, b, strict=True))), initial=self._sums[-1]
        )
        next(sums)
        self._sums.extend(sums)

    @property
    def minutes(self) -> int:
        return len(self._sums) - 1


def _minute(rates: Rates, sessions: float, chance: random.Random) -> tuple[float, ...]:
    """One minute: reached, reached early, form_abandoned, times, their squares, RPCs, errors."""
    made = [0.0] * _COLUMNS
    for _ in range(_poisson(sessions, chance)):
        early = True
        made[0] += 1
        made[4] += 1
        for step, rate in enumerate(rates.steps, 1):
            if chance.random() >= rate:
                break
            made[step] += 1
            early = early and chance.random() < EARLY
            made[4 + step] += early
            made[11] += 1
            made[12] += chance.random() < rates.error_rate
            if step == 1:
                made[8] += chance.random() < rates.form_abandonment
            if step == 2:
                # The standard deviation is six tenths of the mean.
                deviation = math.sqrt(math.log(1.36))
                mean = math.log(rates.booking_s * 1e6) - deviation**2 / 2
                took_us = chance.lognormvariate(mean, deviation)
                made[9] += took_us
                made[10] += took_us**2
    return tuple(made)


def _poisson(mean: float, chance: random.Random) -> int:
    count, left = 0, chance.random()
    limit = math.exp(-mean)
    while left > limit:
        count += 1
        left *= chance.random()
    return count


HEALTHY: Final = DatabaseHealth(status=DatabaseHealth.HEALTHY)
TOLD: Final = frozenset({"fired", "no_data"})


def alarms(weeks: int, an_hour: float, seed: int) -> list[str]:
    """The rules that tell people of something in so many weeks of which nothing is to be told."""
    chance, business, watch = random.Random(seed), Business(), Watch(load(None))
    business.add(Rates(), an_hour, MINUTES_A_DAY, chance)
    business.minute = MINUTES_A_DAY
    told = []
    for _ in range(7 * weeks):
        business.add(Rates(), an_hour, MINUTES_A_DAY, chance)
        for _ in range(MINUTES_A_DAY):
            business.minute += 1
            told += [_word(each) for each in watch.tick(business, HEALTHY) if each.change in TOLD]
    return told


def delay(rates: Rates, rule: str, an_hour: float, seed: int, most: int) -> int | None:
    """Minutes until a rule fires at these true rates; None if it does not within that most."""
    chance, business, watch = random.Random(seed), Business(), Watch(load(None))
    business.add(Rates(), an_hour, MINUTES_A_DAY, chance)
    business.minute = MINUTES_A_DAY
    business.add(rates, an_hour, most, chance)
    for minute in range(most):
        business.minute += 1
        for event in watch.tick(business, HEALTHY):
            if event.alert.rule == rule and event.change == "fired":
                return minute + 1
    return None


def halved() -> dict[str, Rates]:
    """By rule: rates at half its line, or at twice that which it is not to exceed."""
    rates = Rates()
    overall = 0.1 / 2 / (rates.start_to_complete * rates.complete_to_confirm)
    return {
        "view_to_start": replace(rates, view_to_start=0.15 / 2),
        "start_to_complete": replace(rates, start_to_complete=0.5 / 2),
        "complete_to_confirm": replace(rates, complete_to_confirm=0.75 / 2),
        "overall_conversion": replace(rates, view_to_start=overall),
        "form_abandonment": replace(rates, form_abandonment=0.4 * 2),
        "avg_booking_time": replace(rates, booking_s=300 * 2),
        "error_ratio": replace(rates, error_rate=0.01 * 2),
    }


def stopped() -> dict[str, Rates]:
    """By rule: rates of which one is nothing at all."""
    rates = Rates()
    return {
        "view_to_start": replace(rates, view_to_start=0.0),
        "start_to_complete": replace(rates, start_to_complete=0.0),
        "complete_to_confirm": replace(rates, complete_to_confirm=0.0),
        "overall_conversion": replace(rates, complete_to_confirm=0.0),
    }


def _word(event: AlertEvent) -> str:
    return f"{event.alert.rule} {event.change}: {event.alert.summary}"
