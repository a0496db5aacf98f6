"""Lists by (time, id): where a page ends, and the row after which the next one goes on.

Times are exact to the microsecond, so that no row of a list is answered twice or left out.
"""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Final, TypeVar
from uuid import UUID

from booking_service.queries import Key, Page

T = TypeVar("T")

Position = tuple[datetime, UUID]
"""The time and id of the last row seen."""

BEFORE_ALL: Final[Position] = datetime(1, 1, 2, tzinfo=UTC), UUID(int=0)
AFTER_ALL: Final[Position] = datetime(9999, 12, 30, tzinfo=UTC), UUID(int=2**128 - 1)

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


def position(after: Key | None, start: Position) -> Position:
    """The row that `after` stands for; `start` of a list's first page."""
    return start if after is None else (_EPOCH + after.sort * _MICROSECOND, after.id)


def page(found: Sequence[T], limit: int, row: Callable[[T], Position]) -> Page[T]:
    """A page of `limit` from up to one more; `row` is the position of a value."""
    items = found[:limit]
    if len(found) <= limit:
        return Page(items, None)
    time, row_id = row(items[-1])
    return Page(items, Key((time - _EPOCH) // _MICROSECOND, row_id))
