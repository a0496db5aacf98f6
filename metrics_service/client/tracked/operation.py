"""Times operations around queries: only the operation counts, and the queries inside are its parts,
so that nothing is counted twice.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Awaitable, Callable
from contextvars import Token
from types import TracebackType
from typing import ParamSpec, Self, TypeVar

from metrics_service.client.queries.record import Outcome
from metrics_service.client.tracked.outcome import classify
from metrics_service.client.tracked.timing import Operation, current_operation, enclosing_operation
from metrics_service.client.tracked.tracker import Tracker, default_tracker

P = ParamSpec("P")
T = TypeVar("T")


def track_query(
    operation: str, *, model: str = "", query: str = "", tracker: Tracker | None = None
) -> TrackedOperation:
    """Time a block or a coroutine function as one operation, "model.operation".

    Use as `async with track_query(...)` or as `@track_query(...)`. query is SQL as documentation
    and is kept without literals. The execute time is the whole time without the waits for
    connections of the queries inside. Without this tracker or a default tracker, it does nothing.
    """
    return TrackedOperation(operation, model, query, tracker)


async def with_query_tracking(
    fn: Callable[[], Awaitable[T]],
    *,
    model: str,
    operation: str,
    query: str = "",
    tracker: Tracker | None = None,
) -> T:
    """Await fn() as one operation and return what it returns."""
    async with track_query(operation, model=model, query=query, tracker=tracker):
        return await fn()


class TrackedOperation:
    """The result of track_query: usable once as a context manager, or any number of times as a
    decorator of coroutine functions.
    """

    __slots__ = (
        "_begun_ns",
        "_model",
        "_name",
        "_operation",
        "_outer",
        "_query",
        "_started_us",
        "_token",
        "_tracker",
    )

    def __init__(self, name: str, model: str, query: str, tracker: Tracker | None) -> None:
        self._name = name
        self._model = model
        self._query = query
        self._tracker = tracker
        self._operation: Operation | None = None
        self._outer: Operation | None = None
        self._token: Token[Operation | None] | None = None
        self._started_us = 0
        self._begun_ns = 0

    async def __aenter__(self) -> Self:
        if self._operation is not None:
            raise RuntimeError("this track_query is in use already; make one for each block")
        tracker = self._tracker = self._tracker or default_tracker()
        if tracker is not None:
            self._outer = enclosing_operation()
            self._operation = Operation()
            self._token = current_operation.set(self._operation)
            self._started_us = tracker.now_us()
            self._begun_ns = tracker.monotonic_ns()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        tracker, operation = self._tracker, self._operation
        if tracker is None or operation is None or self._token is None:
            return
        timing = operation.parts
        waits_ns = timing.pool_wait_ns + timing.connect_ns + timing.cancel_wait_ns
        outcome, sqlstate = Outcome.OK, None
        if error is not None:
            outcome, sqlstate = classify(error, closed=isinstance(error, ConnectionError))
        whole_ns, outcome = tracker.ran(tracker.monotonic_ns() - self._begun_ns, outcome)
        # Parts may have run concurrently, and then their waits exceed the whole.
        timing.execute_ns = max(0, whole_ns - waits_ns)
        operation.done = True
        with contextlib.suppress(ValueError):  # left in another context; done has the same effect
            current_operation.reset(self._token)
        definition = tracker.statements.operation(self._model, self._name, self._query)
        internal = self._outer is not None
        if self._outer is not None:
            self._outer.parts.add(timing)
        tracker.emit(definition, self._started_us, timing, outcome, sqlstate, internal)

    def __call__(self, fn: Callable[P, Awaitable[T]]) -> Callable[P, Awaitable[T]]:
        """Wrap a coroutine function so that each call is timed."""

        @functools.wraps(fn)
        async def tracked(*args: P.args, **kwargs: P.kwargs) -> T:
            async with TrackedOperation(self._name, self._model, self._query, self._tracker):
                return await fn(*args, **kwargs)

        return tracked
