"""What is known of the RPC being served, for code that is not handed it.

The interceptor sets it before the handler runs; outside an RPC there is none.
"""

from __future__ import annotations

import time
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Protocol


class QueryCount(Protocol):
    """Counts the database queries of one RPC; whoever runs them keeps it."""

    @property
    def queries(self) -> int:
        """How many there were so far."""


@dataclass(frozen=True, slots=True)
class Call:
    """One RPC. ``method`` is such as ``booking.v1.BookingService/StartBooking``.

    ``session_id`` is empty when the caller sent none. ``deadline`` is on `time.monotonic`, in
    seconds, with the way back already taken off; None when the caller set none. ``query_count`` is
    None where nobody counts.
    """

    method: str
    request_id: str
    caller: str
    session_id: str
    deadline: float | None
    query_count: QueryCount | None = None

    def remaining_s(self) -> float | None:
        """Seconds left for the work, never negative; None without a deadline."""
        return None if self.deadline is None else max(0.0, self.deadline - time.monotonic())


current_call: ContextVar[Call | None] = ContextVar("current_call", default=None)


def remaining_s() -> float | None:
    """Seconds that the current RPC has left; None without a deadline or outside an RPC."""
    call = current_call.get()
    return None if call is None else call.remaining_s()
