"""Reads payments: each method is one operation, named as in its timings, and returns what was
committed when it ran.
"""

from __future__ import annotations

from typing import Final
from uuid import UUID

from booking_service.domain.booking import Payment
from booking_service.domain.commands import PaymentToClaim
from booking_service.reads.keyset import BEFORE_ALL, Key, Page, Position, page, position
from booking_service.storage import rows
from booking_service.storage.database import Database, query_timeout_s
from booking_service.storage.sql import QueryGroup

_PAYMENTS: Final = QueryGroup("payments")

MAX_DUE_ROWS: Final = 300
"""Rows that one search for due payments reads."""


class PaymentQueries:
    """Reads of payments."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def list(
        self, booking_id: UUID, *, after: Key | None, limit: int
    ) -> Page[Payment] | None:
        """List the payments of a booking, oldest first; None without such a booking."""
        found = await self._database.fetch(
            _PAYMENTS.list_by_booking, booking_id, *position(after, BEFORE_ALL), limit + 1
        )
        if not found:
            known = await self._database.fetchrow(_PAYMENTS.booking_exists, booking_id)
            if known is None or not known["found"]:
                return None
        return page([rows.payment(row) for row in found], limit, _created)

    async def list_failed(self, *, after: Key | None, limit: int) -> Page[Payment]:
        """Failed payments to be tried again, by the time of their next retry."""
        found = await self._database.fetch(
            _PAYMENTS.list_failed, *position(after, BEFORE_ALL), limit + 1
        )
        return page([rows.payment(row) for row in found], limit, _retried)

    async def booking_of(self, payment_row_id: UUID) -> UUID | None:
        """Return the booking of a payment, identified by its row; it never changes."""
        row = await self._database.fetchrow(_PAYMENTS.booking_of, payment_row_id)
        return None if row is None else row["booking_id"]

    async def find_due(self, limit: int) -> tuple[PaymentToClaim, ...]:
        """Return candidates for a claim of `limit` payments, the longest due first.

        They include payments whose booking no longer waits for money, so that claiming ends their
        retries.
        """
        async with self._database.connection() as connection:
            now = await self._database.clock.now(connection)
            found = await connection.fetch(
                _PAYMENTS.find_due, now, MAX_DUE_ROWS, timeout=query_timeout_s()
            )
        due: list[PaymentToClaim] = []
        awaited = 0
        for row in found:
            if awaited == limit:
                break
            awaited += row["awaited"]
            due.append(PaymentToClaim(row["id"], row["booking_id"], row["package_id"]))
        return tuple(due)


def _created(payment: Payment) -> Position:
    return payment.create_time, payment.id


def _retried(payment: Payment) -> Position:
    if payment.next_retry_time is None:
        raise ValueError("a listed payment has no next retry")
    return payment.next_retry_time, payment.id
