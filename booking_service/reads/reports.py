"""Reads the events of a booking and the revenue of many: each method is one operation, named as in
its timings, and returns what was committed when it ran.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final
from uuid import UUID

from booking_service.domain.booking import State, Transition
from booking_service.reads.keyset import Key, Page
from booking_service.storage.connection import Record
from booking_service.storage.database import Database
from booking_service.storage.sql import QueryGroup

_BOOKINGS: Final = QueryGroup("bookings")


@dataclass(frozen=True, slots=True)
class RecordedEvent:
    """A recorded transition of a booking; `version` numbers the transitions of one booking."""

    version: int
    transition: Transition
    from_state: State | None
    to_state: State
    reason: str
    caller: str
    time: datetime


@dataclass(frozen=True, slots=True)
class Revenue:
    """The revenue of bookings in one currency, in minor units: captured, and refunded of that."""

    currency: str
    bookings: int
    gross_minor: int
    refunded_minor: int


class ReportQueries:
    """Reads of events and of revenue."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def list_events(
        self, booking_id: UUID, *, after: Key | None, limit: int
    ) -> Page[RecordedEvent] | None:
        """Oldest first; the sort of the key is the version. None without such a booking."""
        last_version = after.sort if after else 0
        found = await self._database.fetch(
            _BOOKINGS.list_events, booking_id, last_version, limit + 1
        )
        if not found and await self._database.fetchrow(_BOOKINGS.get, booking_id) is None:
            return None
        events = [_recorded(row) for row in found[:limit]]
        more = len(found) > limit
        return Page(events, Key(events[-1].version, booking_id) if more else None)

    async def revenue(
        self, vendor_id: UUID | None, start: datetime, end: datetime
    ) -> Sequence[Revenue]:
        """By currency, of the bookings first confirmed in [start, end); None means every vendor."""
        found = await self._database.fetch(_BOOKINGS.revenue, start, end, vendor_id)
        return [
            Revenue(
                row["currency"],
                row["bookings"],
                int(row["gross_minor"]),
                int(row["refunded_minor"]),
            )
            for row in found
        ]


def _recorded(row: Record) -> RecordedEvent:
    from_state = row["from_state"]
    return RecordedEvent(
        version=row["version"],
        transition=Transition(row["transition"]),
        from_state=None if from_state is None else State(from_state),
        to_state=State(row["to_state"]),
        reason=row["reason"],
        caller=row["caller"],
        time=row["event_time"],
    )
