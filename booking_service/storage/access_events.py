"""Writes the audit trail of access: who may call this service, as each process found it."""

from __future__ import annotations

from typing import Final

from booking_service.storage.database import Database
from booking_service.storage.sql import QueryGroup
from servicekit.identity.gate import Gate
from servicekit.identity.trail import AccessChange, AccessTrail

_ACCESS_EVENTS: Final = QueryGroup("access_events")


def trail(database: Database, instance: str, gate: Gate) -> AccessTrail:
    """Return the trail of a process."""

    async def write(change: AccessChange) -> None:
        async with database.connection() as connection:
            await connection.execute(_ACCESS_EVENTS.create, *change.columns(instance))

    return AccessTrail(gate.take_changes, write)
