"""Hands notifications to one target, one at a time, from a bounded queue; tries again with growing
pauses, and gives up in time for the next notification of the group.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter, deque
from collections.abc import Awaitable, Callable
from typing import Final

import structlog

from metrics_service.alerts.targets.notice import NotAcceptedError, Notice, Notification, Target
from protos.metrics.v1.alert_pb2 import AlertTarget
from servicekit.background import BackgroundTask
from servicekit.clock import wall_us
from servicekit.handlers import LineLimit

MAX_QUEUED: Final = 250
"""Notifications that wait for a target: one for each of the alerts that may be active at once."""

MAX_TRY_S: Final = 240.0
"""A notification is dropped after this time; the next one of its group says how things are then."""

FIRST_PAUSE_S: Final = 1.0
MAX_PAUSE_S: Final = 60.0

MAX_RETRY_AFTER_S: Final = 3600.0
"""A target that asks for a longer pause gets this one."""

LINE_GAP_S: Final = 60.0

log = structlog.get_logger()


class Sender:
    """The queue of one target. `took` is called for each notice that it has taken, and `settled`
    with the rule of each notification that it has taken or that was dropped.
    """

    def __init__(
        self,
        target: Target,
        took: Callable[[str, Notice], None],
        settled: Callable[[str, str], None],
        *,
        max_queued: int = MAX_QUEUED,
        monotonic_s: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self.target: Final = target
        self.counts: Final = Counter({"sent": 0, "failed": 0, "dropped": 0})
        self._took = took
        self._settled = settled
        self._max_queued = max_queued
        self._monotonic_s = monotonic_s
        self._sleep = sleep
        self._queue: deque[tuple[Notification, float]] = deque()
        self._filled = asyncio.Event()
        self._sending = False
        self._idle = asyncio.Event()
        self._idle.set()
        self._not_before_s = monotonic_s()
        self._failures = 0
        self._last_error, self._last_error_us = "", 0
        self._failed_lines = LineLimit(monotonic_s, gap_s=LINE_GAP_S)
        self._dropped_lines = LineLimit(monotonic_s, gap_s=LINE_GAP_S)
        self._task = BackgroundTask(f"notifications to {target.name}")

    def start(self) -> None:
        self._task.start(self._run())

    async def stop(self, within_s: float) -> None:
        """Go on for at most this time while something waits, and end."""
        try:
            async with asyncio.timeout(within_s):
                await self._idle.wait()
        except TimeoutError:
            pass
        await self._task.stop()

    def clear(self) -> None:
        """Forget what waits."""
        self._queue.clear()

    def offer(self, notification: Notification) -> None:
        """Queue a notification, or drop it if too many wait."""
        if len(self._queue) >= self._max_queued:
            self._drop(len(self.target.parts(notification)), "too many wait")
            self._settled(self.target.name, notification.rule)
            return
        self._queue.append((notification, self._monotonic_s() + MAX_TRY_S))
        self._idle.clear()
        self._filled.set()

    def status(self) -> AlertTarget:
        """Return what has become of the notifications since the start."""
        status = AlertTarget(
            name=self.target.name,
            sent=self.counts["sent"],
            failed=self.counts["failed"],
            dropped=self.counts["dropped"],
            waiting=len(self._queue) + self._sending,
            last_error=self._last_error,
        )
        if self._last_error:
            status.last_error_time.FromMicroseconds(self._last_error_us)
        return status

    async def _run(self) -> None:
        while True:
            while self._queue:
                notification, until_s = self._queue.popleft()
                self._sending = True
                for part in self.target.parts(notification):
                    if not await self._deliver(part, until_s):
                        self._drop(1, self._last_error)
                self._sending = False
                self._settled(self.target.name, notification.rule)
            self._idle.set()
            self._filled.clear()
            await self._filled.wait()

    async def _deliver(self, part: Notification, until_s: float) -> bool:
        """Try until the target takes it; False if it refuses, or cannot be asked in time."""
        while True:
            pause_s = self._not_before_s - self._monotonic_s()
            if self._monotonic_s() + max(pause_s, 0.0) > until_s:
                return False
            if pause_s > 0:
                await self._sleep(pause_s)
                continue
            try:
                await self.target.send(part)
            except Exception as error:
                if not isinstance(error, NotAcceptedError):
                    log.exception("notification_broken", target=self.target.name)
                    kind = type(error).__name__
                    error = NotAcceptedError(f"cannot be made: {kind}", again=False)
                self._fail(error)
                if not error.again:
                    return False
                continue
            self._failures = 0
            self.counts["sent"] += 1
            for notice in part.news:
                self._took(self.target.name, notice)
            return True

    def _fail(self, error: NotAcceptedError) -> None:
        self.counts["failed"] += 1
        self._failures += 1
        self._last_error, self._last_error_us = str(error), wall_us()
        pause_s = min(FIRST_PAUSE_S * 2.0 ** min(self._failures - 1, 16), MAX_PAUSE_S)
        # Half of it is left to chance, so that services that failed together come apart.
        pause_s *= random.uniform(0.5, 1.0)  # noqa: S311 - jitter
        asked_s = min(error.after_s, MAX_RETRY_AFTER_S)
        self._not_before_s = self._monotonic_s() + max(pause_s, asked_s)
        suppressed = self._failed_lines.take()
        if suppressed is not None:
            log.warning(
                "notification_failed",
                target=self.target.name,
                error=str(error),
                suppressed=suppressed,
            )

    def _drop(self, count: int, why: str) -> None:
        self.counts["dropped"] += count
        suppressed = self._dropped_lines.take()
        if suppressed is not None:
            log.error(
                "notification_dropped",
                target=self.target.name,
                why=why,
                dropped=self.counts["dropped"],
                suppressed=suppressed,
            )
