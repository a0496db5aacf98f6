"""The profile of a user, as a value."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID


@dataclass(frozen=True, slots=True)
class UserProfile:
    """What is shown of a user beside a booking."""

    id: UUID
    user_id: str
    display_name: str
    email: str
    locale: str
    version: int
    create_time: datetime
    update_time: datetime
