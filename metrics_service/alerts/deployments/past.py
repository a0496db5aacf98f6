"""Hours that have left the state, as the history has them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from metrics_service.state.history.cells import TABLES
from metrics_service.state.tables import HourCells

READ: Final = ("query_totals", "errors", "funnel")
"""The tables of the history that hours are read from, each with the cells of every hour."""


class PastHours:
    """The hours of READ, each table as encoded cells by their begin in microseconds."""

    def __init__(self, cells: Mapping[str, Mapping[int, bytes]]) -> None:
        self._cells = cells

    def hour(self, time_us: int) -> HourCells:
        """Return the hour that begins then, without figures where nothing was counted in it."""
        queries, errors, funnel = (self._cell(table, time_us) for table in READ)
        return HourCells(queries.total, errors, funnel)

    def _cell(self, table: str, time_us: int) -> Any:
        data = self._cells[table].get(time_us)
        return TABLES[table].new() if data is None else TABLES[table].decode(data)
