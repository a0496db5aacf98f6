"""Puts the figures of another period beside those of a sheet."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from metrics_service.cli.output.sheet import NOTHING, Cell, Column, Row, Sheet


def compared(now: Sheet, before: Sheet) -> Sheet:
    """Return the sheet of now; each compared column has the change in the table, and a column
    `_before` of its own in CSV. Rows of before alone come last.
    """
    earlier = {_key(now, row): row for row in before.rows}
    width = len(now.columns)
    empty = (NOTHING,) * width
    rows = [
        _merged(now.columns, row, earlier.pop(_key(now, row), empty[: len(row)]))
        for row in now.rows
    ]
    for row in earlier.values():
        gone = (*row[: now.keys], *empty[now.keys :])
        rows.append(_merged(now.columns, gone, row))
    columns: list[Column] = []
    for column in now.columns:
        columns.append(column)
        if column.compared:
            columns.append(Column(f"{column.name}_before", hidden=True))
    return replace(now, columns=columns, rows=rows)


def change(now: Cell, before: Cell) -> str:
    """Return how a figure differs from that of before: "+12%", "+1.2 pp", "was -", "="; empty where
    there is neither.
    """
    if now.number is None and before.number is None:
        return ""
    if before.number is None:
        return "was -"
    if now.number is None:
        return f"was {before.shown}"
    difference = now.number - before.number
    if not difference:
        return "="
    if now.is_rate:
        return f"{100 * difference:+.1f} pp"
    if not before.number:
        return f"was {before.shown}"
    part = difference / abs(before.number)
    return f"{part:+.0%}" if math.isfinite(part) and abs(part) < 10 else f"was {before.shown}"


def _key(sheet: Sheet, row: Row) -> tuple[object, ...]:
    return tuple(cell.value for cell in row[: sheet.keys])


def _merged(columns: Sequence[Column], row: Row, before: Row) -> Row:
    cells: list[Cell] = []
    for column, cell, old in zip(columns, row, before, strict=True):
        if not column.compared:
            cells.append(cell)
            continue
        differs = change(cell, old)
        cells.append(replace(cell, shown=f"{cell.shown} ({differs})") if differs else cell)
        cells.append(old)
    return tuple(cells)
