"""A receiver of OTLP in the test's own loop, which keeps the spans that arrive."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import grpc
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2_grpc import (
    TraceServiceServicer,
    add_TraceServiceServicer_to_server,
)
from opentelemetry.proto.common.v1.common_pb2 import KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span

BOUND_S = 30.0


class Receiver(TraceServiceServicer):
    """Spans in the order of their arrival, and the attributes of the resources they came from."""

    def __init__(self) -> None:
        self.endpoint = ""
        self.spans: list[Span] = []
        self.resources: list[dict[str, str | int]] = []
        self._arrived = asyncio.Condition()

    async def Export(
        self, request: ExportTraceServiceRequest, context: Any
    ) -> ExportTraceServiceResponse:
        async with self._arrived:
            for each in request.resource_spans:
                self.resources.append(attributes(each.resource.attributes))
                self.spans += [span for scope in each.scope_spans for span in scope.spans]
            self._arrived.notify_all()
        return ExportTraceServiceResponse()

    async def until(self, condition: Callable[[list[Span]], object]) -> list[Span]:
        """All spans, once the condition holds for them."""
        async with asyncio.timeout(BOUND_S), self._arrived:
            await self._arrived.wait_for(lambda: bool(condition(self.spans)))
        return self.spans

    def named(self, name: str) -> list[Span]:
        return [span for span in self.spans if span.name == name]


def attributes(pairs: Any) -> dict[str, str | int]:
    """Attributes by their keys."""

    def value(pair: KeyValue) -> str | int:
        kind = pair.value.WhichOneof("value")
        assert kind in ("string_value", "int_value"), pair
        found: str | int = getattr(pair.value, kind)
        return found

    return {pair.key: value(pair) for pair in pairs}


@asynccontextmanager
async def receiving() -> AsyncIterator[Receiver]:
    """A receiver that serves at `endpoint` until the end of the block."""
    receiver = Receiver()
    server = grpc.aio.server()
    add_TraceServiceServicer_to_server(receiver, server)  # type: ignore[no-untyped-call]
    port = server.add_insecure_port("127.0.0.1:0")
    receiver.endpoint = f"http://127.0.0.1:{port}"
    await server.start()
    try:
        yield receiver
    finally:
        await server.stop(None)
