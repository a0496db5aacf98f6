"""Fixtures of the tests that drive whole parts of the booking service."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from booking_service.storage.clock import SetClock
from booking_service.storage.database import Database
from tests.booking.group_commit.harness import NOW, Harness


@pytest.fixture
async def harness(booking_dsn: str) -> AsyncIterator[Harness]:
    clock = SetClock(NOW)
    database = Database(booking_dsn, clock=clock)
    await database.open()
    made = Harness(booking_dsn, database, clock)
    made.bus.start()
    yield made
    await made.bus.stop()
    await database.close()
