"""Reads the table of sessions, on a connection of its own: no list makes the log wait."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any, Final, NamedTuple, TypeVar

import asyncpg

from metrics_service.state.journeys.visit import MAX_KEPT_EVENTS, Event, decode
from metrics_service.storage.errors import BusyError, LogUnavailableError
from metrics_service.storage.session import Session
from metrics_service.storage.sql import QueryGroup
from protos.metrics.v1.checkpoint_pb2 import CheckpointHead

READ_TIMEOUT_S: Final = 5.0
"""Of an answer, with the wait for others."""

MAX_WAITING: Final = 16
"""Answers that wait for one that is read."""

_SESSIONS: Final = QueryGroup("sessions")

T = TypeVar("T")


class Place(NamedTuple):
    """The place of a session in the list, which begins with the newest entry."""

    entry_us: int
    number: int


class Filter(NamedTuple):
    """Which sessions are listed: those whose best chain began in [low_us, high_us) and has
    `steps[0]` to `steps[1]` steps. abandoned: whether they are, by their actor or since they began
    before open_since_us; None for all. ahead: also those that count in the figures of all times
    only.
    """

    low_us: int
    high_us: int
    steps: tuple[int, int]
    abandoned: bool | None
    open_since_us: int
    ahead: bool

    @property
    def arguments(self) -> tuple[Any, ...]:
        """Those of the statements."""
        return (self.low_us, self.high_us, *self.steps, *self[3:])


@dataclass(frozen=True, slots=True)
class StoredSession:
    """A row of the table; steps is 0, and entry_us without a meaning, where no chain began."""

    number: int
    name: str
    entry_us: int
    steps: int
    abandoned: bool
    package_id: str
    last_us: int
    events: int
    booking_ids: list[str]


@dataclass(frozen=True, slots=True)
class StoredJourney:
    """All visits of a session: the one that went furthest, with the events, bookings and last time
    of all; and the first MAX_KEPT_EVENTS events.
    """

    session: StoredSession
    events: list[Event]


class SessionPage(NamedTuple):
    """Some sessions of a list: the state that they are of, the filter, and how many there are in
    all, or -1.
    """

    head: CheckpointHead
    filter: Filter
    sessions: list[StoredSession]
    total: int


class SessionReader:
    """The sessions of the newest checkpoint. An answer is of one position of the log.

    Raises LogUnavailableError when the database is lost or takes too long, BusyError when too many
    wait.
    """

    def __init__(self, dsn: str) -> None:
        self._session = Session(dsn)
        self._waiting = 0

    async def page(
        self, choose: Callable[[CheckpointHead], Filter], after: Place | None, most: int
    ) -> SessionPage:
        """Return at most so many sessions after a place; they are counted where there is none.
        `choose` makes the filter.
        """

        async def read(connection: asyncpg.Connection[Any], head: CheckpointHead) -> SessionPage:
            wanted = choose(head)
            total = -1
            if after is None:
                total = await connection.fetchval(_SESSIONS.count, *wanted.arguments)
            place = after or Place(wanted.high_us, 0)
            rows = await connection.fetch(_SESSIONS.list, *wanted.arguments, *place, most)
            return SessionPage(head, wanted, [StoredSession(**row) for row in rows], total)

        return await self._read(read)

    async def journey(
        self, *, name: str = "", booking_id: str = ""
    ) -> tuple[CheckpointHead, StoredJourney | None]:
        """Return the journey of a session, or of the one that a booking belongs to, and the state
        that it is of; None for an unknown one.
        """

        async def read(
            connection: asyncpg.Connection[Any], head: CheckpointHead
        ) -> tuple[CheckpointHead, StoredJourney | None]:
            found = name or await connection.fetchval(_SESSIONS.find_name, booking_id)
            best = await connection.fetchrow(_SESSIONS.best, found)
            if best is None:
                return head, None
            (totals,) = await connection.fetch(_SESSIONS.totals, found)
            visits = await connection.fetch(_SESSIONS.parts, found, MAX_KEPT_EVENTS)
            session = StoredSession(
                **{**best, "events": totals["events"], "last_us": totals["last_us"]}
            )
            data = "".join(part for visit in visits for part in visit["parts"])
            events = sorted(decode(data))[:MAX_KEPT_EVENTS]
            return head, StoredJourney(session, events)

        return await self._read(read)

    async def close(self) -> None:
        await self._session.close()

    async def _read(
        self,
        query: Callable[[asyncpg.Connection[Any], CheckpointHead], Coroutine[Any, Any, T]],
    ) -> T:
        async def read(connection: asyncpg.Connection[Any]) -> T:
            async with connection.transaction(isolation="repeatable_read", readonly=True):
                data = await connection.fetchval(_SESSIONS.get_head)
                return await query(connection, CheckpointHead.FromString(data or b""))

        if self._waiting > MAX_WAITING:
            raise BusyError("too many lists of sessions are read")
        self._waiting += 1
        try:
            async with asyncio.timeout(READ_TIMEOUT_S):
                return await self._session.using(read)
        except TimeoutError:
            text = f"the sessions were not read within {READ_TIMEOUT_S:g} s"
            raise LogUnavailableError(text) from None
        finally:
            self._waiting -= 1
