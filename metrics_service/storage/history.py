"""Writes the history in the transaction of a checkpoint, and forgets what is too old."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator
from datetime import UTC, date, datetime, timedelta
from typing import Any, Final, NamedTuple, TypeAlias

import asyncpg
import structlog

from metrics_service.state.history.cells import TABLES
from metrics_service.state.history.changes import (
    HOURS_A_DAY,
    Cells,
    FigureRow,
    HistoryChange,
    Key,
    Segment,
    figures,
    readings,
)
from metrics_service.state.series.past import DAY_US, HOUR_US
from metrics_service.storage.sql import QueryGroup
from servicekit.background import TimeSlice

HOUR_DAYS: Final = 400
DAY_DAYS: Final = 5 * 366
_FIGURES_A_STATEMENT: Final = 500

_HISTORY: Final = QueryGroup("history")
_TOTALS: Final = QueryGroup("totals")
EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
HOUR: Final = timedelta(hours=1)

Connection: TypeAlias = "asyncpg.Connection[Any]"

log = structlog.get_logger()


class _Grain(NamedTuple):
    """The statements of hours, or of days."""

    read: str
    put: str
    begin: Callable[[int], object]


_HOURS: Final = _Grain(_HISTORY.hours_of, _HISTORY.put_hours, lambda hour: EPOCH + hour * HOUR)
_DAYS: Final = _Grain(_HISTORY.days_of, _HISTORY.put_days, lambda day: day_of(day))


async def write(connection: Connection, change: HistoryChange) -> None:
    """Change the history, inside the transaction that has changed the checkpoint."""
    generation = await connection.fetchval(_HISTORY.advance) - 1
    border = change.border
    first_us = border.from_us if change.replace else None
    if change.anew is not None and change.anew.is_due(generation):
        first_us = border.own_us
    if first_us is not None:
        await connection.execute(_HISTORY.remove_hours_from, EPOCH + first_us // HOUR_US * HOUR)
        await connection.execute(_HISTORY.remove_days_from, day_of(first_us // DAY_US))
        await connection.execute(_HISTORY.remove_figures_from, day_of(first_us // DAY_US))
    hours = _Writer(connection, _HOURS, change.version)
    days = _Writer(connection, _DAYS, change.version)
    for segment in change.segments:
        if segment.once.is_due(generation):
            await _add(segment, hours, days)
    hours.set(change.hours)
    days.set(change.days)
    await hours.flush()
    await days.flush()
    await _write_figures(connection, days.cells)


async def _add(segment: Segment, hours: _Writer, days: _Writer) -> None:
    """Set the hours and days that have left the ring, and add the corrections."""
    for table, past in segment.pasts.items():
        if TABLES[table].hourly:
            hours.set({(table, hour): data for hour, data in past.hours.items()})
    days.set(segment.days)
    for table, past in segment.pasts.items():
        if TABLES[table].hourly:
            await hours.add([((table, hour), cell) for hour, cell in past.corrections.items()])
        await days.add(
            [((table, hour // HOURS_A_DAY), cell) for hour, cell in past.corrections.items()]
        )


class _Writer:
    """Collects rows of hours or of days: such as are set, and such as are added to."""

    def __init__(self, connection: Connection, grain: _Grain, version: int) -> None:
        self._connection = connection
        self._grain = grain
        self._version = version
        self._turn = TimeSlice()
        # Of rows of another version that are added to.
        self._versions: dict[Key, int] = {}
        self.cells: dict[Key, bytes] = {}

    def set(self, cells: Cells) -> None:
        """Set whole rows."""
        self.cells.update(cells)
        for key in cells.keys() & self._versions.keys():
            del self._versions[key]

    async def add(self, corrections: Collection[tuple[Key, Any]]) -> None:
        """Add cells of corrections to rows, or make them."""
        await self._read([key for key, _ in corrections if key not in self.cells])
        for key, correction in corrections:
            table, number = key
            data = self.cells.get(key)
            try:
                cell = TABLES[table].new() if data is None else TABLES[table].decode(data)
                cell.take(correction)
                self.cells[key] = cell.encode()
            except Exception:
                # One that does not fit is worth less than all checkpoints from now on.
                log.exception("history_correction_failed", table=table, number=number)
            if self._turn.over:
                await self._turn.renew()

    async def flush(self) -> None:
        """Write the rows."""
        keys = list(self.cells)
        if keys:
            await self._connection.execute(
                self._grain.put,
                [self._grain.begin(number) for _, number in keys],
                [table for table, _ in keys],
                list(self.cells.values()),
                [self._versions.get(key, self._version) for key in keys],
            )

    async def _read(self, keys: list[Key]) -> None:
        if not keys:
            return
        begins = {self._grain.begin(number): number for _, number in keys}
        rows = await self._connection.fetch(
            self._grain.read,
            [self._grain.begin(number) for _, number in keys],
            [table for table, _ in keys],
        )
        for begin, table, data, version in rows:
            key = table, begins[begin]
            self.cells[key] = data
            if version != self._version:
                self._versions[key] = version


async def _write_figures(connection: Connection, days: Cells) -> None:
    """Replace the figures of days."""
    turn = TimeSlice()
    found: list[FigureRow] = []
    gone: list[tuple[date, str, str]] = []
    for (table, day), data in days.items():
        cell = TABLES[table].decode(data)
        gone += [(day_of(day), metric, dimension) for metric, dimension, _ in readings(table)]
        for row in figures(table, day, cell):
            found.append(row)
            if turn.over:
                await turn.renew()
    if gone:
        await connection.execute(_HISTORY.remove_figures, *_columns(gone))
    for first in range(0, len(found), _FIGURES_A_STATEMENT):
        rows = ((day_of(row.day), *row[1:]) for row in found[first : first + _FIGURES_A_STATEMENT])
        await connection.execute(_HISTORY.put_figures, *_columns(rows))


def _columns(rows: Iterable[tuple[Any, ...]]) -> Iterator[list[Any]]:
    return map(list, zip(*rows, strict=True))


def day_of(number: int) -> date:
    return (EPOCH + timedelta(days=number)).date()


async def keep_totals(connection: Connection, position: int, version: int) -> None:
    """Keep the totals of the checkpoint just written if it is the first of its day."""
    day = await connection.fetchval(_TOTALS.day_without, position, version)
    if day is not None:
        await connection.execute(_TOTALS.keep, day, position, version)


async def forget(connection: Connection) -> None:
    """Forget what is older than the history keeps, and totals that the log does not go on from."""
    await connection.execute(_HISTORY.forget_hours, HOUR_DAYS)
    await connection.execute(_HISTORY.forget_days, DAY_DAYS)
    await connection.execute(_HISTORY.forget_figures, DAY_DAYS)
    await connection.execute(_TOTALS.forget)
