"""Gives the changes of alerts their numbers and stores them; while the database is lost they wait,
a bounded number of them.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final

import structlog

from metrics_service.alerts.feed import AlertFeed
from metrics_service.alerts.model import AlertEvent as AlertChange
from metrics_service.storage.alerts import AlertStore
from metrics_service.storage.errors import LogUnavailableError, line_of
from protos.metrics.v1.alert_pb2 import Alert, AlertEvent
from servicekit.background import BackgroundTask
from servicekit.handlers import LineLimit

MAX_WAITING: Final = 1_000
"""Changes that are not stored yet; beyond it a change is left out of the record, and the alert is
stored as it is in the end.
"""

SAVE_S: Final = 30.0
"""Without a change the alerts are stored after this time, as they are then."""

RETRY_S: Final = 1.0
LINE_GAP_S: Final = 60.0

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Present:
    """The alerts that are not over, and the engine's state, at a time of the log."""

    alerts: list[Alert]
    machine: bytes
    time_us: int


class Recorder:
    """Stores what was recorded, in its order, in a task of its own. `present` gives the alerts as
    they are after all that was recorded.
    """

    def __init__(
        self,
        store: AlertStore,
        feed: AlertFeed,
        present: Callable[[], Present],
        *,
        save_s: float = SAVE_S,
        monotonic_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self.left_out = 0
        self._store = store
        self._feed = feed
        self._present = present
        self._save_s = save_s
        self._next_number = 1
        self._waiting: deque[tuple[AlertEvent, Alert]] = deque()
        self._wake = asyncio.Event()
        self._task = BackgroundTask("alert recorder")
        self._failed_lines = LineLimit(monotonic_s, gap_s=LINE_GAP_S)
        self._full_lines = LineLimit(monotonic_s, gap_s=LINE_GAP_S)

    def start(self, next_number: int) -> None:
        """Store from now on, from this number on."""
        self._next_number = next_number
        self._task.start(self._run())

    async def stop(self, within_s: float) -> None:
        """End, and store what waits within this time."""
        await self._task.stop()
        if self._waiting:
            with contextlib.suppress(TimeoutError, LogUnavailableError):
                async with asyncio.timeout(within_s):
                    await self.save()

    @property
    def waiting(self) -> int:
        """Changes that are not stored yet."""
        return len(self._waiting)

    def record(self, changes: Iterable[AlertChange]) -> None:
        """Have changes stored, soon."""
        for change in changes:
            if len(self._waiting) >= MAX_WAITING:
                self._leave_out()
                continue
            alert = change.alert
            event = AlertEvent(
                number=self._next_number,
                alert_id=alert.id,
                rule=alert.rule,
                state=alert.state,
                summary=alert.summary,
                change=change.change,
            )
            event.time.FromMicroseconds(change.time_us)
            self._next_number += 1
            self._waiting.append((event, alert))
            self._wake.set()

    def history(self, alert_id: str) -> list[AlertEvent]:
        """Return the changes of an alert that are not stored yet."""
        return [event for event, _ in self._waiting if event.alert_id == alert_id]

    async def save(self) -> None:
        """Store what waits and the alerts as they are now. Raises LogUnavailableError."""
        batch = list(self._waiting)
        present = self._present()
        alerts = {alert.id: alert for _, alert in batch}
        alerts |= {alert.id: alert for alert in present.alerts}
        events = [event for event, _ in batch]
        await self._store.save(
            events,
            list(alerts.values()),
            present.machine,
            next_number=events[-1].number + 1 if events else self._next_number,
            time_us=present.time_us,
        )
        for _ in batch:
            self._waiting.popleft()
        self._feed.add(events)
        self._feed.as_of_us = max(self._feed.as_of_us, present.time_us)

    async def _run(self) -> None:
        while True:
            try:
                await self.save()
            except Exception as trouble:
                self._report(trouble)
                await asyncio.sleep(RETRY_S)
                continue
            if not self._waiting:
                self._wake.clear()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(self._save_s):
                        await self._wake.wait()

    def _report(self, trouble: Exception) -> None:
        suppressed = self._failed_lines.take()
        if suppressed is None:
            return
        how = {"waiting": len(self._waiting), "suppressed": suppressed}
        if isinstance(trouble, LogUnavailableError):
            log.warning("alerts_not_stored", reason=line_of(trouble), **how)
        else:
            log.error("alert_recorder_failed", exc_info=trouble, **how)

    def _leave_out(self) -> None:
        self.left_out += 1
        suppressed = self._full_lines.take()
        if suppressed is not None:
            log.error("alert_changes_left_out", left_out=self.left_out, limit=MAX_WAITING)
