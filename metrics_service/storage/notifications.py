"""The ledger of notifications: what each target has taken of each alert."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from metrics_service.storage.session import Session
from metrics_service.storage.sql import QueryGroup

RETENTION: Final = timedelta(days=30)

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_NOTIFICATIONS: Final = QueryGroup("notifications")


@dataclass(frozen=True, slots=True)
class SentNotice:
    """A notice that a target has taken, the `ordinal`th of the alert, from 0."""

    alert_id: str
    target: str
    ordinal: int
    change: str
    sent_us: int


class NotificationLedger:
    """The ledger in the metrics database."""

    def __init__(self, dsn: str) -> None:
        self._session = Session(dsn)

    async def add(self, sent: Sequence[SentNotice]) -> None:
        """Add notices; those that are there stay as they are. LogUnavailableError."""
        rows = [
            (
                each.alert_id,
                each.target,
                each.ordinal,
                each.change,
                _EPOCH + timedelta(microseconds=each.sent_us),
            )
            for each in sent
        ]
        columns = [list(column) for column in zip(*rows, strict=True)]
        await self._session.using(
            lambda connection: connection.execute(_NOTIFICATIONS.create, *columns)
        )

    async def list(self, alert_ids: Sequence[str]) -> list[SentNotice]:
        """Return the notices of these alerts, in their order. LogUnavailableError."""
        rows = await self._session.using(
            lambda connection: connection.fetch(_NOTIFICATIONS.list, list(alert_ids))
        )
        return [
            SentNotice(
                row["alert_id"],
                row["target"],
                row["ordinal"],
                row["change"],
                (row["sent_at"] - _EPOCH) // timedelta(microseconds=1),
            )
            for row in rows
        ]

    async def remove_old(self, now_us: int) -> None:
        """Remove those of alerts whose newest is older than RETENTION. LogUnavailableError."""
        before = _EPOCH + timedelta(microseconds=now_us) - RETENTION
        await self._session.using(
            lambda connection: connection.execute(_NOTIFICATIONS.remove, before)
        )

    async def close(self) -> None:
        await self._session.close()
