"""The daily partitions of the log: each exists before the first record of its day, and none is
dropped that a refold from the last two checkpoints needs.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any, Final

import asyncpg

from metrics_service.storage.sql import QueryGroup

DAYS_AHEAD: Final = 3

_PARTITIONS: Final = QueryGroup("partitions")
_CHECKPOINT: Final = QueryGroup("checkpoint")

_CREATE_LOCK: Final = 0x66617265_64617973
_PREFIX: Final = "event_log_"
_DAY: Final = timedelta(days=1)


def days_from(stamp: datetime, ahead: int) -> list[datetime]:
    """Return the UTC day of an instant and the days ahead of it."""
    first = stamp.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    return [first + _DAY * number for number in range(ahead + 1)]


async def existing(connection: asyncpg.Connection[Any]) -> set[datetime]:
    """Return the days that have a partition."""
    return {_day_of(row["name"]) for row in await connection.fetch(_PARTITIONS.list)}


async def create(connection: asyncpg.Connection[Any], day: datetime) -> None:
    """Create the partition of a day unless it exists."""
    async with connection.transaction():
        # IF NOT EXISTS alone fails when two connections create the same partition at once.
        await connection.execute(_PARTITIONS.lock, _CREATE_LOCK)
        if await connection.fetchval(_PARTITIONS.find, _name(day)) is None:
            # No parameter can stand for the name of a table or the bounds of a partition.
            await connection.execute(
                f"CREATE TABLE {_name(day)} PARTITION OF event_log FOR VALUES"
                f" FROM ('{day:%Y-%m-%d} 00:00:00+00') TO ('{day + _DAY:%Y-%m-%d} 00:00:00+00')"
            )


async def drop_before(connection: asyncpg.Connection[Any], cutoff: datetime) -> list[datetime]:
    """Drop the days that end at or before the cutoff and are folded in the last checkpoint but one;
    returns them.
    """
    folded = await connection.fetchval(_CHECKPOINT.get_previous_position)
    dropped = []
    for day in sorted(await existing(connection)):
        if day + _DAY > cutoff:
            break
        newest = await connection.fetchval(f"SELECT max(position) FROM {_name(day)}")  # noqa: S608 - a date
        if newest is not None and newest > folded:
            break
        await connection.execute(f"DROP TABLE {_name(day)}")
        dropped.append(day)
    return dropped


def _name(day: datetime) -> str:
    return f"{_PREFIX}{day:%Y%m%d}"


def _day_of(name: str) -> datetime:
    return datetime.strptime(name.removeprefix(_PREFIX), "%Y%m%d").replace(tzinfo=UTC)
