"""Keeps payment events of bookings that do not exist yet, and applies them once they do.

The order of the two commits does not matter, and applying an event twice is harmless, since an
event takes effect once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final
from uuid import uuid4

from booking_service.domain.booking import PaymentKind
from booking_service.domain.commands import RecordPayment
from booking_service.domain.money import Money
from booking_service.storage.connection import Connection
from booking_service.storage.database import Database
from booking_service.storage.sql import QueryGroup

KEEP_EARLY: Final = timedelta(days=7)
"""How long an event waits for its booking, and is kept after it was refused."""

_EARLY_PAYMENTS: Final = QueryGroup("early_payments")


@dataclass(frozen=True, slots=True)
class EarlyPayment:
    """An event that arrived before its booking, and the caller that reported it."""

    command: RecordPayment
    caller: str


async def keep(database: Database, early: Sequence[EarlyPayment]) -> None:
    """Keep events of unknown bookings; one that is kept already stays as it is."""
    commands = [each.command for each in early]
    async with database.connection() as connection:
        await connection.execute(
            _EARLY_PAYMENTS.keep,
            [command.booking_id for command in commands],
            [command.provider for command in commands],
            [command.payment_id for command in commands],
            [command.kind for command in commands],
            [command.refund_id for command in commands],
            [command.amount.minor for command in commands],
            [command.amount.currency for command in commands],
            [command.failure_code for command in commands],
            [each.caller for each in early],
            await database.clock.now(connection),
        )


async def find_matched(connection: Connection, limit: int) -> list[EarlyPayment]:
    """Return events whose booking exists now, in the order in which they arrived."""
    return [
        EarlyPayment(
            RecordPayment(
                booking_id=row["booking_id"],
                provider=row["provider"],
                payment_id=row["payment_id"],
                kind=PaymentKind(row["kind"]),
                amount=Money(row["amount_minor"], row["currency"]),
                refund_id=row["refund_id"],
                failure_code=row["failure_code"],
                payment_row_id=uuid4(),
                refund_row_id=uuid4(),
            ),
            row["caller"],
        )
        for row in await connection.fetch(_EARLY_PAYMENTS.matched, limit)
    ]


async def forget(connection: Connection, now: datetime) -> None:
    """Delete events that were kept for KEEP_EARLY."""
    await connection.execute(_EARLY_PAYMENTS.forget, now - KEEP_EARLY)


async def settle(connection: Connection, command: RecordPayment, refusal: str) -> None:
    """Delete an event that was applied; keep one that was refused, with the reason."""
    key = (
        *(command.booking_id, command.provider, command.payment_id),
        *(command.kind, command.refund_id),
    )
    if refusal:
        await connection.execute(_EARLY_PAYMENTS.refused, *key, refusal)
    else:
        await connection.execute(_EARLY_PAYMENTS.applied, *key)
