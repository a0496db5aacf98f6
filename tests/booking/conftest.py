"""Fixtures of booking_service: a running one over a database of the test's own."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.booking.running_service import Shell, running


@pytest.fixture
async def booking(booking_dsn: str) -> AsyncIterator[Shell]:
    """A service whose clock stands at NOON until the test moves it."""
    async with running(booking_dsn) as shell:
        yield shell
