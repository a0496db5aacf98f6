"""Since when anything is kept."""

from __future__ import annotations

from typing import Final

import asyncpg

from metrics_service.storage.history_reader import HistoryReader
from tests.metrics.state.log import DAY, HOUR

# Numbers of days and hours since 1970 that are kept, and the begin of the first.
KEPT: Final[tuple[tuple[list[int], list[int], int | None], ...]] = (
    ([], [], None),
    ([3], [], 3 * DAY),
    ([], [75], 75 * HOUR),
    # An hour of the first day says it more exactly.
    ([3, 4], [75, 80], 75 * HOUR),
    ([3, 4], [100], 3 * DAY),
)


async def test_the_first_hour_or_day_is_found(metrics_dsn: str) -> None:
    connection = await asyncpg.connect(metrics_dsn)
    reader = HistoryReader(metrics_dsn)
    try:
        for days, hours, since in KEPT:
            await connection.execute("DELETE FROM history_day; DELETE FROM history_hour")
            await connection.executemany(
                "INSERT INTO history_day VALUES (DATE '1970-01-01' + $1::int, 'business', '', 1)",
                [(day,) for day in days],
            )
            await connection.executemany(
                "INSERT INTO history_hour (hour, section, state, state_version) "
                "VALUES (TIMESTAMPTZ '1970-01-01 UTC' + make_interval(hours => $1), "
                "'business', '', 1)",
                [(hour,) for hour in hours],
            )
            assert await reader.since() == since
    finally:
        await reader.close()
        await connection.close()
