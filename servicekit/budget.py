"""Counts what a bound on stored data refuses or drops, for health and for people."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

import structlog

from servicekit.handlers import LineLimit

SHOWN_S: Final = 60.0
"""How long health shows that something was refused or dropped."""

LOGGED_EVERY_S: Final = 60.0

log = structlog.get_logger()


class Budget:
    """One bound, and how many things were `refused` by it: "vendors", "refused"."""

    def __init__(
        self, name: str, effect: str, *, monotonic_s: Callable[[], float] = time.monotonic
    ) -> None:
        self.count = 0
        self._name = name
        self._effect = effect
        self._limit = ""
        self._monotonic_s = monotonic_s
        self._last_s: float | None = None
        self._lines = LineLimit(monotonic_s, gap_s=LOGGED_EVERY_S)

    def exceeded(self, number: int, limit: str) -> None:
        """Count things that were beyond the limit, which is a text such as "64 MB"."""
        self.count += number
        self._limit = limit
        self._last_s = self._monotonic_s()
        if self._lines.take() is not None:
            log.error("budget_exceeded", budget=self._name, limit=limit, count=self.count)

    @property
    def line(self) -> str:
        """What was refused or dropped since the start, where that went on within SHOWN_S; else
        empty.
        """
        if self._last_s is None or self._monotonic_s() - self._last_s >= SHOWN_S:
            return ""
        return f"{self._name}: {self.count} {self._effect}, beyond {self._limit}"
