"""Reads the history, for charts and for files."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import Any, Final, NamedTuple

import asyncpg

from metrics_service.state.history.cells import TABLES
from metrics_service.state.history.changes import FigureRow, figures
from metrics_service.state.series.past import DAY_US, HOUR_US
from metrics_service.storage.history import EPOCH, HOUR, Connection, day_of
from metrics_service.storage.session import Session
from metrics_service.storage.sql import QueryGroup

PAGE_ROWS: Final = 1_000

_HISTORY: Final = QueryGroup("history")
_TOTALS: Final = QueryGroup("totals")


class StoredCell(NamedTuple):
    """An hour or a day of a table: when it begins, in microseconds, and the version of its fold."""

    begin_us: int
    data: bytes
    version: int


class StoredBeginning(NamedTuple):
    """Where a fold of the log can begin: the first record, when it was received, up to where the
    history has the corrections of former folds, and the rows of the oldest totals, if any.
    """

    first: int
    received_us: int
    known_to: int
    sections: list[str]
    states: list[bytes]


class HistoryReader(Session):
    """Reads the history as of the newest checkpoint, on a connection of its own. Raises
    LogUnavailableError.
    """

    async def beginning(self) -> StoredBeginning:
        """Return where a fold of the log can begin."""
        (row,) = await self.using(lambda connection: connection.fetch(_TOTALS.begin))
        received = row["received_at"] or EPOCH
        return StoredBeginning(
            row["first"] or 1,
            (received - EPOCH) // timedelta(microseconds=1),
            row["known_to"],
            row["sections"] or [],
            row["states"] or [],
        )

    async def hours(self, table: str, low_us: int, high_us: int) -> list[StoredCell]:
        """Return the hours of a table that begin in [low_us, high_us), oldest first."""
        begin, end = (EPOCH + -(-each // HOUR_US) * HOUR for each in (low_us, high_us))
        return await self._all(_HISTORY.read_hours, table, begin, end, HOUR)

    async def days(self, table: str, low_us: int, high_us: int) -> list[StoredCell]:
        """Return the days of a table that begin in [low_us, high_us), oldest first."""
        begin, end = (day_of(-(-each // DAY_US)) for each in (low_us, high_us))
        return await self._all(_HISTORY.read_days, table, begin, end, timedelta(days=1))

    async def bounds(self) -> tuple[date, date] | None:
        """Return the first and the last day that anything is kept of; None for nothing."""
        (row,) = await self.using(lambda connection: connection.fetch(_HISTORY.bounds))
        days = [each for each in (row["first_day"], row["last_day"]) if each is not None]
        days += [row[each].date() for each in ("first_hour", "last_hour") if row[each] is not None]
        return (min(days), max(days)) if days else None

    async def kept_since(self) -> int | None:
        """Return when the first hour begins that is kept, in microseconds; None for nothing. From
        the first record of the log on, an hour without a row is one in which nothing was counted.
        """
        (row,) = await self.using(lambda connection: connection.fetch(_HISTORY.bounds))
        begins = [row[each] for each in ("first_hour", "first_received") if row[each] is not None]
        return min(map(_us, begins)) // HOUR_US * HOUR_US if begins else None

    async def since(self) -> int | None:
        """Return when the first hour or day begins that anything is kept of, in microseconds; None
        for nothing. Of an hour of the first day, not the day.
        """
        (row,) = await self.using(lambda connection: connection.fetch(_HISTORY.bounds))
        day, hour = row["first_day"], row["first_hour"]
        if hour is not None and (day is None or hour.date() <= day):
            return _us(hour)
        return None if day is None else _us(day)

    async def day_figures(self, day: date) -> list[FigureRow]:
        """Return the figures of a day, by metric, dimension and key."""
        rows = await self.using(lambda connection: connection.fetch(_HISTORY.read_figures, day))
        number = (day - EPOCH.date()).days
        return [FigureRow(number, *row) for row in rows]

    async def hour_figures(self, day: date) -> list[FigureRow]:
        """Return the figures of each hour of a day; their `day` is the hour's number since 1970."""
        begin = datetime(day.year, day.month, day.day, tzinfo=UTC)
        end = begin + timedelta(days=1)
        rows = await self.using(
            lambda connection: connection.fetch(_HISTORY.read_all_hours, begin, end)
        )
        found: list[FigureRow] = []
        for hour, table, data in rows:
            cell = TABLES[table].decode(data)
            found += figures(table, _us(hour) // HOUR_US, cell)
        return sorted(found, key=lambda row: row[:4])

    async def _all(
        self, statement: str, table: str, begin: Any, end: Any, step: timedelta
    ) -> list[StoredCell]:
        """Read page after page: each is short, and others may read between two."""
        found: list[StoredCell] = []
        while begin < end:
            after = begin

            async def page(connection: Connection, after: Any = after) -> list[asyncpg.Record]:
                rows: list[asyncpg.Record] = await connection.fetch(
                    statement, table, after, end, PAGE_ROWS
                )
                return rows

            rows = await self.using(page)
            found += [
                StoredCell(_us(row["begin"]), row["state"], row["state_version"]) for row in rows
            ]
            if len(rows) < PAGE_ROWS:
                break
            begin = rows[-1]["begin"] + step
        return found


def _us(begin: date | datetime) -> int:
    if not isinstance(begin, datetime):
        begin = datetime(begin.year, begin.month, begin.day, tzinfo=UTC)
    return (begin - EPOCH) // timedelta(microseconds=1)
