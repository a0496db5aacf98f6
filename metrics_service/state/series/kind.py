"""What is added up: cells, or less than whole cells."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Generic, NamedTuple, Protocol, TypeVar


class Summed(Protocol):
    """A part of a cell that adds up on its own."""

    def merge(self, other: Any) -> None:
        """Add the figures of another one, or of a whole cell."""


K = TypeVar("K", bound=Summed)


class Kind(NamedTuple, Generic[K]):
    """What is added up of cells: how to begin, and how to read it of an encoded cell."""

    new: Callable[[], K]
    decode: Callable[[bytes], K]


def merged(parts: Iterable[bytes], new: Callable[[], K], decode: Callable[[bytes], K]) -> K:
    """Return the sum of encoded cells."""
    cells = map(decode, parts)
    found = next(cells, None) or new()
    for cell in cells:
        found.merge(cell)
    return found
