"""Bounds what one identity may ask for: how many RPCs at a time, and how many new ones a second."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

from servicekit.caller import Identity
from servicekit.errors import RATE_LIMITED
from servicekit.identity.access import AccessRefused

BURST_S: Final = 1.0
"""Calls that were not made within this time may be made at once."""

BUSY_RETRY_S: Final = 0.1
"""When to try again where too many calls run: then others have ended."""


class Limits:
    """The calls of each identity that is limited, by its name."""

    def __init__(self, now_s: Callable[[], float] = time.monotonic) -> None:
        self._now_s = now_s
        self._running: dict[str, int] = {}
        # By the generic cell rate algorithm: when the calls so far would have arrived, one by one.
        self._due_s: dict[str, float] = {}

    def enter(self, identity: Identity) -> AccessRefused | None:
        """Count a new call, or return why it is refused, with the time after which to try again."""
        running = self._running.get(identity.name, 0)
        if identity.max_concurrent is not None and running >= identity.max_concurrent:
            return _refused(identity, f"{identity.max_concurrent} calls at a time", BUSY_RETRY_S)
        if identity.max_per_second is not None:
            now_s = self._now_s()
            due_s = max(now_s, self._due_s.get(identity.name, 0.0)) + 1 / identity.max_per_second
            # One call is always taken, also where less than one a second is allowed.
            burst_s = max(BURST_S, 1 / identity.max_per_second)
            if due_s - now_s > burst_s:
                wait_s = due_s - now_s - burst_s
                return _refused(identity, f"{identity.max_per_second:g} calls a second", wait_s)
            self._due_s[identity.name] = due_s
        self._running[identity.name] = running + 1
        return None

    def leave(self, identity: Identity) -> None:
        """Note the end of a call that `enter` has counted."""
        running = self._running[identity.name] - 1
        if running:
            self._running[identity.name] = running
        else:
            del self._running[identity.name]


def _refused(identity: Identity, limit: str, retry_after_s: float) -> AccessRefused:
    return AccessRefused(
        RATE_LIMITED,
        f"{identity.name} may make {limit}",
        metadata={"identity": identity.name},
        retry_after_s=retry_after_s,
    )
