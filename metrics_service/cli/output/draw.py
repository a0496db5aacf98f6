"""Draws a view for people, as wide as the terminal: what does not fit is left out, by its rank."""

from __future__ import annotations

from typing import Final

from rich.box import SIMPLE_HEAD
from rich.cells import cell_len
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from metrics_service.cli.output.sheet import Sheet, View

_GAP: Final = 3
_EMPTY: Final = frozenset({"", "-"})


def drawn(view: View, width: int) -> RenderableType:
    """Draw the lines, then the sheets."""
    sheets = [sheet for sheet in (view.sheet, *view.further) if sheet.columns]
    return Group(*map(_whole, view.lines), *(table(sheet, width) for sheet in sheets))


def table(sheet: Sheet, width: int) -> Table:
    """Draw a sheet; figures stand to the right."""
    shown, more = _fitting(sheet, width)
    note = sheet.note or ("" if sheet.rows else "none")
    if more:
        note = f"{note}; " if note else ""
        note += f"left out here: {', '.join(_title(sheet, number) for number in more)}"
    made = Table(
        title=Text(sheet.title) if sheet.title else None,
        caption=Text(note) if note else None,
        title_justify="left",
        caption_justify="left",
        box=SIMPLE_HEAD,
        show_edge=False,
        pad_edge=False,
    )
    for number in shown:
        made.add_column(
            Text(_title(sheet, number)),
            justify="right" if sheet.columns[number].right else "left",
            no_wrap=_stays_whole(sheet, number),
            overflow="fold",
        )
    for row in sheet.rows:
        made.add_row(*(Text(row[number].shown, row[number].style) for number in shown))
    return made


def _fitting(sheet: Sheet, width: int) -> tuple[list[int], list[int]]:
    """Return the columns that fit, and those that do not: empty ones go before others."""
    shown = [number for number, column in enumerate(sheet.columns) if not column.hidden]
    least = {number: _least(sheet, number) for number in shown}
    gone: list[int] = []
    while sum(least[number] + _GAP for number in shown) - _GAP > width:
        going = [number for number in shown if sheet.columns[number].rank]
        if not going:
            break
        last = max(
            going, key=lambda number: (_is_empty(sheet, number), sheet.columns[number].rank, number)
        )
        shown.remove(last)
        gone.append(last)
    return shown, sorted(gone)


def _least(sheet: Sheet, number: int) -> int:
    widths = [cell_len(row[number].shown) for row in sheet.rows]
    widest = max([cell_len(_title(sheet, number)), *widths])
    return widest if _stays_whole(sheet, number) else min(widest, sheet.columns[number].least)


def _stays_whole(sheet: Sheet, number: int) -> bool:
    # A key is copied into the next command.
    return sheet.columns[number].right or number < sheet.keys


def _is_empty(sheet: Sheet, number: int) -> bool:
    return all(row[number].shown in _EMPTY for row in sheet.rows)


def _title(sheet: Sheet, number: int) -> str:
    column = sheet.columns[number]
    return column.title or column.name.replace("_", " ")


def _whole(text: Text) -> Text:
    """Return the line with all that it says, over several where it must be."""
    whole = text.copy()
    whole.no_wrap, whole.overflow = False, "fold"
    return whole
