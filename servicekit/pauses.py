"""Detects pauses of this process, such as a suspended machine or a blocked event loop, so that
timeouts and durations leave them out and nothing outside the process is blamed for them.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Coroutine
from typing import Any, Final, TypeVar
from weakref import WeakSet

TICK_NS: Final = 250_000_000
MIN_PAUSE_NS: Final = 250_000_000
"""A tick that is later than this was held up by a pause. A pause of half a second is always
detected, except for TICK_NS of it at most.
"""

CATCH_UP_NS: Final = 500_000_000
"""This long after a pause, the process has read everything that arrived during it."""

MAX_PAUSES: Final = 32
"""How many of the newest pauses are remembered."""

TIMEOUT_SLICES: Final = 10

N = TypeVar("N", int, float)
T = TypeVar("T")


class PauseDetector:
    """Finds pauses by the lateness of its own ticks in the event loop, for as long as it has users.

    Its clock is not the tracker's, which a test may set: it is asked about the time up to now. In
    another loop than the one it ticks in it reports no pause.
    """

    __slots__ = ("_loop", "_monotonic_ns", "_pauses", "_tick_handle", "_ticked_ns", "_users")

    def __init__(self, monotonic_ns: Callable[[], int] = time.monotonic_ns) -> None:
        self._monotonic_ns = monotonic_ns
        self._users: WeakSet[object] = WeakSet()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._tick_handle: asyncio.TimerHandle | None = None
        self._ticked_ns = 0
        self._pauses: deque[tuple[int, int]] = deque(maxlen=MAX_PAUSES)

    @property
    def watching(self) -> bool:
        """Whether it ticks."""
        return self._tick_handle is not None

    def watch(self, user: object) -> None:
        """Tick in the running loop until this user leaves or is garbage."""
        loop = asyncio.get_running_loop()
        if self._loop is not loop:
            if self._loop is not None and self._loop.is_running():
                return
            # A loop that was closed under its users: none of them has left.
            self._end()
            self._loop = loop
            self._ticked_ns = self._monotonic_ns()
            self._tick()
        self._users.add(user)

    def leave(self, user: object) -> None:
        """End the watch for a user; after the last one nothing is left in the loop."""
        if user in self._users:
            self._users.discard(user)
            if not self._users:
                self._end()

    def unpaused_ns(self, spent_ns: int) -> int:
        """Return the last spent_ns without the pauses in them."""
        if spent_ns <= MIN_PAUSE_NS:
            return spent_ns
        now_ns = self._monotonic_ns()
        begun_ns = now_ns - spent_ns
        pauses = self._until(now_ns)
        return spent_ns - sum(end - max(start, begun_ns) for start, end in pauses if end > begun_ns)

    def just_resumed(self, spent_ns: int) -> bool:
        """Whether a pause ended in the last spent_ns, and not more than CATCH_UP_NS ago."""
        if spent_ns <= MIN_PAUSE_NS:
            return False
        now_ns = self._monotonic_ns()
        since_ns = now_ns - min(spent_ns, CATCH_UP_NS)
        return any(end > since_ns for _, end in self._until(now_ns))

    def _until(self, now_ns: int) -> list[tuple[int, int]]:
        """Return the pauses, including one that the next tick will find. None overlaps another."""
        if self._loop is None or self._loop is not _running_loop():
            return []
        return [*self._pauses, *self._late(now_ns)]

    def _late(self, now_ns: int) -> list[tuple[int, int]]:
        due_ns = self._ticked_ns + TICK_NS
        return [(due_ns, now_ns)] if now_ns - due_ns > MIN_PAUSE_NS else []

    def _tick(self) -> None:
        if self._loop is None:
            return
        now_ns = self._monotonic_ns()
        self._pauses.extend(self._late(now_ns))
        self._ticked_ns = now_ns
        self._tick_handle = self._loop.call_later(TICK_NS / 1e9, self._tick_again)

    def _tick_again(self) -> None:
        if self._users:
            self._tick()
        else:
            self._end()

    def _end(self) -> None:
        if self._tick_handle is not None:
            self._tick_handle.cancel()
        self._tick_handle = self._loop = None
        self._users.clear()
        self._pauses.clear()


async def pause_tolerant_timeout(limit_s: float, work: Coroutine[Any, Any, T]) -> T:
    """Return the result of `work`. TimeoutError when it takes too long; `work` has then ended.

    After a pause, all timeouts of a process expire before it has read what arrived meanwhile. Here
    a pause uses up one of TIMEOUT_SLICES, however long it was.
    """
    task = asyncio.ensure_future(work)
    try:
        for _ in range(TIMEOUT_SLICES):
            await asyncio.wait({task}, timeout=limit_s / TIMEOUT_SLICES)
            if task.done():
                return task.result()
        raise TimeoutError
    finally:
        if not task.done():
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        elif not task.cancelled():
            # It may have failed as this was cancelled: asyncio would log an error that nobody saw.
            task.exception()


def pause_between(due: N, now: N) -> N:
    """Return how long a pause held up a periodic check that was due then and runs now."""
    return max(now - due, 0)


def shift_by_pause(moment: N, due: N, now: N) -> N:
    """Move `moment`, which is past, so that the pause from `due` to `now` does not lie after it."""
    return min(due, moment) + now - due if now > due else moment


def _running_loop() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None
