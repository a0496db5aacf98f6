"""Reads reviews: each method is one operation, named as in its timings, and returns what was
committed when it ran.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final
from uuid import UUID

from booking_service.domain.review import Review
from booking_service.reads.keyset import AFTER_ALL, Key, Page, Position, page, position, within
from booking_service.storage import rows
from booking_service.storage.database import Database
from booking_service.storage.sql import QueryGroup

MAX_PAGE_BYTES: Final = 800_000
"""Of the texts of one page: with what else reviews hold, its answer stays below 1 MiB."""

_REVIEWS: Final = QueryGroup("reviews")


@dataclass(frozen=True, slots=True)
class ReviewFilter:
    """Either the reviews of a package, with at least `min_rating`, or those of a user."""

    package_id: UUID | None = None
    user_id: str | None = None
    min_rating: int = 0


class ReviewQueries:
    """Reads of reviews."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def list(self, wanted: ReviewFilter, *, after: Key | None, limit: int) -> Page[Review]:
        """Newest first by (create_time, id); the sort of the key is create_time in microseconds."""
        place = (*position(after, AFTER_ALL), limit + 1)
        if wanted.package_id is not None:
            found = await self._database.fetch(
                _REVIEWS.list_by_package, wanted.package_id, *place, wanted.min_rating
            )
        else:
            found = await self._database.fetch(_REVIEWS.list_by_user, wanted.user_id, *place)
        reviews = [rows.review(row) for row in found]
        fitting = within(reviews, limit, _body_bytes, most_bytes=MAX_PAGE_BYTES)
        return page(reviews, fitting, _created)


def _body_bytes(review: Review) -> int:
    return len(review.body.encode())


def _created(review: Review) -> Position:
    return review.create_time, review.id
