"""Holds the RPC being served in a context variable, for code that does not get it as an argument.

The interceptor sets it before the handler runs; outside an RPC it is None.
"""

from __future__ import annotations

import time
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Protocol

from servicekit.caller import Identity
from servicekit.tracing.span import Span


class QueryCount(Protocol):
    """Counts the database queries of one RPC."""

    @property
    def queries(self) -> int:
        """The number so far."""


@dataclass(frozen=True, slots=True)
class Call:
    """One RPC. `method` is in full, such as `booking.v1.BookingService/StartBooking`.

    `identity` is who calls, and `caller` its name, which is empty where none is needed.
    `session_id` is empty when the caller sent none. `deadline` is in seconds of `time.monotonic`,
    with the time for the answer's way back already subtracted; None when the caller set none.
    `query_count` is None if queries are not counted, and `span` where the call belongs to no trace.
    """

    method: str
    request_id: str
    identity: Identity
    session_id: str
    deadline: float | None
    query_count: QueryCount | None = None
    span: Span | None = None

    @property
    def caller(self) -> str:
        """The name of the identity."""
        return self.identity.name

    def remaining_s(self) -> float | None:
        """Return the seconds left for the work, never negative; None without a deadline."""
        return None if self.deadline is None else max(0.0, self.deadline - time.monotonic())


current_call: ContextVar[Call | None] = ContextVar("current_call", default=None)


def remaining_s() -> float | None:
    """Return the seconds left for the current RPC; None without a deadline or outside an RPC."""
    call = current_call.get()
    return None if call is None else call.remaining_s()
