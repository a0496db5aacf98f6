"""One database for all plan tests: seeded once, read only by what the tests run."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import asyncpg
import pytest

from servicekit.postgres import PostgresServer

SEED = Path(__file__).parent / "catalogue_seed.sql"
BOOKINGS = 200_000


@pytest.fixture(scope="session")
def seeded_dsn(postgres: PostgresServer, booking_template: str) -> Iterator[str]:
    """200,000 bookings of 2,000 packages, vacuumed and analysed as autovacuum does."""
    postgres.create_database("plans", template=booking_template)
    size = f"SET seed.bookings = {BOOKINGS}; SET seed.booked_ahead = off;\n"
    postgres.psql("plans", size + SEED.read_text())
    postgres.psql("plans", "VACUUM (ANALYZE)")
    yield postgres.dsn("plans")
    postgres.drop_database("plans")


@pytest.fixture
async def connection(
    seeded_dsn: str,
) -> AsyncIterator[asyncpg.Connection[asyncpg.Record]]:
    """A session with the server's own cost settings, unlike those of the service."""
    connection = await asyncpg.connect(seeded_dsn)
    yield connection
    await connection.close()
