"""Makes the clock of a real database jump, for sessions that connect afterwards: a function of the
same name is found before PostgreSQL's own.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import asyncpg

_SETUP = """
CREATE SCHEMA jump;
CREATE TABLE jump.step AS SELECT interval '0' AS by;
CREATE FUNCTION jump.clock_timestamp() RETURNS timestamptz LANGUAGE sql VOLATILE AS
'SELECT pg_catalog.clock_timestamp() + by FROM jump.step';
DO $$ BEGIN EXECUTE format(
    'ALTER DATABASE %I SET search_path = jump, pg_catalog, public', current_database()
); END $$;
"""


class JumpingClock:
    """The clock of one database."""

    def __init__(self, connection: asyncpg.Connection[Any]) -> None:
        self._connection = connection

    async def jump(self, by: timedelta) -> None:
        """Be so far from the right time from now on."""
        await self._connection.execute("UPDATE jump.step SET by = $1", by)


@asynccontextmanager
async def jumping_clock(dsn: str) -> AsyncIterator[JumpingClock]:
    """A clock that is right until it jumps."""
    connection = await asyncpg.connect(dsn)
    try:
        await connection.execute(_SETUP)
        yield JumpingClock(connection)
    finally:
        await connection.close()
