"""What an observer sees of running queries, without importing the connections that run them."""

from __future__ import annotations

from typing import Any, Protocol


class RunningQuery(Protocol):
    """A query of the user that is with the server now."""

    capture_id: int
    """That of its observations; 0 before the first."""

    @property
    def statement(self) -> Any:
        """A Statement or a NamedQuery."""

    @property
    def started_us(self) -> int:
        """When it was called, by the tracker's now_us."""

    @property
    def sent_ns(self) -> int:
        """When it was sent, by the tracker's monotonic_ns."""

    @property
    def trace_id(self) -> bytes | None:
        """The trace it belongs to."""


class RunningConnection(Protocol):
    """A connection whose running query can be observed."""

    @property
    def running(self) -> RunningQuery | None:
        """The user's query that is with the server now."""

    def is_closed(self) -> bool:
        """Whether there is no server process any more."""

    def get_server_pid(self) -> int:
        """Return the process id of the backend."""
