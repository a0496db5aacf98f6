"""The time of the log and its daily partitions.

The log follows the database's clock, but not its steps, and never to a time behind what the log
holds. Each partition exists before the first record of its day, and none is dropped that a refold
from the last two checkpoints needs.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import asyncpg

from metrics_service.storage.sql import QueryGroup
from servicekit.clock import MAX_SKEW_US, MAX_STEP_US, SteadyTime, wall_us

MAX_AWAY_US: Final = 30 * 86_400_000_000
"""Where no process has written for longer than this, a clock that is set wrong is as likely."""

DAYS_AHEAD: Final = 3

_PARTITIONS: Final = QueryGroup("partitions")
_CHECKPOINT: Final = QueryGroup("checkpoint")

_CREATE_LOCK: Final = 0x66617265_64617973
_PREFIX: Final = "event_log_"
_DAY: Final = timedelta(days=1)


class LogClock:
    """Gives receive times in microseconds; they never go back.

    It reads now_us, or, without it, the database's clock, which its user passes in.
    """

    def __init__(self, now_us: Callable[[], int] | None, monotonic_s: Callable[[], float]) -> None:
        self._now_us = now_us
        self._time = SteadyTime(monotonic_s)
        self._last_us = 0

    @property
    def step_us(self) -> int:
        """How far the newest reading is from the time of the log, where that is a step; else 0."""
        return self._time.step_us

    def begin(self, database_us: int, newest_us: int) -> None:
        """Begin with a log whose newest record is of newest_us, 0 for none: time goes on at the
        clock; where that is minutes from this machine's, at the earlier of the two; and where
        neither fits, being behind or further ahead than MAX_AWAY_US, at the log. The clock is then
        a step away.
        """
        now_us = database_us if self._now_us is None else self._now_us()
        own_us = wall_us() if self._now_us is None else now_us
        begun_us = now_us if abs(now_us - own_us) <= MAX_SKEW_US else min(now_us, own_us)
        if newest_us and not newest_us - MAX_STEP_US <= begun_us <= newest_us + MAX_AWAY_US:
            begun_us = newest_us
        self._last_us = newest_us
        self._time.follow(begun_us)
        self._compare(now_us)

    def read(self, database_us: int) -> None:
        """Compare the database's clock with the time of the log."""
        if self._now_us is None:
            self._compare(database_us)

    def now_us(self) -> int:
        """Return the receive time of a record appended now."""
        now_us = self._time.now_us() if self._now_us is None else self._compare(self._now_us())
        self._last_us = max(self._last_us, now_us)
        return self._last_us

    def _compare(self, now_us: int) -> int:
        return self._time.read(now_us, earliest_us=self._last_us - MAX_STEP_US)


def days_from(stamp: datetime, ahead: int) -> list[datetime]:
    """Return the UTC day of an instant and the days ahead of it."""
    first = stamp.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    return [first + _DAY * number for number in range(ahead + 1)]


async def existing(connection: asyncpg.Connection[Any]) -> dict[datetime, int]:
    """Return the days that have a partition, and the bytes of each, in their order."""
    found = {_day_of(row["name"]): row["bytes"] for row in await connection.fetch(_PARTITIONS.list)}
    return dict(sorted(found.items()))


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


async def drop_before(
    connection: asyncpg.Connection[Any], cutoff: datetime, min_days: int
) -> list[datetime]:
    """Drop the days that end at or before the cutoff, are folded in the last checkpoint but one and
    in totals that are kept (see storage/history.py), and are followed by min_days days with
    records; returns them.

    So a clock that has jumped drops nothing: time has passed when there are records of its days.
    """
    folded = await connection.fetchval(_CHECKPOINT.get_rolled_up_position)
    newest = {}
    for day in await existing(connection):
        newest[day] = await _newest_position(connection, day)
    filled = sum(position is not None for position in newest.values())
    dropped = []
    for day, position in newest.items():
        if day + _DAY > cutoff:
            break
        if position is not None:
            filled -= 1
            if position > folded or filled < min_days:
                break
        await connection.execute(f"DROP TABLE {_name(day)}")
        dropped.append(day)
    return dropped


async def drop_beyond(
    connection: asyncpg.Connection[Any], now: datetime, max_bytes: int
) -> tuple[list[datetime], int]:
    """Drop the oldest days that are over and folded in the last checkpoint but one, while all days
    take more than max_bytes; returns them, and the bytes of those that are left.
    """
    days = await existing(connection)
    left = sum(days.values())
    dropped: list[datetime] = []
    if left <= max_bytes:
        return dropped, left
    folded = await connection.fetchval(_CHECKPOINT.get_rolled_up_position)
    for day, size in days.items():
        if left <= max_bytes or day + _DAY > now:
            break
        position = await _newest_position(connection, day)
        if (position or 0) > folded:
            break
        if position is not None:
            # An empty day frees nothing.
            await connection.execute(f"DROP TABLE {_name(day)}")
            dropped.append(day)
            left -= size
    return dropped, left


async def _newest_position(connection: asyncpg.Connection[Any], day: datetime) -> int | None:
    newest: int | None = await connection.fetchval(f"SELECT max(position) FROM {_name(day)}")  # noqa: S608 - a date
    return newest


async def drop_empty(connection: asyncpg.Connection[Any], day: datetime) -> None:
    """Drop the partition of a day unless it has records."""
    if not await connection.fetchval(f"SELECT EXISTS (SELECT FROM {_name(day)})"):  # noqa: S608 - a date
        await connection.execute(f"DROP TABLE {_name(day)}")


def _name(day: datetime) -> str:
    return f"{_PREFIX}{day:%Y%m%d}"


def _day_of(name: str) -> datetime:
    return datetime.strptime(name.removeprefix(_PREFIX), "%Y%m%d").replace(tzinfo=UTC)
