"""Stores alerts, each change of them, and the state of the engine that made them, in one
transaction: only the writer of the event log does so.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final, NamedTuple, TypeAlias, TypeVar
from uuid import UUID

import asyncpg
from google.protobuf.timestamp_pb2 import Timestamp

from metrics_service.storage.errors import LogUnavailableError
from metrics_service.storage.session import Session
from metrics_service.storage.sql import QueryGroup
from protos.metrics.v1 import alert_pb2
from protos.metrics.v1.alert_pb2 import Alert, AlertEvent

KEPT_DAYS: Final = 400
MAX_KEPT_ALERTS: Final = 100_000
MAX_KEPT_EVENTS: Final = 500_000
"""What is kept of alerts that are over, and of changes."""

MAX_FORGOTTEN: Final = 10_000
"""At a time."""

MAX_HISTORY: Final = 200
"""Changes of one alert that are read."""

OVER: Final = frozenset({alert_pb2.ALERT_STATE_RESOLVED, alert_pb2.ALERT_STATE_INACTIVE})
"""The states of alerts that do not change any more."""

EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
LEAD_TIMEOUT_MS: Final = 5_000
"""A transaction that this process has left idle for so long is ended, as by a frozen process: it
locks the head of the alerts.
"""

_ALERTS: Final = QueryGroup("alerts")
_ALERT_EVENTS: Final = QueryGroup("alert_events")

Connection: TypeAlias = "asyncpg.Connection[Any]"
T = TypeVar("T")


class Place(NamedTuple):
    """Where an alert that is over stands in the list: when it was resolved, and its id."""

    resolve_us: int
    id: str


@dataclass(frozen=True, slots=True)
class Stored:
    """What a new writer goes on from: the engine's state and its time in microseconds, the alerts
    that are not over, the newest events oldest first, and the number of the next one.
    """

    machine: bytes
    saved_us: int
    alerts: list[Alert]
    events: list[AlertEvent]
    next_number: int


class AlertStore:
    """Alerts in the metrics database. writer_epoch is that of the event log's writer while this
    process leads.

    Everything raises LogUnavailableError when the database is lost, and what writes also when this
    process is not the writer of the log, or another one has been since.
    """

    def __init__(self, dsn: str, writer_epoch: Callable[[], int]) -> None:
        self._writer_epoch = writer_epoch
        # Those with which this process has taken the alerts over, or may have.
        self._epochs: list[int] = []
        timeout = f"{LEAD_TIMEOUT_MS}"
        self._writes = Session(dsn, idle_in_transaction_session_timeout=timeout)
        # So that what is asked from outside never holds up what is written.
        self._reads = Session(dsn)

    async def take(self, most_events: int) -> Stored:
        """Take the alerts over from the writer before, and read what goes on."""

        async def read(connection: Connection) -> Stored:
            async with connection.transaction():
                epoch = self._writer_epoch()
                head = await connection.fetchrow(_ALERTS.take, epoch)
                if head is None:
                    raise LogUnavailableError("another process writes the alerts")
                bodies = await connection.fetch(_ALERTS.list_open)
                events = await connection.fetch(_ALERT_EVENTS.list_newest, most_events)
            self._epochs = [epoch]
            return Stored(
                head["machine"],
                _microseconds(head["saved_at"]),
                [Alert.FromString(row["body"]) for row in bodies],
                [event_of(row) for row in reversed(events)],
                head["next_number"],
            )

        return await self._writes.using(read)

    @contextlib.asynccontextmanager
    async def _leading(self, connection: Connection) -> AsyncIterator[None]:
        """Run a transaction in which this process is the writer."""
        epoch = self._writer_epoch()
        if epoch not in self._epochs:
            # The log was lost and taken again.
            self._epochs.append(epoch)
        async with connection.transaction():
            if await connection.fetchval(_ALERTS.lead, epoch, self._epochs) is None:
                raise LogUnavailableError("another process is the writer, or has been")
            yield
        self._epochs = [epoch]

    async def writing(self, write: Callable[[Connection], Coroutine[Any, Any, T]]) -> T:
        """Run `write` in a transaction of the writer."""

        async def run(connection: Connection) -> T:
            async with self._leading(connection):
                return await write(connection)

        return await self._writes.using(run)

    async def reading(self, read: Callable[[Connection], Coroutine[Any, Any, T]]) -> T:
        """Run `read`, which changes nothing."""
        return await self._reads.using(read)

    async def save(
        self,
        events: Sequence[AlertEvent],
        alerts: Sequence[Alert],
        machine: bytes,
        *,
        next_number: int,
        time_us: int,
    ) -> None:
        """Store the events, the alerts as they are now, and the engine's state after them. Events
        that are stored already, since the answer to a commit was lost, have no effect.
        """
        stamp = instant(time_us)

        async def write(connection: Connection) -> None:
            if events:
                await connection.execute(_ALERT_EVENTS.add, *_event_columns(events))
            if alerts:
                *columns, bodies = _alert_columns(alerts, stamp)
                await connection.execute(_ALERTS.put, *columns, stamp, bodies)
            await connection.execute(_ALERTS.advance, next_number, machine, stamp)

        await self.writing(write)

    async def saved_us(self) -> int:
        """Return the time of the log of what is stored."""
        return _microseconds(await self.reading(lambda each: each.fetchval(_ALERTS.saved_at)))

    async def list_open(self) -> list[Alert]:
        """Return the alerts that are not over, in no order."""
        rows = await self.reading(lambda each: each.fetch(_ALERTS.list_open))
        return [Alert.FromString(row["body"]) for row in rows]

    async def list_resolved(self, after: Place, limit: int) -> list[Alert]:
        """Return the alerts that have fired and are over, newest first, after a place."""
        arguments = (instant(after.resolve_us), UUID(after.id), limit)
        rows = await self.reading(lambda each: each.fetch(_ALERTS.list_resolved, *arguments))
        return [Alert.FromString(row["body"]) for row in rows]

    async def get(self, alert_id: str) -> Alert | None:
        """Return an alert without its history; None if there is none."""
        body = await self.reading(lambda each: each.fetchval(_ALERTS.get, UUID(alert_id)))
        return None if body is None else Alert.FromString(body)

    async def history(self, alert_id: str) -> list[AlertEvent]:
        """Return the newest MAX_HISTORY changes of an alert, oldest first."""
        rows = await self.reading(
            lambda each: each.fetch(_ALERT_EVENTS.list_of, UUID(alert_id), MAX_HISTORY)
        )
        return [event_of(row) for row in reversed(rows)]

    async def forget(self, now_us: int) -> bool:
        """Delete what is beyond its retention, MAX_FORGOTTEN rows of each at most; returns whether
        there is more.
        """
        first = instant(now_us) - timedelta(days=KEPT_DAYS)

        async def write(connection: Connection) -> bool:
            gone = await connection.execute(_ALERTS.forget, first, MAX_KEPT_ALERTS, MAX_FORGOTTEN)
            limits = (first, MAX_KEPT_EVENTS, MAX_FORGOTTEN)
            number = await connection.fetchval(_ALERT_EVENTS.give_up, *limits)
            also = await connection.execute(_ALERT_EVENTS.forget, number)
            return MAX_FORGOTTEN in (_count(gone), _count(also))

        return await self.writing(write)

    async def close(self) -> None:
        """Close the connections."""
        await self._writes.close()
        await self._reads.close()


def instant(time_us: int) -> datetime:
    """Convert microseconds since the epoch."""
    return EPOCH + timedelta(microseconds=time_us)


def event_of(row: asyncpg.Record) -> AlertEvent:
    """Return a row of alert_event as a message."""
    event = AlertEvent(
        number=row["number"],
        alert_id=row["alert_id"].hex,
        rule=row["rule"],
        change=row["change"],
        state=alert_pb2.AlertState.Value(f"ALERT_STATE_{row['state']}"),
        summary=row["summary"],
    )
    event.time.FromDatetime(row["event_time"])
    return event


def _event_columns(events: Sequence[AlertEvent]) -> list[list[Any]]:
    rows = [
        (
            each.number,
            UUID(each.alert_id),
            each.rule,
            each.change,
            _name(alert_pb2.AlertState.Name(each.state)),
            each.time.ToDatetime(UTC),
            _storable(each.summary),
        )
        for each in events
    ]
    return [list(column) for column in zip(*rows, strict=True)]


def _alert_columns(alerts: Sequence[Alert], stamp: datetime) -> list[list[Any]]:
    rows = [
        (
            UUID(each.id),
            each.rule,
            _name(alert_pb2.AlertSeverity.Name(each.severity)),
            _name(alert_pb2.AlertState.Name(each.state)),
            json.dumps({name: _storable(text) for name, text in sorted(each.labels.items())}),
            _storable(each.summary),
            each.start_time.ToDatetime(UTC),
            _time(each, "fire_time"),
            _time(each, "resolve_time") or (stamp if each.state in OVER else None),
            each.SerializeToString(),
        )
        for each in alerts
    ]
    return [list(column) for column in zip(*rows, strict=True)]


def _time(alert: Alert, field: str) -> datetime | None:
    value: Timestamp = getattr(alert, field)
    return value.ToDatetime(UTC) if alert.HasField(field) else None  # type: ignore[arg-type]


def _name(constant: str) -> str:
    return constant.removeprefix("ALERT_STATE_").removeprefix("ALERT_SEVERITY_")


def _storable(text: str) -> str:
    """Return a text that PostgreSQL takes."""
    return text.replace("\0", "\ufffd")


def _microseconds(time: datetime) -> int:
    return (time - EPOCH) // timedelta(microseconds=1)


def _count(status: str) -> int:
    return int(status.rpartition(" ")[2])
