"""Decides which RPCs are recorded, and begins and ends their spans.

What the caller records is recorded here too; of the other RPCs a small part is: the sampler that
OTEL_TRACES_SAMPLER, which is not read, calls parentbased_traceidratio. Without a queue nothing is
recorded, and the trace that a caller names is only carried on.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from typing import Any, Final

from grpc import StatusCode

from servicekit.errors import Kind
from servicekit.metadata import header
from servicekit.tracing import traceparent
from servicekit.tracing.queue import SpanQueue
from servicekit.tracing.span import Attributes, Span, SpanKind, new_span_id, new_trace_id

FAULTS: Final = frozenset(
    {
        StatusCode.UNKNOWN,
        StatusCode.DEADLINE_EXCEEDED,
        StatusCode.UNIMPLEMENTED,
        StatusCode.INTERNAL,
        StatusCode.UNAVAILABLE,
        StatusCode.DATA_LOSS,
    }
)
"""The codes that mean an error of the server, by the semantic conventions of gRPC: a refusal, such
as a sold out package, is none.
"""


class Tracer:
    """Makes the spans of one process.

    Of RPCs whose caller names no trace, `ratio` (0 to 1) are recorded. `server` are attributes of
    every span of an RPC, such as the address that it is served at.
    """

    def __init__(
        self,
        queue: SpanQueue | None = None,
        *,
        ratio: float = 0.0,
        server: Attributes | None = None,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self.queue = queue
        self._ratio = ratio
        self._server = {"rpc.system.name": "grpc", **(server or {})}
        self._chance = chance

    def start(self) -> None:
        """Begin to send. Needs a running event loop."""
        if self.queue is not None:
            self.queue.start()

    async def stop(self) -> None:
        """Send what is left, for a bounded time."""
        if self.queue is not None:
            await self.queue.stop()

    def begin_rpc(self, method: str, metadata: Mapping[str, Any], request_id: str) -> Span | None:
        """Return the span of an RPC, or None where neither its caller nor this process has a trace.

        `method` is in full, such as `booking.v1.BookingService/StartBooking`.
        """
        parent = traceparent.read(header(metadata, "traceparent"))
        if parent is None and (self.queue is None or self._chance() >= self._ratio):
            return None
        recorded = self.queue is not None and (parent is None or parent.sampled)
        span = Span(
            method,
            new_trace_id() if parent is None else parent.trace_id,
            # What is not recorded is nobody's parent.
            new_span_id() if recorded or parent is None else parent.span_id,
            SpanKind.SERVER,
            None if parent is None else parent.span_id,
            recorded,
            None if self.queue is None else self.queue.add,
        )
        if recorded:
            span.attributes = {**self._server, "rpc.method": method, "request_id": request_id}
        return span


def end_rpc(span: Span, code: StatusCode, *, reason: str, kind: Kind | None) -> None:
    """End the span of an RPC. `reason` and `kind` are those of the catalogue; `kind` is None for an
    end that is not in it.
    """
    attributes = span.attributes
    attributes["rpc.response.status_code"] = code.name
    if kind is not None:
        attributes["farehold.reason"] = reason
        attributes["farehold.kind"] = kind
    if code in FAULTS:
        span.error = code.name
    span.end()


OFF: Final = Tracer()
"""Records nothing."""
