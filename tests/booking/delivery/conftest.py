"""The database of a lane, and a relay that does not wait long."""

from __future__ import annotations

from collections.abc import AsyncIterator

import asyncpg
import pytest

from booking_service.delivery import relay
from booking_service.storage.clock import SetClock
from booking_service.storage.database import Database
from tests.booking.delivery.outbox_lane import Rows
from tests.booking.seed import NOW


@pytest.fixture
def no_long_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a relay try again, and clean up, every 20 ms."""
    monkeypatch.setattr(relay, "RETRY_S", 0.02)
    monkeypatch.setattr(relay, "HOUSEKEEPING_S", 0.02)


@pytest.fixture
async def rows(booking_dsn: str) -> AsyncIterator[Rows]:
    connection = await asyncpg.connect(booking_dsn)
    yield connection
    await connection.close()


@pytest.fixture
def database(booking_dsn: str) -> Database:
    return Database(booking_dsn, clock=SetClock(NOW))
