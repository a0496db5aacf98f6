"""Tells people of alerts: what alerts do comes in, and each target is told what is news to it."""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict, deque
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Final, Protocol
from uuid import uuid4

import structlog

from metrics_service.alerts.model import AlertEvent
from metrics_service.alerts.targets.groups import TIMING, Groups, Sent, Timing
from metrics_service.alerts.targets.monitor import Monitor
from metrics_service.alerts.targets.notice import NotAcceptedError, Notice, Notification, Target
from metrics_service.alerts.targets.sender import MAX_QUEUED, Sender
from metrics_service.storage.errors import LogUnavailableError
from metrics_service.storage.notifications import SentNotice
from protos.metrics.v1.alert_pb2 import ALERT_SEVERITY_INFO, Alert, AlertTarget
from servicekit.background import BackgroundTask
from servicekit.clock import wall_us

TICK_S: Final = 1.0

MAX_UNSAVED: Final = 1_000
"""Notices that were taken while the ledger could not be written; beyond them the oldest are not
recorded, so that a later process sends them again.
"""

CLEAN_S: Final = 3600.0
STOP_S: Final = 0.5

log = structlog.get_logger()


class Ledger(Protocol):
    """What targets have taken: metrics_service.storage.notifications.NotificationLedger."""

    async def add(self, sent: Sequence[SentNotice]) -> None: ...

    async def list(self, alert_ids: Sequence[str]) -> list[SentNotice]: ...

    async def remove_old(self, now_us: int) -> None: ...

    async def close(self) -> None: ...


class UnknownTargetError(ValueError):
    """There is no target of this name; the text names those that there are."""


def held_by(alert: Alert) -> str:
    """Return what the alert says of itself."""
    return alert.silenced_by or alert.inhibited_by


