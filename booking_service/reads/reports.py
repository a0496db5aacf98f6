"""Reads what became of bookings: the events of one, and the revenue of many; each method is one
operation under the name its timings carry, and answers what was committed when it ran.
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
    """A transition of a booking as it was recorded; `version` numbers those of one booking."""

    version: int
    transition: Transition
    from_state: State | None
    to_state: State
    reason: str
    caller: str
    time: datetime


@dataclass(frozen=True, slots=True)
class Revenue:
    """What bookings brought in one currency, in minor units: captured, and of that paid back."""

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
        """Oldest first; the key's sort is the version. None without such a booking."""
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
        """Of the bookings first confirmed in [start, end), by currency; None is every vendor's."""
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
