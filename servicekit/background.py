"""Runs the loop of a part of a service in a background task that always ends with the part."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any


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