class Targets:
    """The targets of notifications, each with its queue. Nothing here waits for one but `test`.

    A notice is sent once within a run, as long as its answer arrives, and recorded in the ledger
    afterwards: a process that is killed in between sends it again, with the same id. Only the
    leader offers alerts.
    """

    def __init__(
        self,
        targets: Sequence[Target],
        ledger: Ledger,
        *,
        unset: dict[str, str] | None = None,
        monitor: Monitor | None = None,
        held: Callable[[Alert], str] = held_by,
        told: Callable[[str, Alert], bool] = lambda *_: True,
        timing: Timing = TIMING,
        max_queued: int = MAX_QUEUED,
        monotonic_s: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        now_us: Callable[[], int] = wall_us,
    ) -> None:
        """Unset: the setting that is missing, by the name of each target that is not there."""
        self._ledger = ledger
        self._unset = unset or {}
        self._monitor = monitor
        self._monotonic_s = monotonic_s
        self._now_us = now_us
        self._groups = Groups([target.name for target in targets], held, timing, told)
        self._senders = {
            target.name: Sender(
                target,
                self._took,
                self._settled,
                max_queued=max_queued,
                monotonic_s=monotonic_s,
                sleep=sleep,
            )
            for target in targets
        }
        self._unsaved: deque[SentNotice] = deque(maxlen=MAX_UNSAVED)
        self._unrecorded = False
        self._tested: set[str] = set()
        self._clean_s = monotonic_s() + CLEAN_S
        self._ticking = BackgroundTask("notifications")
        self._recording = BackgroundTask("ledger of notifications")

    def start(self) -> None:
        """Begin to send."""
        for sender in self._senders.values():
            sender.start()
        self._ticking.start(self._tick())
        self._recording.start(self._record())
        if self._monitor is not None:
            self._monitor.start()

    async def stop(self, within_s: float = STOP_S) -> None:
        """Send what is queued and record what was sent, each for at most this time, and end."""
        await self._ticking.stop()
        await self._recording.stop()
        if self._monitor is not None:
            await self._monitor.stop()
        await asyncio.gather(*(sender.stop(within_s) for sender in self._senders.values()))
        try:
            async with asyncio.timeout(within_s):
                await self.record()
        except TimeoutError:
            pass
        await self._ledger.close()

    async def restore(self, alerts: Iterable[Alert]) -> None:
        """Take the alerts of earlier processes: the active ones, and those that were resolved while
        somebody may not have been told. LogUnavailableError.
        """
        known = [_copy(alert) for alert in alerts]
        rows = await self._ledger.list([alert.id for alert in known]) if known else []
        now_s, now_us = self._monotonic_s(), self._now_us()
        sent: dict[str, dict[str, Sent]] = defaultdict(dict)
        for row in rows:
            over = row.change in ("resolved", "found_late")
            sent_s = now_s - max(now_us - row.sent_us, 0) / 1e6
            sent[row.alert_id][row.target] = Sent(row.ordinal + 1, sent_s, over=over)
        for alert in known:
            self._groups.restore(alert, sent[alert.id], now_s)

    def offer(self, events: Iterable[AlertEvent]) -> None:
        """Take changes of alerts; each target is told in time of what is news to it."""
        now_s = self._monotonic_s()
        for event in events:
            self._groups.offer(_copy(event.alert), now_s)

    def evaluated(self) -> None:
        """Note that the rules were judged: without it the monitor raises the alarm."""
        if self._monitor is not None:
            self._monitor.evaluated()

    def clear(self) -> None:
        """Forget all alerts and what waits: another process leads."""
        self._groups.clear()
        for sender in self._senders.values():
            sender.clear()

    def counts(self) -> dict[tuple[str, str], int]:
        """Return how many notifications each target took, by (target, outcome).

        sent; failed: tries that came to nothing; dropped: refused, too many, or not taken in time.
        """
        found = {
            (name, outcome): count
            for name, sender in self._senders.items()
            for outcome, count in sender.counts.items()
        }
        if self._monitor is not None:
            found["sentry_monitor", "sent"] = self._monitor.sent
            found["sentry_monitor", "failed"] = self._monitor.failed
        return found

    def status(self) -> list[AlertTarget]:
        """Return how each target is."""
        return [sender.status() for sender in self._senders.values()]

    @property
    def left_out(self) -> int:
        """Alerts of which somebody was never told, since too many were known at once."""
        return self._groups.left_out

    async def test(self, name: str) -> tuple[bool, str]:
        """Send a test notice at once; return whether the target took it, and what it answered.

        One test of a target runs at a time. Raises UnknownTargetError.
        """
        sender = self._senders.get(name)
        if sender is None:
            if name in self._unset:
                return False, f"{self._unset[name]} is not set"
            names = ", ".join(sorted([*self._senders, *self._unset]))
            raise UnknownTargetError(f"must be one of {names}")
        if name in self._tested:
            return False, "another test is under way"
        self._tested.add(name)
        try:
            return True, await sender.target.send(self._test_notice())
        except NotAcceptedError as error:
            return False, str(error)
        finally:
            self._tested.remove(name)

    def _test_notice(self) -> Notification:
        alert = Alert(
            id=uuid4().hex,
            rule="test",
            severity=ALERT_SEVERITY_INFO,
            summary="a test of notifications; there is nothing to do",
        )
        for time_of in (alert.start_time, alert.fire_time):
            time_of.FromMicroseconds(self._now_us())
        return Notification(alert.rule, (Notice(alert, "test", 0, alert.id),))

    def tick(self) -> None:
        """Queue what is due now."""
        for target, notification in self._groups.due(self._monotonic_s()):
            self._senders[target].offer(notification)

    async def record(self) -> None:
        """Write to the ledger what was sent since; what cannot be written waits."""
        sent = list(self._unsaved)
        try:
            if sent:
                await self._ledger.add(sent)
            if self._monotonic_s() >= self._clean_s:
                self._clean_s = self._monotonic_s() + CLEAN_S
                await self._ledger.remove_old(self._now_us())
        except LogUnavailableError as error:
            if sent and not self._unrecorded:
                log.warning("notifications_unrecorded", error=str(error))
            self._unrecorded = bool(sent)
            return
        self._unrecorded = False
        for each in sent:
            # Further ones may have come, and have left no room for the oldest.
            if self._unsaved and self._unsaved[0] is each:
                self._unsaved.popleft()

    async def _tick(self) -> None:
        while True:
            try:
                self.tick()
            except Exception:
                log.exception("notifications_failed")
            await asyncio.sleep(TICK_S)

    async def _record(self) -> None:
        # Apart from the ticks: a database that hangs holds back no notification.
        while True:
            try:
                await self.record()
            except Exception:
                log.exception("notifications_failed")
            await asyncio.sleep(TICK_S)

    def _took(self, target: str, notice: Notice) -> None:
        self._groups.took(target, notice, self._monotonic_s())
        row = SentNotice(notice.alert.id, target, notice.ordinal, notice.change, self._now_us())
        self._unsaved.append(row)

    def _settled(self, target: str, rule: str) -> None:
        self._groups.settle(target, rule, self._monotonic_s())


def _copy(alert: Alert) -> Alert:
    own = Alert()
    own.CopyFrom(alert)
    return own
