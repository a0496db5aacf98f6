"""Runs the loop of a part of a service in a background task that always ends with the part, and
long work in slices between which others run.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine, Iterable
from typing import Any, Final

SLICE_S: Final = 0.005
"""How long work may hold the event loop."""


class BackgroundTask:
    """One loop beside the RPCs, which catches and logs its own failures."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._task: asyncio.Task[None] | None = None

    def start(self, work: Coroutine[Any, Any, None]) -> None:
        """Run work until it ends or stop is called. RuntimeError if it runs already."""
        if self._task is not None:
            work.close()
            raise RuntimeError(f"{self._name} runs already")
        self._task = asyncio.create_task(work, name=self._name)

    async def stop(self) -> None:
        """Cancel the work and wait for its end, however it ends; does nothing before start."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


class TimeSlice:
    """The time that work may hold the event loop, SLICE_S; it begins with the object."""

    def __init__(self, monotonic_s: Callable[[], float] = time.monotonic) -> None:
        self._monotonic_s = monotonic_s
        self._began_s = monotonic_s()

    @property
    def over(self) -> bool:
        """Whether others are to run now."""
        return self.spent_s >= SLICE_S

    @property
    def spent_s(self) -> float:
        """How long others have waited."""
        return self._monotonic_s() - self._began_s

    async def renew(self, pause_s: float = 0.0) -> None:
        """Let others run, and begin again."""
        await asyncio.sleep(pause_s)
        self._began_s = self._monotonic_s()

    async def run(self, steps: Iterable[None], pause_s: float = 0.0) -> None:
        """Do work step by step, and let others run whenever the time is over."""
        for _ in steps:
            if self.over:
                await self.renew(pause_s)
