"""What providers said of bookings that were not known yet: kept, and applied once one is.

A kept event waits for its booking and for nothing else, whichever of the two was committed first;
applying it twice is no harm, since an event has one effect.
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
"""How long an event waits for its booking, and is kept when it could not be applied."""

_early_payments = QueryGroup("early_payments")


@dataclass(frozen=True, slots=True)
class EarlyPayment:
    """An event that came before its booking, and who told of it."""

    command: RecordPayment
    caller: str


async def keep(database: Database, early: Sequence[EarlyPayment]) -> None:
    """Keeps events of bookings that are not known; one that is kept already stays as it is."""
    commands = [each.command for each in early]
    async with database.connection() as connection:
        await connection.execute(
            _early_payments.keep,
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
    """Events whose booking has come, in the order in which they were said."""
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
        for row in await connection.fetch(_early_payments.matched, limit)
    ]


async def forget(connection: Connection, now: datetime) -> None:
    """Forgets what was kept for long enough."""
    await connection.execute(_early_payments.forget, now - KEEP_EARLY)


async def settle(connection: Connection, command: RecordPayment, refusal: str) -> None:
    """Forgets an event that was applied; one that was refused is kept with the reason."""
    key = (
        *(command.booking_id, command.provider, command.payment_id),
        *(command.kind, command.refund_id),
    )
    if refusal:
        await connection.execute(_early_payments.refused, *key, refusal)
    else:
        await connection.execute(_early_payments.applied, *key)
