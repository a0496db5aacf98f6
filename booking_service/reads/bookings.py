"""Reads bookings: each method is one operation, named as in its timings, and returns what was
committed when it ran.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from typing import Final
from uuid import UUID

from booking_service.domain.booking import MAX_STAY_DAYS, Booking, State
from booking_service.reads.keyset import AFTER_ALL, Key, Page, Position, page, position
from booking_service.storage import rows
from booking_service.storage.database import Database
from booking_service.storage.sql import QueryGroup

_BOOKINGS: Final = QueryGroup("bookings")

_FIRST_DAY: Final = date(1, 1, 1)
_LAST_DAY: Final = date(9999, 12, 31)


@dataclass(frozen=True, slots=True)
class BookingFilter:
    """The bookings to list; None or empty means any. Dates are the days of a stay, [start, end)."""

    user_id: str | None = None
    package_id: UUID | None = None
    start_date: date | None = None
    end_date: date | None = None
    states: frozenset[State] = frozenset()


class BookingQueries:
    """Reads of bookings."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def get(self, booking_id: UUID) -> Booking | None:
        row = await self._database.fetchrow(_BOOKINGS.get, booking_id)
        return rows.booking(row) if row else None

    async def list(self, wanted: BookingFilter, *, after: Key | None, limit: int) -> Page[Booking]:
        """Newest first by (create_time, id); the sort of the key is create_time in microseconds."""
        states = [str(state) for state in wanted.states]
        last_seen = (*position(after, AFTER_ALL), limit + 1)
        start, end = wanted.start_date or _FIRST_DAY, wanted.end_date or _LAST_DAY
        earliest = max(start.toordinal() - MAX_STAY_DAYS + 1, 1)
        dates = (start, end, date.fromordinal(earliest))
        user_id, package_id = wanted.user_id, wanted.package_id
        if user_id is not None and package_id is not None:
            query = _BOOKINGS.get_user_package_bookings
            args: tuple[object, ...] = (states, *dates, *last_seen, user_id, package_id)
        elif user_id is not None:
            query, args = _BOOKINGS.get_user_bookings, (states, *dates, *last_seen, user_id)
        elif package_id is not None:
            query, args = _BOOKINGS.list_by_package, (states, *dates, *last_seen, package_id)
        elif wanted.start_date is not None or wanted.end_date is not None:
            query, args = _BOOKINGS.list_by_dates, (states, *dates, *last_seen)
        else:
            query, args = _BOOKINGS.list_recent, (states, *last_seen)
        found = await self._database.fetch(query, *args)
        return page([rows.booking(row) for row in found], limit, _created)

    async def get_many(self, booking_ids: Sequence[UUID]) -> dict[UUID, Booking]:
        """Return those that exist."""
        found = await self._database.fetch(_BOOKINGS.load, booking_ids)
        return {row["id"]: rows.booking(row) for row in found}


def _created(booking: Booking) -> Position:
    return booking.create_time, booking.id
