"""Keeps what searches order packages by: the rating of their reviews, and how often they were
booked lately.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

from booking_service.storage.connection import Connection
from booking_service.storage.sql import QueryGroup

MAX_SCORED: Final = 100
"""Packages of one round; the next one goes on after them."""

FIRST: Final = UUID(int=0)
"""After which the first round begins."""

_POPULAR: Final = timedelta(days=30)
_COLUMNS: Final = ("id", "review_count", "rating_hundredths", "popularity")

_SWEEPER: Final = QueryGroup("sweeper")


async def refresh(connection: Connection, after: UUID, now: datetime) -> UUID:
    """Bring the packages after one, by id, up to date, and return the id to go on after.

    A package that another transaction has locked is left for the next turn.
    """
    found = await connection.fetch(_SWEEPER.scores, after, MAX_SCORED, now - _POPULAR)
    changed = [row for row in found if row["changed"]]
    if changed:
        columns = [[row[name] for row in changed] for name in _COLUMNS]
        await connection.execute(_SWEEPER.save_scores, *columns)
    return found[-1]["id"] if len(found) == MAX_SCORED else FIRST
