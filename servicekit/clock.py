"""The wall clock that events are dated by, and the time of a clock without its steps; durations
come from monotonic clocks.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

import structlog

MAX_STEP_US: Final = 10_000_000
"""A clock that is corrected by at most this is followed at once."""

BELIEVED_AFTER_S: Final = 60.0
"""A larger step stands for this long before it is followed: the clock was set right."""

MAX_SKEW_US: Final = 300_000_000
"""Two machines whose clocks differ by more are not both right."""

log = structlog.get_logger()


def wall_us() -> int:
    """Return UTC microseconds since the epoch, by this machine's clock."""
    return time.time_ns() // 1000


class SteadyTime:
    """The time of a clock in microseconds, without its steps.

    Between two readings time advances with the monotonic clock. A reading that differs by more than
    MAX_STEP_US is a step: it is believed only once it has stood for BELIEVED_AFTER_S.
    """

    def __init__(self, monotonic_s: Callable[[], float] = time.monotonic) -> None:
        self.step_us = 0
        """How far the newest reading is from this time, where that is a step; else 0."""

        self._monotonic_s = monotonic_s
        self._base_us = 0
        self._base_s = 0.0
        self._since_s: float | None = None

    def now_us(self) -> int:
        """Return the time."""
        return self._expected_us(self._monotonic_s())

    def follow(self, now_us: int) -> None:
        """Go on from this time."""
        self._follow(now_us, self._monotonic_s())

    def read(self, now_us: int, *, earliest_us: int | None = None) -> int:
        """Compare a reading of the clock, and return the time: the reading, unless that is a step.
        One before `earliest_us` is never believed.
        """
        now_s = self._monotonic_s()
        step_us = now_us - self._expected_us(now_s)
        if abs(step_us) <= MAX_STEP_US:
            if self._since_s is not None:
                log.warning("clock_followed", step_s=0)
            self._follow(now_us, now_s)
        elif self._since_s is None or abs(step_us - self.step_us) > MAX_STEP_US:
            self._since_s, self.step_us = now_s, step_us
            log.error("clock_jumped", step_s=step_us // 1_000_000)
        elif now_s - self._since_s >= BELIEVED_AFTER_S and (
            earliest_us is None or now_us >= earliest_us
        ):
            log.warning("clock_followed", step_s=step_us // 1_000_000)
            self._follow(now_us, now_s)
        return self._expected_us(now_s)

    def _expected_us(self, now_s: float) -> int:
        return self._base_us + int((now_s - self._base_s) * 1e6)

    def _follow(self, now_us: int, now_s: float) -> None:
        self._base_us, self._base_s = now_us, now_s
        self._since_s, self.step_us = None, 0
