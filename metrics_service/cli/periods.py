"""The windows that a command asks for, and the period that one is compared with.

What is compared is cut alike: both periods have the same whole steps, so that an hour that is not
over is not compared with a whole one.
"""

from __future__ import annotations

import re
from datetime import timedelta
from enum import StrEnum
from typing import Final, NamedTuple

from google.protobuf.duration_pb2 import Duration

from metrics_service.state.series.windows import RESOLUTIONS

ALL: Final = "all"
_UNITS: Final = {"s": 1, "m": 60, "h": 3_600, "d": 86_400, "w": 7 * 86_400}
_DURATION: Final = re.compile(r"([0-9]{1,9})([smhdw]?)")
_US: Final = timedelta(microseconds=1)


class Against(StrEnum):
    """What a window is compared with."""

    PREVIOUS = "previous"
    WEEK = "week"


class Window(NamedTuple):
    """The window that ended so long ago; None is everything ever counted."""

    length: timedelta | None
    ended: timedelta = timedelta(0)


class PeriodError(ValueError):
    """The words name no duration, or no such periods can be compared."""


def duration(words: str) -> timedelta:
    """Return the duration of "90", "90s", "15m", "1h", "7d" or "2w". Raises PeriodError."""
    found = _DURATION.fullmatch(words)
    if found is None or not int(found[1]):
        raise PeriodError("must be a number with s, m, h, d or w, such as 15m")
    return timedelta(seconds=int(found[1]) * _UNITS[found[2] or "s"])


def shift(length: timedelta, against: Against) -> timedelta:
    """Return how long before a period the one is that it is compared with."""
    return length if against is Against.PREVIOUS else timedelta(weeks=1)


def periods(as_of_us: int, window: Window, against: Against) -> tuple[Window, Window]:
    """Return the window and the one before as they are to be asked at `as_of_us`: of whole steps
    that both have, up to the newest that is over. Raises PeriodError where either is not kept.
    """
    if window.length is None:
        raise PeriodError("all time has no period before it: give a --window")
    length_us, ended_us = window.length // _US, window.ended // _US
    shift_us = shift(window.length, against) // _US
    for resolution in RESOLUTIONS:
        end_us = (as_of_us - ended_us) // resolution.step_us * resolution.step_us
        before = _asked(as_of_us, length_us, end_us - shift_us)
        now = _asked(as_of_us, length_us, end_us)
        if before is not None and now is not None:
            return now, before
    raise PeriodError("the period before is not kept: window and all before it are at most 30d")


def _asked(as_of_us: int, length_us: int, end_us: int) -> Window | None:
    """Return the window that ends then, in the finest steps that keep it; None where none does."""
    for _, step_us, slots in RESOLUTIONS:
        ended_us = (as_of_us // step_us + 1) * step_us - end_us
        fits = length_us + ended_us <= step_us * slots
        if fits and not length_us % step_us and not ended_us % step_us:
            return Window(length_us * _US, ended_us * _US)
    return None


def message(length: timedelta) -> Duration:
    """Return the duration as a field of a request."""
    made = Duration()
    made.FromTimedelta(length)
    return made
