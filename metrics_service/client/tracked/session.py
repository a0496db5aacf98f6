"""Tracks the session of a connection: how it ended, and how to undo what was left in it."""
# The signatures with a timeout are asyncpg's.
# ruff: noqa: ASYNC109

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

from metrics_service.client.queries import statements
from metrics_service.client.queries.record import Outcome
from metrics_service.client.queries.statements import Statement
from metrics_service.client.tracked import internals
from metrics_service.client.tracked.pooler import set_session
from metrics_service.client.tracked.timing import Timing
from metrics_service.client.tracked.tracker import Tracker

NO_SETTINGS: Final[Mapping[str, str]] = MappingProxyType({})

# A seed cannot be undone, only replaced.
TAKE_BACK: Final = """
RESET SESSION AUTHORIZATION;
RESET ROLE;
DISCARD TEMP;
SELECT pg_catalog.setseed(pg_catalog.date_part('microseconds', clock_timestamp()) / 60000000);
"""

# The driver's own statements are not from_sql.
PREPARED: Final = """
SELECT pg_catalog.quote_ident(name) FROM pg_catalog.pg_prepared_statements WHERE from_sql
"""


class Session:
    """The state that is needed when a connection ends, without the connection."""

    __slots__ = ("__weakref__", "busy", "orderly", "tracker")

    def __init__(self) -> None:
        self.tracker: Tracker | None = None
        self.busy = 0
        self.orderly = False

    def ended(self, _: object) -> None:
        """Count a connection that was lost. A query that ran on it makes its own record."""
        self.unwatch_pauses()
        tracker = self.tracker
        if tracker is None or self.orderly:
            return
        tracker.connections_lost += 1
        if not self.busy:
            lost = statements.CONNECTION_LOST.definition
            tracker.emit(
                lost, tracker.now_us(), Timing(), Outcome.CONNECTION_LOST, None, internal=True
            )

    def unwatch_pauses(self) -> None:
        """End the watch for pauses."""
        if self.tracker is not None:
            self.tracker.pauses.leave(self)


class SessionConnection(internals.Connection):
    """A connection that tracks whether something may be left in its session."""

    __slots__ = (
        "_lasting_state",
        "_reset_on_release",
        "_server_pid",
        "_session",
        "_session_settings",
        "_session_state",
    )

    if TYPE_CHECKING:

        @contextlib.contextmanager
        def driving(self, statement: Statement) -> Iterator[None]: ...

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._reset_on_release = True
        self._session_state = False
        # Whether undoing more than asyncpg's reset may undo what init= made to stay.
        self._lasting_state = False
        self._session = Session()
        self._session_settings = NO_SETTINGS
        self._server_pid = 0

    async def keep_settings(self, settings: Mapping[str, str], timeout: float | None) -> None:
        """Make these settings in the session, now and again after each reset."""
        self._server_pid = await set_session(self, settings, timeout)
        self._session_settings = settings

    def get_server_pid(self) -> int:
        """Return the id of the server's process, also where a pooler gives another one."""
        return self._server_pid or super().get_server_pid()

    async def reset(self, *, timeout: float | None = None) -> None:
        """Reset as asyncpg does, as an internal query; return at once if there is nothing to reset.
        What asyncpg's reset leaves is undone after it if needed; if that fails, the pool replaces
        the connection.
        """
        if self.clean():
            return
        loop = asyncio.get_running_loop()
        deadline_s = None if timeout is None else loop.time() + timeout
        undoes_settings = bool(self._session_settings and self.get_reset_query())
        with self.driving(statements.RESET):
            await super().reset(timeout=timeout)
        if not (self._session_state or undoes_settings):
            return
        try:
            async with asyncio.timeout_at(deadline_s):
                taken_back = not self._session_state or await self._take_back()
                if taken_back and undoes_settings:
                    with self.driving(statements.RESET):
                        await set_session(self, self._session_settings)
        except Exception:
            # asyncpg would have released it: no failure here may reach the caller.
            taken_back = False
        if taken_back:
            self._session_state = False
        else:
            self._expire()

    def clean(self) -> bool:
        """Whether it is open and a reset would have nothing to undo."""
        return not (
            self._reset_on_release
            or self._session_state
            or self._listeners
            or self._log_listeners
            or self._top_xact is not None
            or self.is_closed()
            or self._protocol.is_in_transaction()
        )

    def get_reset_query(self) -> str:
        """Return asyncpg's reset query, or an empty one if nothing can be left to reset."""
        needed = self._reset_on_release or self._session_state
        return super().get_reset_query() if needed else ""

    async def close(self, *, timeout: float | None = None) -> None:
        self._session.orderly = True
        try:
            await super().close(timeout=timeout)
        finally:
            self._session.unwatch_pauses()

    def terminate(self) -> None:
        self._session.orderly = True
        super().terminate()
        self._session.unwatch_pauses()

    def watch_pauses(self, tracker: Tracker) -> None:
        """Have the tracker detect pauses until the connection ends; a pool does so for its own."""
        tracker.pauses.watch(self._session)

    async def _take_back(self) -> bool:
        """Undo what asyncpg's reset leaves; False if that would also undo what init= made."""
        if self._lasting_state:
            return False
        with self.driving(statements.TAKE_BACK):
            await self.execute(TAKE_BACK)
            prepared = [name for (name,) in await self.fetch(PREPARED)]
            if prepared:
                await self.execute(";".join(f"DEALLOCATE {name}" for name in prepared))
        return True

    def _expire(self) -> None:
        """Have its pool replace it, as expire_connections does."""
        holder = None if self._pool_holder is None else self._pool_holder()
        if holder is not None:
            holder._generation = None


def may_last(query: str) -> bool:
    """Whether a statement of init= may make something that asyncpg's reset leaves but undoing what
    callers left would remove: a role, a temporary object, a prepared statement.
    """
    return _LASTING.search(query) is not None


_LASTING: Final = re.compile(
    r"\b(?:role|authorization|temp|temporary|prepare|do|call|set_config|pg_settings)\b"
    r'|pg_temp|u&"',
    re.IGNORECASE,
)
