"""Pages of lists by (time, id): where a page ends, and the row after which the next one starts.

Times are exact to the microsecond, so that no row is returned twice or left out.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, Generic, NamedTuple, TypeVar
from uuid import UUID

from booking_service.domain.instants import instant, microseconds

T = TypeVar("T")

Position = tuple[datetime, UUID]
"""The time and id of the last row seen."""

BEFORE_ALL: Final[Position] = datetime(1, 1, 2, tzinfo=UTC), UUID(int=0)
AFTER_ALL: Final[Position] = datetime(9999, 12, 30, tzinfo=UTC), UUID(int=2**128 - 1)


class Key(NamedTuple):
    """The end of a page: the sort key (microseconds or minor units) and id of its last row."""

    sort: int
    id: UUID


@dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    """Rows in order; `next` is the key to continue after, None on the last page."""

    items: Sequence[T]
    next: Key | None


def position(after: Key | None, start: Position) -> Position:
    """Return the row of the key `after`, or `start` for the first page of a list."""
    return start if after is None else (instant(after.sort), after.id)


def within(found: Sequence[T], limit: int, size: Callable[[T], int], *, most_bytes: int) -> int:
    """Return how many of the first `limit` rows have at most `most_bytes` together; at least 1."""
    total = 0
    for count, row in enumerate(found[:limit]):
        total += size(row)
        if total > most_bytes:
            return max(count, 1)
    return limit


def page(found: Sequence[T], limit: int, row: Callable[[T], Position]) -> Page[T]:
    """Make a page of `limit` rows from up to one more; `row` returns the position of a value."""
    items = found[:limit]
    if len(found) <= limit:
        return Page(items, None)
    time, row_id = row(items[-1])
    return Page(items, Key(microseconds(time), row_id))
