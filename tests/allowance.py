"""Time limits that allow for other load on the machine.

`make test` judges no seconds. Tests that do are marked `full` or `timed`, and judge them in the
full tier only.
"""

from __future__ import annotations

import os
import threading
import time
from types import TracebackType

from tests.sizes import SIZE, SLOWNESS

TICK_S = 0.02
LONGEST_TICK_S = 0.25


def allowed_s(quiet_s: float) -> float:
    """The limit `quiet_s` of an idle machine, extended for a slower one and in proportion to the
    processes per core.
    """
    waiting, _, _ = os.getloadavg()
    return quiet_s * SLOWNESS * max(1.0, 2 * waiting / (os.cpu_count() or 1))


def in_time(passed: Stopwatch, quiet_s: float) -> bool:
    """Whether no more has passed than is allowed; always true in `make test`."""
    return SIZE == "small" or passed.s < allowed_s(quiet_s)


class Stopwatch:
    """Counts seconds from its start, without those in which the whole machine was paused."""

    def __init__(self) -> None:
        self._passed_s = 0.0
        self._end = threading.Event()
        self._ticker = threading.Thread(target=self._tick, name="stopwatch")

    @property
    def s(self) -> float:
        """Seconds passed so far, to about TICK_S."""
        return self._passed_s

    def __enter__(self) -> Stopwatch:
        self._ticker.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._end.set()
        self._ticker.join()

    def _tick(self) -> None:
        begin_s = time.monotonic()
        over = False
        while not over:
            over = self._end.wait(TICK_S)
            now_s = time.monotonic()
            self._passed_s += min(LONGEST_TICK_S, now_s - begin_s)
            begin_s = now_s
