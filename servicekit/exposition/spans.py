"""What became of the spans of a process that sends traces."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from servicekit.exposition.declare import Family, Metric
from servicekit.tracing.tracer import Tracer

SPANS: Final = Metric(
    "farehold_spans_total",
    "counter",
    "Spans that were sent, dropped since too many waited, or lost in an export that failed.",
    ("outcome",),
    everywhere=True,
)


def families(tracer: Tracer) -> Iterator[Family]:
    """Yield the counts, zeros where the process sends no traces."""
    queue = tracer.queue
    sent, dropped, failed = (
        (0, 0, 0) if queue is None else (queue.sent, queue.dropped, queue.failed)
    )
    yield Family(SPANS, {("sent",): sent, ("dropped",): dropped, ("failed",): failed})
