"""The wall clock that events are dated by; durations come from monotonic clocks."""

from __future__ import annotations

import time


def wall_us() -> int:
    """Return UTC microseconds since the epoch, by this machine's clock."""
    return time.time_ns() // 1000
