"""One span while it runs, and which one the current task works for.

A span is handed on once, at its end. It holds names, numbers and identifiers: never the body of a
message, a literal of a query or a user.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from enum import Enum
from typing import Final

from servicekit.tracing.traceparent import SPAN_ID_BYTES, TRACE_ID_BYTES

MAX_LINKS: Final = 128
"""Links of one span; further ones are left out."""

Attributes = Mapping[str, str | int]


class SpanKind(Enum):
    """The side of a call that a span is; the names of OpenTelemetry."""

    INTERNAL = "internal"
    SERVER = "server"
    CLIENT = "client"


@dataclass(frozen=True, slots=True)
class Link:
    """Another span that this one belongs with, though neither is the other's parent."""

    trace_id: bytes
    span_id: bytes
    attributes: Attributes = field(default_factory=dict)


@dataclass(slots=True, eq=False)
class Span:
    """A span of 16 bytes of trace and 8 of its own; times are nanoseconds since the epoch.

    One that is not `recorded` only carries its caller's trace. `on_end` takes it once it has ended.
    `error` says how a span failed, in a word: its attribute error.type; empty for one that did not.
    """

    name: str
    trace_id: bytes
    span_id: bytes
    kind: SpanKind = SpanKind.INTERNAL
    parent_id: bytes | None = None
    recorded: bool = True
    on_end: Callable[[Span], None] | None = None
    started_ns: int = field(default_factory=time.time_ns)
    ended_ns: int = 0
    attributes: dict[str, str | int] = field(default_factory=dict)
    links: list[Link] = field(default_factory=list)
    error: str = ""

    def link(self, other: Span, attributes: Attributes | None = None) -> None:
        """Link to another span, unless this one has MAX_LINKS, has ended or is not recorded."""
        if self.recorded and not self.ended_ns and len(self.links) < MAX_LINKS:
            self.links.append(Link(other.trace_id, other.span_id, attributes or {}))

    def child(self, name: str, kind: SpanKind, started_ns: int) -> Span:
        """Make a span below this one, recorded where this one is."""
        return Span(
            name,
            self.trace_id,
            new_span_id(),
            kind,
            self.span_id,
            self.recorded,
            self.on_end,
            started_ns,
        )

    def end(self, ended_ns: int | None = None) -> None:
        """End the span, by default now, and hand it on; a second end changes nothing."""
        if self.ended_ns:
            return
        self.ended_ns = ended_ns or time.time_ns()
        if self.error:
            self.attributes["error.type"] = self.error
        if self.recorded and self.on_end is not None:
            self.on_end(self)


current_span: ContextVar[Span | None] = ContextVar("current_span", default=None)
"""The span that this task works for."""

current_trace_id: ContextVar[bytes | None] = ContextVar("current_trace_id", default=None)
"""The 16 bytes of its trace, also where nothing is recorded; the records of queries carry them."""


def enter(span: Span) -> None:
    """Work for a span from now on, in this task and those that it starts."""
    current_span.set(span)
    current_trace_id.set(span.trace_id)


@contextmanager
def working_for(span: Span) -> Iterator[None]:
    """Work for a span within the block."""
    outer, outer_trace = current_span.set(span), current_trace_id.set(span.trace_id)
    try:
        yield
    finally:
        current_span.reset(outer)
        current_trace_id.reset(outer_trace)


def new_trace_id() -> bytes:
    """Return a random trace id."""
    return os.urandom(TRACE_ID_BYTES)


def new_span_id() -> bytes:
    """Return a random span id."""
    return os.urandom(SPAN_ID_BYTES)
