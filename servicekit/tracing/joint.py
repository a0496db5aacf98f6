"""Records work that is done for several spans together as one span of its own.

It belongs to no single one of them: it is the root of a trace, and both sides link to each other.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from typing import NamedTuple

from servicekit.tracing.span import Span, current_span, new_span_id, new_trace_id, working_for


class Waiting(NamedTuple):
    """A span that waits for joint work, since so many nanoseconds of the epoch."""

    span: Span
    since_ns: int


def waiting() -> list[Waiting]:
    """Return the span of this task as one that waits from now on; none outside a trace."""
    span = current_span.get()
    return [] if span is None else [Waiting(span, time.time_ns())]


@contextmanager
def joint_span(name: str, waiters: Collection[Waiting], *, size: int) -> Iterator[Span | None]:
    """Work within the block for all that wait, and yield the span that records it.

    It is recorded where one of them is. Else there is none, and the queries within the block carry
    the first trace of the waiters, if any has one. `size` is the number of things done together.
    """
    if not waiters:
        yield None
        return
    recorded = {id(each.span): each for each in waiters if each.span.recorded}
    if not recorded:
        with working_for(next(iter(waiters)).span):
            yield None
        return
    span = _begin(name, recorded.values(), size)
    try:
        with working_for(span):
            yield span
    except BaseException as error:
        span.error = type(error).__name__
        raise
    finally:
        span.end()


def _begin(name: str, waiters: Collection[Waiting], size: int) -> Span:
    on_end = next(iter(waiters)).span.on_end
    span = Span(name, new_trace_id(), new_span_id(), on_end=on_end)
    span.attributes["farehold.group.size"] = size
    for each in waiters:
        span.link(each.span)
        waited_us = max(0, span.started_ns - each.since_ns) // 1000
        each.span.link(span, {"farehold.group.size": size, "farehold.queue_wait_us": waited_us})
    return span
