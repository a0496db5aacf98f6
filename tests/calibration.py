"""How slow the machine is at the moment: seconds of CPU of a test are compared with those of a loop
in the same minute, so that a bound in seconds holds on any machine.
"""

from __future__ import annotations

import time
from typing import Final

LOOP_S: Final = 0.06
"""The CPU of the loop on one core of the machine that the bounds of the tests are from."""

_ROUNDS: Final = 400_000


def slowness() -> float:
    """Return how many times as much CPU this machine needs now; the least of three loops."""
    return min(_loop_s() for _ in range(3)) / LOOP_S


def _loop_s() -> float:
    began_s = time.process_time()
    found: dict[int, int] = {}
    for number in range(_ROUNDS):
        key = number * 2_654_435_761 % 65_536
        found[key] = found.get(key, 0) + 1
    return time.process_time() - began_s
