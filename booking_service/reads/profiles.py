"""Reads profiles: each method is one operation, named as in its timings, and returns what was
committed when it ran.
"""

from __future__ import annotations

from typing import Final

from booking_service.domain.profile import UserProfile
from booking_service.storage import rows
from booking_service.storage.database import Database
from booking_service.storage.sql import QueryGroup

_PROFILES: Final = QueryGroup("profiles")


class ProfileQueries:
    """Reads of profiles."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def get(self, user_id: str) -> UserProfile | None:
        row = await self._database.fetchrow(_PROFILES.get, user_id)
        return rows.profile(row) if row else None
