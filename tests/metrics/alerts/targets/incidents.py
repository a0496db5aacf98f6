"""Alerts, a clock that is set, and a ledger in memory."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final

from metrics_service.alerts.model import AlertEvent
from metrics_service.alerts.targets.notice import Notification
from metrics_service.storage.errors import LogUnavailableError
from metrics_service.storage.notifications import SentNotice
from protos.metrics.v1 import alert_pb2
from protos.metrics.v1.alert_pb2 import Alert

BEGIN_US: Final = 1_790_000_000_000_000


class Clock:
    """Seconds that pass only when somebody sleeps, or says so."""

    def __init__(self) -> None:
        self.now_s = 1_000.0
        self.pauses: list[float] = []

    def monotonic_s(self) -> float:
        return self.now_s

    def now_us(self) -> int:
        return BEGIN_US + int(self.now_s * 1e6)

    async def sleep(self, pause_s: float) -> None:
        self.pauses.append(pause_s)
        self.now_s += pause_s
        await asyncio.sleep(0)


def change_of(alert: Alert) -> AlertEvent:
    """The change that leaves an alert as it is; which one it was does not matter."""
    return AlertEvent(alert, "fired", 0)


def firing(
    alert_id: str = "a" * 32,
    rule: str = "high_error_rate",
    at_s: float = 0.0,
    state: alert_pb2.AlertState.ValueType = alert_pb2.ALERT_STATE_FIRING,
    **labels: str,
) -> Alert:
    """An alert that fires, at seconds after BEGIN_US."""
    alert = Alert(
        id=alert_id,
        rule=rule,
        severity=alert_pb2.ALERT_SEVERITY_CRITICAL,
        state=state,
        labels=labels,
        summary="11 errors within 5 min, more than 10",
        value=11,
        threshold=10,
        unit="count",
        action="Look at the reasons.",
    )
    alert.causes.add(kind="error", key="SOLD_OUT", text="9 of 11 are payment/DECLINED")
    alert.start_time.FromMicroseconds(BEGIN_US + int(at_s * 1e6))
    alert.fire_time.CopyFrom(alert.start_time)
    return alert


def resolved(alert: Alert, after_s: float = 60.0) -> Alert:
    over = Alert()
    over.CopyFrom(alert)
    over.state = alert_pb2.ALERT_STATE_RESOLVED
    over.resolve_time.FromMicroseconds(alert.fire_time.ToMicroseconds() + int(after_s * 1e6))
    return over


@dataclass
class Memory:
    """A ledger that lasts as long as the test."""

    rows: list[SentNotice] = field(default_factory=list)
    broken: bool = False

    async def add(self, sent: Sequence[SentNotice]) -> None:
        if self.broken:
            raise LogUnavailableError("the ledger is away")
        known = {(row.alert_id, row.target, row.ordinal) for row in self.rows}
        self.rows += [row for row in sent if (row.alert_id, row.target, row.ordinal) not in known]

    async def list(self, alert_ids: Sequence[str]) -> list[SentNotice]:
        return [row for row in self.rows if row.alert_id in alert_ids]

    async def remove_old(self, now_us: int) -> None:
        """Nothing is old here."""

    async def close(self) -> None:
        """There is no connection."""


@dataclass
class Plain:
    """A target that takes everything, or nothing while `error` is set."""

    name: str = "plain"
    error: Exception | None = None
    taken: list[Notification] = field(default_factory=list)

    def parts(self, notification: Notification) -> list[Notification]:
        return [notification]

    async def send(self, part: Notification) -> str:
        if self.error is not None:
            raise self.error
        self.taken.append(part)
        return "taken"

    def said(self) -> list[tuple[str, ...]]:
        """The changes of each notification."""
        return [tuple(each.change for each in part.notices) for part in self.taken]


@contextmanager
def failing(target: Plain, error: Exception) -> Iterator[None]:
    target.error = error
    yield
    target.error = None
