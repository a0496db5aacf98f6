"""The time of the log and its daily partitions.

Between two readings of the database's clock, time advances with the monotonic clock. A reading that
differs by more than MAX_STEP_US is a step: it is believed only once it has stood for
BELIEVED_AFTER_S, and never where it lies behind what the log holds. Each partition exists before
the first record of its day, and none is dropped that a refold from the last two checkpoints needs.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import asyncpg
import structlog

from metrics_service.storage.sql import QueryGroup

MAX_STEP_US: Final = 10_000_000
"""A clock that is corrected by at most this is followed at once."""

BELIEVED_AFTER_S: Final = 60.0
"""A larger step stands for this long before the log follows it: the clock was set right."""

MAX_AWAY_US: Final = 30 * 86_400_000_000
"""Where no process has written for longer than this, a clock that is set wrong is as likely."""

DAYS_AHEAD: Final = 3

_PARTITIONS: Final = QueryGroup("partitions")
_CHECKPOINT: Final = QueryGroup("checkpoint")

_CREATE_LOCK: Final = 0x66617265_64617973
_PREFIX: Final = "event_log_"
_DAY: Final = timedelta(days=1)

log = structlog.get_logger()


class LogClock:
    """Gives receive times in microseconds; they never go back.

    It reads now_us, or, without it, the database's clock, which its user passes in.
    """

    def __init__(self, now_us: Callable[[], int] | None, monotonic_s: Callable[[], float]) -> None:
        self.step_us = 0
        """How far the newest reading is from the time of the log, where that is a step; else 0."""

        self._now_us = now_us
        self._monotonic_s = monotonic_s
        self._last_us = 0
        self._base_us = 0
        self._base_s = 0.0
        self._since_s: float | None = None

    def begin(self, database_us: int, newest_us: int) -> None:
        """Begin with a log whose newest record is of newest_us, 0 for none: time goes on at the
        clock, or, where that is behind or further ahead than MAX_AWAY_US, at the log.
        """
        now_s = self._monotonic_s()
        now_us = database_us if self._now_us is None else self._now_us()
        self._last_us = newest_us
        self._follow(now_us, now_s)
        if newest_us - now_us > MAX_STEP_US or 0 < newest_us < now_us - MAX_AWAY_US:
            self._follow(newest_us, now_s)
            self._compare(now_us, now_s)

    def read(self, database_us: int) -> None:
        """Compare the database's clock with the time of the log."""
        if self._now_us is None:
            self._compare(database_us, self._monotonic_s())

    def now_us(self) -> int:
        """Return the receive time of a record appended now."""
        now_s = self._monotonic_s()
        if self._now_us is not None:
            self._compare(self._now_us(), now_s)
        self._last_us = max(self._last_us, self._expected_us(now_s))
        return self._last_us

    def _compare(self, now_us: int, now_s: float) -> None:
        step_us = now_us - self._expected_us(now_s)
        if abs(step_us) <= MAX_STEP_US:
            if self._since_s is not None:
                log.warning("clock_followed", step_s=0)
            self._follow(now_us, now_s)
        elif self._since_s is None or abs(step_us - self.step_us) > MAX_STEP_US:
            self._since_s, self.step_us = now_s, step_us
            log.error("clock_jumped", step_s=step_us // 1_000_000)
        elif now_s - self._since_s >= BELIEVED_AFTER_S and now_us >= self._last_us - MAX_STEP_US:
            log.warning("clock_followed", step_s=step_us // 1_000_000)
            self._follow(now_us, now_s)

    def _expected_us(self, now_s: float) -> int:
        return self._base_us + int((now_s - self._base_s) * 1e6)

    def _follow(self, now_us: int, now_s: float) -> None:
        self._base_us, self._base_s = now_us, now_s
        self._since_s, self.step_us = None, 0


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
    """Drop the days that end at or before the cutoff, are folded in the last checkpoint but one,
    and are followed by min_days days with records; returns them.

    So a clock that has jumped drops nothing: time has passed when there are records of its days.
    """
    folded = await connection.fetchval(_CHECKPOINT.get_previous_position)
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
    folded = await connection.fetchval(_CHECKPOINT.get_previous_position)
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


def _name(day: datetime) -> str:
    return f"{_PREFIX}{day:%Y%m%d}"


def _day_of(name: str) -> datetime:
    return datetime.strptime(name.removeprefix(_PREFIX), "%Y%m%d").replace(tzinfo=UTC)
