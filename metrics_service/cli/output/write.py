"""Writes a view to standard output: nothing but data, and nothing that a terminal obeys."""

from __future__ import annotations

import csv
import io
import json
import math
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal
from enum import StrEnum
from typing import Final

from rich.console import Console

from metrics_service.cli.output.draw import drawn
from metrics_service.cli.output.sheet import Cell, Sheet, View
from metrics_service.web.encode import Json

WIDE_COLUMNS: Final = 160
"""Where the output is no terminal, whose width is not known."""

_FORMULA: Final = ("=", "+", "-", "@")

BROKEN_PIPE: Final = 141
"""The exit status where the reader has gone, as that of a program in C."""


class Form(StrEnum):
    """How a view is written."""

    TABLE = "table"
    JSON = "json"
    CSV = "csv"


def console(*, no_color: bool = False) -> Console:
    """Return the console of standard output."""
    # Not every terminal has all characters.
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
    width = None if sys.stdout.isatty() else WIDE_COLUMNS
    if os.environ.get("COLUMNS", "").isdigit():
        width = None
    return Console(width=width, no_color=no_color or None, highlight=False, markup=False)


def write(
    view: View, form: Form, to: Console, *, first: bool = True, compact: bool = False
) -> None:
    """Print a view; CSV has its names the first time only, compact JSON is one line."""
    with unbroken():
        if form is Form.JSON:
            indent = None if compact else 2
            # Only ASCII: other characters may control the terminal, and show as their codes.
            print(json.dumps(finite(view.json), ensure_ascii=True, indent=indent))
        elif form is Form.CSV:
            _csv(view.sheet, first=first)
        elif view.text:
            print(view.text)
        else:
            to.print(drawn(view, to.width))
        sys.stdout.flush()


@contextmanager
def unbroken() -> Iterator[None]:
    """End quietly where the reader of standard output has gone."""
    try:
        yield
    except BrokenPipeError:
        # Or Python would try to flush it at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(BROKEN_PIPE) from None


def finite(value: Json) -> Json:
    """Return JSON without the numbers that it does not have."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, list):
        return [finite(each) for each in value]
    if isinstance(value, dict):
        return {name: finite(each) for name, each in value.items()}
    return value


def _csv(sheet: Sheet, *, first: bool) -> None:
    lines = csv.writer(sys.stdout, lineterminator="\n")
    if first:
        lines.writerow(column.name for column in sheet.columns)
    lines.writerows([_csv_value(cell) for cell in row] for row in sheet.rows)


def _csv_value(cell: Cell) -> object:
    value = cell.value
    if isinstance(value, Decimal):
        return f"{value:f}"
    return guarded(value) if isinstance(value, str) else value


def guarded(text: str) -> str:
    """Return a text that no spreadsheet takes for a formula."""
    return f"'{text}" if text.startswith(_FORMULA) else text
