"""Counts the rows and argument sets of a call from its results; never raises and reads no value."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sized
from typing import Any


class Counted:
    """Argument sets for the driver: `source` is unchanged if its size is known, else it is counted
    as the driver reads it.
    """

    __slots__ = ("_read", "_sized", "source")

    def __init__(self, args: Iterable[Any]) -> None:
        self._read = 0
        self._sized = isinstance(args, Sized)
        self.source: Any = args if self._sized else self._counting(args)

    def count(self) -> int:
        """Return the number of argument sets, or of those that were read."""
        return len(self.source) if self._sized else self._read

    def _counting(self, args: Iterable[Any]) -> Iterator[Any]:
        for arg in args:
            self._read += 1
            yield arg


def affected(status: Any) -> int:
    """Return the rows of a status line, str or bytes, such as "INSERT 0 5" or "COPY 7"."""
    text = status.decode("ascii", "replace") if isinstance(status, bytes) else str(status)
    count = text[text.rfind(" ") + 1 :]
    return int(count) if count.isdecimal() else 0


def status_rows(result: Any) -> int:
    """Return the rows of asyncpg's result with a status: (records, status, ...)."""
    return affected(result[1])


def returned_rows(result: Any) -> int:
    """Return the number of records in a result that may be None."""
    return 0 if result is None else len(result)


def no_rows(_: Any) -> int:
    """Return 0, for calls without rows."""
    return 0


def one_row(result: Any) -> int:
    """Return the rows of a call that returns a row or None."""
    return 0 if result is None else 1
