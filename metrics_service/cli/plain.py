"""Shows texts of others as text: a terminal obeys control characters, and rich obeys markup."""

from __future__ import annotations

import unicodedata
from typing import Final

from rich.text import Text

MAX_TEXT_CHARS: Final = 200
MAX_CELL_CHARS: Final = 24


def plain(text: str, limit: int = MAX_TEXT_CHARS) -> str:
    """Return one line of at most `limit` characters that are what they look like.

    Runs of white space become a space. Controls, marks of direction, what is invisible, and marks
    that would be stacked upon other lines are shown by their codes.
    """
    line = " ".join(unicodedata.normalize("NFC", text[: 2 * limit]).split())
    shown = "".join(map(_visible, line))
    return shown if len(shown) <= limit else f"{shown[: limit - 1]}…"


def cell(text: str, style: str = "") -> Text:
    """Return a text for a cell of a table: plain, short and without markup."""
    return Text(plain(text, MAX_CELL_CHARS), style)


def line(*parts: str | tuple[str, str]) -> Text:
    """Return one line of plain parts, each with a style if it has one, cut at the edge."""
    text = Text(no_wrap=True, overflow="ellipsis")
    for part in parts:
        words, style = (part, "") if isinstance(part, str) else part
        text.append(words, style)
    return text


def _visible(char: str) -> str:
    if char.isprintable() and not unicodedata.category(char).startswith("M"):
        return char
    return char.encode("unicode_escape").decode()
