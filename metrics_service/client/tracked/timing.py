"""Where the time of a query went, and the operation that collects the times of its parts."""

from __future__ import annotations

from contextvars import ContextVar


class Timing:
    """Nanoseconds of one query by where they went, or the sums over the parts of an operation.
    capture_id is that of its observations while it ran, 0 for none.
    """

    __slots__ = (
        "batch_size",
        "cancel_wait_ns",
        "capture_id",
        "connect_ns",
        "execute_ns",
        "pool_wait_ns",
        "rows",
    )

    def __init__(self) -> None:
        self.pool_wait_ns = 0
        self.connect_ns = 0
        self.cancel_wait_ns = 0
        self.execute_ns = 0
        self.rows = 0
        self.batch_size = 0
        self.capture_id = 0

    def add(self, part: Timing) -> None:
        """Add a part that ended, and take over its observations if there are none yet."""
        self.pool_wait_ns += part.pool_wait_ns
        self.connect_ns += part.connect_ns
        self.cancel_wait_ns += part.cancel_wait_ns
        self.execute_ns += part.execute_ns
        self.rows += part.rows
        if not self.capture_id:
            self.capture_id, part.capture_id = part.capture_id, 0


class Operation:
    """An operation around queries: collects their waits until it is done."""

    __slots__ = ("done", "parts")

    def __init__(self) -> None:
        self.parts = Timing()
        self.done = False


current_operation: ContextVar[Operation | None] = ContextVar("current_operation", default=None)
"""The operation that the queries of this context are parts of."""


def enclosing_operation() -> Operation | None:
    """Return the operation that is still open around this code. A task that outlives the operation
    it was started in is not part of it.
    """
    operation = current_operation.get()
    return None if operation is None or operation.done else operation
