"""How many rows and argument sets a call had, read off its results; never raises and looks at no
value.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sized
from typing import Any


class Counted:
    """Argument sets on their way to the driver: `source` goes through unchanged where it knows its
    size, and is counted as it is read where it does not.
    """

    __slots__ = ("_read", "_sized", "source")

    def __init__(self, args: Iterable[Any]) -> None:
        self._read = 0
        self._sized = isinstance(args, Sized)
        self.source: Any = args if self._sized else self._counting(args)

    def count(self) -> int:
        """How many argument sets there are, or were read."""
        return len(self.source) if self._sized else self._read

    def _counting(self, args: Iterable[Any]) -> Iterator[Any]:
        for arg in args:
            self._read += 1
            yield arg


def affected(status: Any) -> int:
    """Rows of a status line, str or bytes, such as "INSERT 0 5" or "COPY 7"."""
    text = status.decode("ascii", "replace") if isinstance(status, bytes) else str(status)
    count = text[text.rfind(" ") + 1 :]
    return int(count) if count.isdecimal() else 0


def status_rows(result: Any) -> int:
    """Rows of what asyncpg answers when it is asked for the status too: (records, status, ...)."""
    return affected(result[1])


def returned_rows(result: Any) -> int:
    """Records in a result that may be None."""
    return 0 if result is None else len(result)


def no_rows(_: Any) -> int:
    """For calls that give none."""
    return 0


def one_row(result: Any) -> int:
    """For calls that give a row or None."""
    return 0 if result is None else 1
