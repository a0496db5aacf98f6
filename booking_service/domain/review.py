"""Reviews of packages, as values."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID


@dataclass(frozen=True, slots=True)
class Review:
    """A user's review of a package after a stay; `rating` is 1 to 5."""

    id: UUID
    booking_id: UUID
    package_id: UUID
    user_id: str
    rating: int
    body: str
    version: int
    create_time: datetime
    update_time: datetime
