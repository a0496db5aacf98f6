"""When this process stood still (the machine paused, it was stopped, its loop was blocked), told by
the lateness of its own event loop: the database is not to blame for that time.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable
from typing import Final
from weakref import WeakSet

TICK_NS: Final = 250_000_000
LATE_NS: Final = 250_000_000
"""A tick that is later than this was held up by a stop: one of half a second is always noticed, and
at most TICK_NS of it are not.
"""

LISTENED_NS: Final = 500_000_000
"""Who has been awake for this long has read whatever came while it stood still."""

STOPS_MAX: Final = 32
"""So many of the newest are remembered."""


class Stops:
    """Ticks in the loop of its users, for as long as there are any, and keeps the newest stops.

    Its clock is not the tracker's, which a test may set: it is asked about the time up to now. In
    another loop than the one it ticks in it knows of no stop.
    """

    __slots__ = ("_loop", "_monotonic_ns", "_stops", "_tick_handle", "_ticked_ns", "_users")

    def __init__(self, monotonic_ns: Callable[[], int] = time.monotonic_ns) -> None:
        self._monotonic_ns = monotonic_ns
        self._users: WeakSet[object] = WeakSet()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._tick_handle: asyncio.TimerHandle | None = None
        self._ticked_ns = 0
        self._stops: deque[tuple[int, int]] = deque(maxlen=STOPS_MAX)

    @property
    def watching(self) -> bool:
        """Whether it ticks."""
        return self._tick_handle is not None

    def watch(self, user: object) -> None:
        """Tick in the running loop until this user leaves, or nobody has it any more."""
        loop = asyncio.get_running_loop()
        if self._loop is not loop:
            if self._loop is not None and self._loop.is_running():
                return
            # Nobody has left a loop that was closed under its users.
            self._end()
            self._loop = loop
            self._ticked_ns = self._monotonic_ns()
            self._tick()
        self._users.add(user)

    def leave(self, user: object) -> None:
        """Stop for a user; after the last one nothing is left in the loop."""
        if user in self._users:
            self._users.discard(user)
            if not self._users:
                self._end()

    def awake_ns(self, spent_ns: int) -> int:
        """How much of the last spent_ns this process did not stand still."""
        if spent_ns <= LATE_NS:
            return spent_ns
        now_ns = self._monotonic_ns()
        begun_ns = now_ns - spent_ns
        stops = self._until(now_ns)
        return spent_ns - sum(end - max(start, begun_ns) for start, end in stops if end > begun_ns)

    def just_woke(self, spent_ns: int) -> bool:
        """Whether it stood still in the last spent_ns and has not been awake for long since."""
        if spent_ns <= LATE_NS:
            return False
        now_ns = self._monotonic_ns()
        since_ns = now_ns - min(spent_ns, LISTENED_NS)
        return any(end > since_ns for _, end in self._until(now_ns))

    def _until(self, now_ns: int) -> list[tuple[int, int]]:
        """The stops, with the one that the next tick will find. None overlaps another."""
        if self._loop is None or self._loop is not _running_loop():
            return []
        return [*self._stops, *self._late(now_ns)]

    def _late(self, now_ns: int) -> list[tuple[int, int]]:
        due_ns = self._ticked_ns + TICK_NS
        return [(due_ns, now_ns)] if now_ns - due_ns > LATE_NS else []

    def _tick(self) -> None:
        if self._loop is None:
            return
        now_ns = self._monotonic_ns()
        self._stops.extend(self._late(now_ns))
        self._ticked_ns = now_ns
        self._tick_handle = self._loop.call_later(TICK_NS / 1e9, self._again)

    def _again(self) -> None:
        if self._users:
            self._tick()
        else:
            self._end()

    def _end(self) -> None:
        if self._tick_handle is not None:
            self._tick_handle.cancel()
        self._tick_handle = self._loop = None
        self._users.clear()
        self._stops.clear()


def _running_loop() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None
