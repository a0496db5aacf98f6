"""Writes the audit trail of access: who may call this service, as each process found it."""

from __future__ import annotations

from typing import Final

from metrics_service.client.host import instance_name
from metrics_service.storage.connections import connect
from metrics_service.storage.sql import QueryGroup
from servicekit.identity.gate import Gate
from servicekit.identity.trail import AccessChange, AccessTrail

CLOSE_TIMEOUT_S: Final = 1.0

_ACCESS_EVENTS: Final = QueryGroup("access_events")


def trail(dsn: str, gate: Gate) -> AccessTrail:
    """Return the trail of a process, which it writes over a connection for each change."""
    instance = instance_name()

    async def write(change: AccessChange) -> None:
        connection = await connect(dsn)
        try:
            await connection.execute(_ACCESS_EVENTS.create, *change.columns(instance))
            await connection.close(timeout=CLOSE_TIMEOUT_S)
        except BaseException:
            connection.terminate()
            raise

    return AccessTrail(gate.take_changes, write)
