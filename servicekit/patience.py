"""Time limits that a stop of this process does not use up."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, Final, TypeVar

LOOKS: Final = 10

T = TypeVar("T")


async def within(limit_s: float, work: Coroutine[Any, Any, T]) -> T:
    """The result of `work`; TimeoutError, and `work` is cancelled, when it takes too long.

    After a stop of the process or the machine all its time-outs are over before it has seen what
    has come in meanwhile. Here a stop takes one of LOOKS turns, however long it was.
    """
    task = asyncio.ensure_future(work)
    try:
        for _ in range(LOOKS):
            await asyncio.wait({task}, timeout=limit_s / LOOKS)
            if task.done():
                return task.result()
        raise TimeoutError
    finally:
        if not task.done():
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
