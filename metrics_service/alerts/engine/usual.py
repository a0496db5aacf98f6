"""Judges an hour by the same hour of the week in the weeks before: pure functions."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import median
from typing import Final, NamedTuple

from metrics_service.alerts.words import amount
from metrics_service.state.figures import rate

WEEKS: Final = 4
MAX_SHIFT: Final = 1
"""Hours before and after the same hour that count as well."""

MIN_MEDIAN: Final = 20
"""Of a count; below it nothing is unusual."""

DEVIATIONS: Final = 4 * 1.4826
"""Times the median absolute deviation; 1.4826 of them are a standard deviation."""
SHARE: Final = 0.5
ROOTS: Final = 3
RATIO_SHARE: Final = 0.2
"""The relative change below which no ratio is unusual."""

MAX_DEVIATION: Final = 1000.0

HOURS_A_WEEK: Final = 7 * 24
_DAYS: Final = (
    *("Mondays", "Tuesdays", "Wednesdays", "Thursdays"),
    *("Fridays", "Saturdays", "Sundays"),
)
# The hours since 1970 begin with a Thursday.
_FIRST_DAY: Final = 3


class Found(NamedTuple):
    """What an hour is beside the usual: its value, what was lowest and highest then, and the
    deviation as a multiple of that which is unusual, negative below.
    """

    value: float
    low: float
    high: float
    deviation: float


class Part(NamedTuple):
    """A ratio of one hour, or of several."""

    numerator: int
    denominator: int


def hours_of(hour: int) -> list[int]:
    """Return the numbers of the hours that one is compared with, newest first."""
    return [
        hour - week * HOURS_A_WEEK + shift
        for week in range(1, WEEKS + 1)
        for shift in range(MAX_SHIFT, -MAX_SHIFT - 1, -1)
    ]


def judge_count(value: float, usual: Sequence[float]) -> Found | None:
    """Compare a count with those of the usual hours; None where they are too few or too small."""
    if not usual:
        return None
    middle = median(usual)
    if middle < MIN_MEDIAN:
        return None
    spread = median(abs(each - middle) for each in usual)
    limit = max(DEVIATIONS * spread, SHARE * middle, ROOTS * math.sqrt(middle))
    return Found(value, min(usual), max(usual), (value - middle) / limit)


def judge_ratio(part: Part, usual: Sequence[Part]) -> Found | None:
    """Compare a ratio with that of the usual hours together; None where one has no samples. It is
    unusual only where Wilson's intervals are disjoint.
    """
    whole = rate(sum(each.numerator for each in usual), sum(each.denominator for each in usual))
    found = rate(*part)
    if not (found.HasField("value") and whole.HasField("value")):
        return None
    change = found.value - whole.value
    if whole.low <= found.high and found.low <= whole.high:
        deviation = 0.0
    elif not whole.value:
        deviation = MAX_DEVIATION
    else:
        deviation = min(change / whole.value / RATIO_SHARE, MAX_DEVIATION)
    return Found(found.value, whole.low, whole.high, deviation)


def sentence(what: str, unit: str, hour: int, found: Found) -> str:
    """Return such as "12 views; Mondays 14 to 15 h: 80 to 140"; times are UTC."""
    days, of_day = divmod(hour, 24)
    day = _DAYS[(days + _FIRST_DAY) % 7]
    low, high = amount(found.low, unit), amount(found.high, unit)
    return f"{amount(found.value, unit)} {what}; {day} {of_day} to {of_day + 1} h: {low} to {high}"


def learning(days: int, needed: int) -> str:
    """Return why nothing is judged yet."""
    return f"learning, {days} of {needed} days"
