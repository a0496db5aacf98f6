"""Reads refunds: each method is one operation, named as in its timings, and returns what was
committed when it ran.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Final
from uuid import UUID

from booking_service.domain.booking import Refund, RefundState
from booking_service.domain.commands import RefundToClaim
from booking_service.reads.keyset import AFTER_ALL, BEFORE_ALL, Key, Page, Position, page, position
from booking_service.storage import rows
from booking_service.storage.database import Database, query_timeout_s
from booking_service.storage.sql import QueryGroup

_REFUNDS: Final = QueryGroup("refunds")


@dataclass(frozen=True, slots=True)
class RefundFilter:
    """The refunds to list, requested in [created_from, created_until); None or empty means any."""

    states: frozenset[RefundState] = frozenset()
    booking_id: UUID | None = None
    vendor_id: UUID | None = None
    created_from: datetime | None = None
    created_until: datetime | None = None


class RefundQueries:
    """Reads of refunds."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def get(self, refund_id: UUID) -> Refund | None:
        row = await self._database.fetchrow(_REFUNDS.get, refund_id)
        return None if row is None else rows.refund(row)

    async def list(self, wanted: RefundFilter, *, after: Key | None, limit: int) -> Page[Refund]:
        """List refunds by (create_time, id), oldest first."""
        states = [str(state) for state in sorted(wanted.states or RefundState)]
        times = wanted.created_from or BEFORE_ALL[0], wanted.created_until or AFTER_ALL[0]
        args = (states, *times, *position(after, BEFORE_ALL), limit + 1)
        if wanted.booking_id is not None:
            of = (wanted.booking_id, wanted.vendor_id)
            found = await self._database.fetch(_REFUNDS.list_by_booking, *args, *of)
        elif wanted.vendor_id is not None:
            found = await self._database.fetch(_REFUNDS.list_by_vendor, *args, wanted.vendor_id)
        else:
            found = await self._database.fetch(_REFUNDS.list, *args)
        return page([rows.refund(row) for row in found], limit, _created)

    async def find_due(self, limit: int) -> tuple[RefundToClaim, ...]:
        """Return candidates for a claim of `limit` refunds, the longest due first."""
        async with self._database.connection() as connection:
            now = await self._database.clock.now(connection)
            found = await connection.fetch(_REFUNDS.find_due, now, limit, timeout=query_timeout_s())
        return tuple(
            RefundToClaim(row["id"], row["booking_id"], row["package_id"]) for row in found
        )


def _created(refund: Refund) -> Position:
    return refund.create_time, refund.id
