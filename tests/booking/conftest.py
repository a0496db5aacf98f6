"""Fixtures of booking_service: a running service over a fresh database."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.booking.running_service import RunningService, running


@pytest.fixture
async def booking(booking_dsn: str) -> AsyncIterator[RunningService]:
    """A service whose clock is at NOON until the test sets it."""
    async with running(booking_dsn) as service:
        yield service
