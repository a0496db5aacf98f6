"""Events that arrive one by one, without a stream: each is stored once by its id, which is added in
the transaction that appends it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any, Final

import asyncpg

from metrics_service.eventlog.producer import ProducerKey
from metrics_service.eventlog.row import Row
from metrics_service.storage.sql import QueryGroup
from protos.tracking.v1 import tracking_pb2

_SINGLES: Final = QueryGroup("singles")
_KEY: Final = ProducerKey(tracking_pb2.LANE_TELEMETRY, "")

OVERHEAD_BYTES: Final = 512
"""What a request takes beside its payload."""

MAX_DELETED_IDS: Final = 10_000
"""Ids that one statement deletes."""


@dataclass(frozen=True, slots=True)
class SingleEvent:
    """One event: its id, of 16 bytes, and a serialised EventList of it alone."""

    id: bytes
    service: str
    instance: str
    payload: bytes


@dataclass(slots=True)
class SingleRequest:
    """A caller has sent one event; the answer is whether it is new."""

    event: SingleEvent
    done: asyncio.Future[bool]
    is_new: bool = False

    @property
    def size(self) -> int:
        return len(self.event.payload) + OVERHEAD_BYTES


async def add_ids(
    connection: asyncpg.Connection[Any], requests: Sequence[SingleRequest], day: date
) -> list[Row]:
    """Add the ids that are not known yet, inside the writer's transaction, and note in the requests
    which are new. Returns a row for each, so that one that cannot be folded is left out alone.
    """
    added = await connection.fetch(_SINGLES.add, [each.event.id for each in requests], day)
    new = {row["id"] for row in added}
    rows = []
    for request in requests:
        event = request.event
        request.is_new = event.id in new
        new.discard(event.id)
        if request.is_new:
            origin = (event.instance, event.service)
            rows.append(Row("batch", _KEY, 0, 0, *origin, False, 1, event.payload))
    return rows


async def forget_ids(connection: asyncpg.Connection[Any], first: datetime) -> None:
    """Forget the ids that were added before a day, in small steps."""
    while await connection.fetchval(_SINGLES.forget, first.date(), MAX_DELETED_IDS):
        pass
