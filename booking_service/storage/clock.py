"""The time that bookings are dated by: the database's, so that all processes share one clock."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final, Protocol

from booking_service.storage.connection import Connection
from booking_service.storage.sql import QueryGroup

_CLOCK: Final = QueryGroup("clock")


class Clock(Protocol):
    """Returns the current time; injected, so that tests and replays can set it."""

    async def now(self, connection: Connection) -> datetime:
        """Return the time, aware, in UTC, to the microsecond; to be called after locks are held."""


class DatabaseClock:
    """The clock of the database server."""

    async def now(self, connection: Connection) -> datetime:
        value: datetime = await connection.fetchval(_CLOCK.now)
        return value


class SetClock:
    """A clock that moves only when it is set."""

    def __init__(self, time: datetime) -> None:
        self.time = time

    async def now(self, connection: Connection) -> datetime:
        del connection
        return self.time

    def advance(self, by: timedelta) -> None:
        self.time += by
