"""Exporters that do what a test says, in place of the one that sends by OTLP."""

from __future__ import annotations

import threading
from collections.abc import Sequence

from servicekit.tracing.span import Span, new_span_id, new_trace_id


class Recording:
    """Keeps what it is given; fails while `fails` is set."""

    def __init__(self) -> None:
        self.batches: list[list[Span]] = []
        self.fails = False
        self.closed = False

    def export(self, spans: Sequence[Span]) -> str:
        self.batches.append(list(spans))
        return "UNAVAILABLE" if self.fails else ""

    def close(self) -> None:
        self.closed = True

    @property
    def spans(self) -> list[Span]:
        return [span for batch in self.batches for span in batch]


class Hanging:
    """Sends nothing: an export returns once it is closed."""

    def __init__(self) -> None:
        self.begun = threading.Event()
        self._closed = threading.Event()

    def export(self, spans: Sequence[Span]) -> str:
        self.begun.set()
        self._closed.wait()
        return "closed"

    def close(self) -> None:
        self._closed.set()


class Raising(Recording):
    """Has a fault of its own."""

    def export(self, spans: Sequence[Span]) -> str:
        super().export(spans)
        raise ValueError("secret text")


def ended(name: str = "work") -> Span:
    """A span that has ended, and was not handed on."""
    span = Span(name, new_trace_id(), new_span_id())
    span.end()
    return span
