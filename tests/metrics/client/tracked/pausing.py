"""A tracker in a process that pauses as the test says."""

from __future__ import annotations

import asyncio
from typing import Any

from metrics_service.client.health import HealthWindow
from metrics_service.client.tracked import Tracker
from servicekit.pauses import PauseDetector
from tests.metrics.client.recording import Clock, Recording

TICK_S = 0.01
MS = 1_000_000


class World:
    """A tracker with a clock of the test, which its pauses use too."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.sink = Recording()
        self.window = HealthWindow()
        self.slow: list[Any] = []
        self.tracker = Tracker(
            [self.sink, self.window],
            monotonic_ns=self.clock.monotonic_ns,
            pauses=PauseDetector(self.clock.monotonic_ns),
        )
        self.tracker.slow_ns, self.tracker.on_slow = 500 * MS, self.slow.append

    async def pause(self, s: float) -> None:
        """Pause until the next tick has found it: a timer set now is due after that one."""
        self.clock.s += s
        await asyncio.sleep(TICK_S)

    async def run_on(self, s: float) -> None:
        """Let time pass while the loop runs."""
        for _ in range(round(s / 0.2)):
            self.clock.s += 0.2
            await asyncio.sleep(TICK_S)


def ticks() -> list[asyncio.TimerHandle]:
    """The timers of this loop that detect pauses."""
    loop: Any = asyncio.get_running_loop()
    return [
        each for each in loop._scheduled if not each.cancelled() and "PauseDetector" in repr(each)
    ]
