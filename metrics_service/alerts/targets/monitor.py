"""The dead man's switch: while rules are judged Sentry is told so each minute, and it raises the
alarm when it is not.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Final, Protocol
from uuid import uuid4

import structlog

from metrics_service.alerts.targets.notice import NotAcceptedError
from servicekit.background import BackgroundTask
from servicekit.handlers import LineLimit

INTERVAL_S: Final = 60.0
LOOK_S: Final = 1.0
LINE_GAP_S: Final = 600.0

log = structlog.get_logger()


class CheckIns(Protocol):
    """Takes check-ins: metrics_service.alerts.targets.sentry.Sentry."""

    async def check_in(self, monitor: str, check_in_id: str) -> str: ...


class Monitor:
    """Checks in with one monitor. A check-in that fails is not repeated: the next one follows."""

    def __init__(
        self,
        sentry: CheckIns,
        slug: str,
        *,
        monotonic_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self.sent = 0
        self.failed = 0
        self._sentry = sentry
        self._slug = slug
        self._monotonic_s = monotonic_s
        self._evaluated_s: float | None = None
        self._next_s = monotonic_s()
        self._lines = LineLimit(monotonic_s, gap_s=LINE_GAP_S)
        self._task = BackgroundTask("check-ins")

    def start(self) -> None:
        self._task.start(self._run())

    async def stop(self) -> None:
        await self._task.stop()

    def evaluated(self) -> None:
        """Note that the rules were judged."""
        self._evaluated_s = self._monotonic_s()

    async def look(self) -> None:
        """Check in if it is time to, and the rules were judged within the last minute."""
        now_s = self._monotonic_s()
        if self._evaluated_s is None or now_s - self._evaluated_s >= INTERVAL_S:
            return
        if now_s < self._next_s:
            return
        self._next_s = now_s + INTERVAL_S
        try:
            await self._sentry.check_in(self._slug, uuid4().hex)
        except NotAcceptedError as error:
            self.failed += 1
            suppressed = self._lines.take()
            if suppressed is not None:
                log.warning("check_in_failed", error=str(error), suppressed=suppressed)
        else:
            self.sent += 1

    async def _run(self) -> None:
        while True:
            try:
                await self.look()
            except Exception:
                log.exception("check_in_broken")
            await asyncio.sleep(LOOK_S)
