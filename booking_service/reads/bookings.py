"""Reads bookings: each method is one operation, named as in its timings, and returns what was
committed when it ran.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Final
from uuid import UUID

from booking_service.domain.booking import MAX_STAY_DAYS, Booking, State
from booking_service.reads.keyset import AFTER_ALL, BEFORE_ALL, Key, Page, Position, page, position
from booking_service.storage import rows
from booking_service.storage.database import Database
from booking_service.storage.sql import QueryGroup
from metrics_service.client import NamedQuery

_BOOKINGS: Final = QueryGroup("bookings")

_FIRST_DAY: Final = date(1, 1, 1)
_LAST_DAY: Final = date(9999, 12, 31)
_LEAST: Final = UUID(int=0)


@dataclass(frozen=True, slots=True)
class BookingFilter:
    """The bookings to list; None or empty means any. Dates are the days of a stay, [start, end);
    `payment` is a provider with its id of the payment; the time of creation is in
    [created_from, created_until).
    """

    user_id: str | None = None
    package_id: UUID | None = None
    start_date: date | None = None
    end_date: date | None = None
    states: frozenset[State] = frozenset()
    vendor_id: UUID | None = None
    payment: tuple[str, str] | None = None
    created_from: datetime | None = None
    created_until: datetime | None = None


class BookingQueries:
    """Reads of bookings."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def get(self, booking_id: UUID) -> Booking | None:
        row = await self._database.fetchrow(_BOOKINGS.get, booking_id)
        return rows.booking(row) if row else None

    async def list(self, wanted: BookingFilter, *, after: Key | None, limit: int) -> Page[Booking]:
        """Newest first by (create_time, id); the sort of the key is create_time in microseconds."""
        query, args = _statement(wanted, after, limit)
        found = await self._database.fetch(query, *args)
        return page([rows.booking(row) for row in found], limit, _created)

    async def get_many(self, booking_ids: Sequence[UUID]) -> dict[UUID, Booking]:
        """Return those that exist."""
        found = await self._database.fetch(_BOOKINGS.load, booking_ids)
        return {row["id"]: rows.booking(row) for row in found}


def _statement(
    wanted: BookingFilter, after: Key | None, limit: int
) -> tuple[NamedQuery, tuple[object, ...]]:
    """Return the statement whose index finds the fewest candidates, and its arguments."""
    states = [str(state) for state in wanted.states]
    until = wanted.created_until
    last_seen = *position(after, AFTER_ALL if until is None else (until, _LEAST)), limit + 1
    earliest_time = wanted.created_from or BEFORE_ALL[0]
    start, end = wanted.start_date or _FIRST_DAY, wanted.end_date or _LAST_DAY
    earliest = date.fromordinal(max(start.toordinal() - MAX_STAY_DAYS + 1, 1))
    common = (states, start, end, earliest, *last_seen, earliest_time, wanted.vendor_id)
    user_id, package_id = wanted.user_id, wanted.package_id
    if wanted.payment is not None:
        return _BOOKINGS.list_by_payment, (*common, *wanted.payment, user_id, package_id)
    if user_id is not None and package_id is not None:
        return _BOOKINGS.get_user_package_bookings, (*common, user_id, package_id)
    if user_id is not None:
        return _BOOKINGS.get_user_bookings, (*common, user_id)
    if package_id is not None:
        return _BOOKINGS.list_by_package, (*common, package_id)
    if wanted.vendor_id is not None:
        return _BOOKINGS.list_by_vendor, common
    if wanted.start_date is not None or wanted.end_date is not None:
        return _BOOKINGS.list_by_dates, common
    return _BOOKINGS.list_recent, (states, *last_seen, earliest_time)


def _created(booking: Booking) -> Position:
    return booking.create_time, booking.id
