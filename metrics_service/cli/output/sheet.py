"""What a command has found, before it is written in any form.

A cell has its value for CSV and its text for people. The text of others has been made plain.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Final

from rich.text import Text

from metrics_service.web.encode import Json

GOOD: Final = 0
BAD: Final = 1
UNDECIDED: Final = 3
"""How what was found is judged; the exit status of the command."""


@dataclass(frozen=True, slots=True)
class Cell:
    """`value` is None for no data. `number` is what two cells are compared by, as far as they can
    be; `is_rate` compares them in percentage points.
    """

    value: str | int | float | Decimal | None
    shown: str
    style: str = ""
    number: float | None = None
    is_rate: bool = False


NOTHING: Final = Cell(None, "-")


@dataclass(frozen=True, slots=True)
class Column:
    """`name` in CSV, in snake case with its unit at the end; `title` in the table."""

    name: str
    title: str = ""
    right: bool = False
    compared: bool = False
    """Whether another period's value is shown beside it."""

    hidden: bool = False
    """Whether only CSV has it."""

    least: int = 16
    """The width down to which a text that is no key may be folded."""

    rank: int = 0
    """Where a terminal is too narrow, columns of the highest rank go first, those of 0 never."""


Row = tuple[Cell, ...]


@dataclass(frozen=True, slots=True)
class Sheet:
    """Rows of one kind. The first `keys` cells of a row tell it from the others."""

    columns: Sequence[Column]
    rows: Sequence[Row]
    title: str = ""
    note: str = ""
    keys: int = 1


@dataclass(frozen=True, slots=True)
class View:
    """One answer: `json` is all of it; CSV has `sheet` alone; a table has the lines, the sheet, and
    the further sheets.
    """

    json: Json
    sheet: Sheet
    lines: Sequence[Text] = ()
    further: Sequence[Sheet] = ()
    status: int = GOOD
    text: str = ""
    """What stands for all of it in a table, for a command whose answer is one word."""

    notes: Sequence[str] = field(default_factory=tuple)
    """Lines for standard error, whatever the form."""
