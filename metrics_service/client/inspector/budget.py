"""Limits how often the inspector may query a database: a number of times per minute, at most a
hundredth of the time, and less and less often while the database does not answer.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Final

MINUTE_NS: Final = 60_000_000_000
SHARE: Final = 100
"""After an observation that took t there is none for this many times t."""

BACKOFF_NS: Final = 1_000_000_000
"""The pause after a first failure; each further one doubles it."""

MAX_BACKOFF_NS: Final = 30_000_000_000


class Budget:
    """Counts by a monotonic clock in nanoseconds."""

    def __init__(self, per_minute: int, monotonic_ns: Callable[[], int]) -> None:
        self._monotonic_ns = monotonic_ns
        self._taken: deque[int] = deque(maxlen=per_minute)
        self._resume_ns: int | None = None
        self._failures = 0

    def take(self) -> bool:
        """Return whether an observation is allowed now, and count it."""
        now_ns = self._monotonic_ns()
        if self._resume_ns is not None and now_ns < self._resume_ns:
            return False
        taken = self._taken
        if len(taken) == taken.maxlen and (not taken or now_ns - taken[0] < MINUTE_NS):
            return False
        taken.append(now_ns)
        return True

    def took(self, spent_ns: int) -> None:
        """Record that the observation was answered after spent_ns."""
        self._failures = 0
        self._resume_ns = self._monotonic_ns() + SHARE * spent_ns

    def failed(self) -> None:
        """Record that the observation was not answered."""
        pause_ns = min(BACKOFF_NS << min(self._failures, 10), MAX_BACKOFF_NS)
        self._failures += 1
        self._resume_ns = self._monotonic_ns() + pause_ns
