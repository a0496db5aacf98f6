"""Each RPC of a trace is one span, with the names and attributes of the semantic conventions."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc
import pytest
from grpc import StatusCode
from grpc_health.v1 import health_pb2, health_pb2_grpc
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status
from opentelemetry.semconv._incubating.attributes import rpc_attributes
from opentelemetry.semconv.attributes import error_attributes, server_attributes
from pydantic_settings import SettingsConfigDict

from servicekit.context import current_call
from servicekit.errors import INTERNAL, ApiError, ErrorSpec
from servicekit.server import GrpcServer
from servicekit.settings import ServerSettings
from servicekit.tracing import create
from servicekit.tracing.span import current_span, current_trace_id
from servicekit.tracing.tracer import Tracer
from tests.servicekit.tracing.receiver import Receiver, attributes, receiving

TRACE = "0af7651916cd43dd8448eb211c80319c"
PARENT = "b7ad6b7169203331"
RECORDED = (("traceparent", f"00-{TRACE}-{PARENT}-01"),)
NOT_RECORDED = (("traceparent", f"00-{TRACE}-{PARENT}-00"),)
SOLD_OUT = ErrorSpec("SOLD_OUT", StatusCode.FAILED_PRECONDITION, "availability", True, False, "No.")
Context = grpc.aio.ServicerContext[Any, Any]


class Settings(ServerSettings):
    model_config = SettingsConfigDict(env_prefix="TEST_")


class Stack:
    """A server whose calls do what their requests say, and what they saw of their trace."""

    def __init__(self, settings: ServerSettings) -> None:
        self.tracer: Tracer = create.tracer(settings, service="test_service", instance="one")
        self.server = GrpcServer(settings, domain="test.domain", tracer=self.tracer)
        self.trace_ids: list[bytes | None] = []
        handlers: dict[str, Any] = {"Do": grpc.unary_unary_rpc_method_handler(self._do)}
        generic = grpc.method_handlers_generic_handler("test.Echo", handlers)
        self.server.grpc.add_generic_rpc_handlers((generic,))
        self.channel: Any = None

    async def _do(self, request: bytes, context: Context) -> bytes:
        self.trace_ids.append(current_trace_id.get())
        call, span = current_call.get(), current_span.get()
        assert call is not None
        assert call.span is span
        match request:
            case b"sold out":
                raise ApiError(SOLD_OUT, "no room for grace@example.com")
            case b"fault":
                raise RuntimeError("secret text")
            case b"down":
                await context.abort(StatusCode.UNAVAILABLE, "not now")
        return request

    async def call(self, request: bytes = b"x", metadata: Any = RECORDED) -> StatusCode:
        try:
            await self.channel.unary_unary("/test.Echo/Do")(request, metadata=metadata)
        except grpc.aio.AioRpcError as error:
            return error.code()
        return StatusCode.OK


@asynccontextmanager
async def running(receiver: Receiver | None, **environ: str) -> AsyncIterator[Stack]:
    """A server that sends to `receiver`; it has sent all spans at the end of the block."""
    given = {"TEST_PORT": "0", "TEST_DRAIN_TIMEOUT_S": "0", **environ}
    if receiver is not None:
        given["OTEL_EXPORTER_OTLP_ENDPOINT"] = receiver.endpoint
    stack = Stack(Settings.load(given))
    stack.tracer.start()
    port = await stack.server.start([])
    try:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            stack.channel = channel
            yield stack
    finally:
        await stack.server.drain()
        await stack.tracer.stop()


async def span_of(request: bytes) -> Span:
    """The one span of a call, as the receiver has it."""
    async with receiving() as receiver:
        async with running(receiver) as stack:
            await stack.call(request, (*RECORDED, ("x-request-id", "r-7")))
        (span,) = await receiver.until(bool)
    return span


async def test_a_call_is_a_span_below_that_of_its_caller() -> None:
    span = await span_of(b"hello")
    assert (span.trace_id.hex(), span.parent_span_id.hex()) == (TRACE, PARENT)
    assert len(span.span_id) == 8
    assert span.name == "test.Echo/Do"
    assert span.kind == Span.SPAN_KIND_SERVER
    assert span.status.code == Status.STATUS_CODE_UNSET
    assert 0 < span.start_time_unix_nano <= span.end_time_unix_nano
    assert attributes(span.attributes) == {
        rpc_attributes.RPC_SYSTEM_NAME: "grpc",
        rpc_attributes.RPC_METHOD: "test.Echo/Do",
        rpc_attributes.RPC_RESPONSE_STATUS_CODE: "OK",
        server_attributes.SERVER_ADDRESS: "127.0.0.1",
        "request_id": "r-7",
    }


async def test_the_sender_is_named_by_its_resource() -> None:
    async with receiving() as receiver:
        async with running(receiver) as stack:
            await stack.call()
        (resource,) = receiver.resources
    assert (resource["service.name"], resource["service.instance.id"]) == ("test_service", "one")
    assert resource["service.namespace"] == "farehold"
    assert resource["service.version"]


async def test_a_refusal_is_no_error_but_has_its_reason() -> None:
    span = await span_of(b"sold out")
    found = attributes(span.attributes)
    assert span.status.code == Status.STATUS_CODE_UNSET
    assert found[rpc_attributes.RPC_RESPONSE_STATUS_CODE] == "FAILED_PRECONDITION"
    assert (found["farehold.reason"], found["farehold.kind"]) == ("SOLD_OUT", "availability")
    assert error_attributes.ERROR_TYPE not in found
    assert b"grace@example.com" not in span.SerializeToString()


@pytest.mark.parametrize(
    ("request_", "code", "reason"),
    [(b"fault", "INTERNAL", INTERNAL.reason), (b"down", "UNAVAILABLE", None)],
)
async def test_a_fault_is_an_error_without_its_text(
    request_: bytes, code: str, reason: str | None
) -> None:
    span = await span_of(request_)
    found = attributes(span.attributes)
    assert span.status.code == Status.STATUS_CODE_ERROR
    assert span.status.message == ""
    assert found[error_attributes.ERROR_TYPE] == code
    assert found.get("farehold.reason") == reason
    assert b"secret" not in span.SerializeToString()


async def test_what_the_caller_does_not_record_is_not_recorded_but_keeps_its_trace() -> None:
    async with receiving() as receiver:
        async with running(receiver, OTEL_TRACES_SAMPLER_ARG="1") as stack:
            await stack.call(metadata=NOT_RECORDED)
        assert receiver.spans == []
    assert stack.trace_ids == [bytes.fromhex(TRACE)]


@pytest.mark.parametrize(("ratio", "spans"), [("0", 0), ("1", 20)])
async def test_of_calls_without_a_trace_a_part_begins_one(ratio: str, spans: int) -> None:
    async with receiving() as receiver:
        async with running(receiver, OTEL_TRACES_SAMPLER_ARG=ratio) as stack:
            for _ in range(20):
                await stack.call(metadata=())
        # All are sent before the receiver ends.
        assert stack.tracer.queue is not None
        assert stack.tracer.queue.lost == 0
    assert len(receiver.spans) == spans
    assert len({span.trace_id for span in receiver.spans}) == spans
    assert not any(span.parent_span_id for span in receiver.spans)
    assert [trace is not None for trace in stack.trace_ids] == [spans > 0] * 20


async def test_without_an_endpoint_a_caller_s_trace_is_carried_on() -> None:
    async with running(None) as stack:
        await stack.call()
        await stack.call(metadata=())
        await stack.call(metadata=(("traceparent", "00-nonsense"),))
    assert stack.tracer.queue is None
    assert stack.trace_ids == [bytes.fromhex(TRACE), None, None]


async def test_a_health_check_is_no_span() -> None:
    async with receiving() as receiver:
        async with running(receiver) as stack:
            stub: Any = health_pb2_grpc.HealthStub(stack.channel)
            await stub.Check(health_pb2.HealthCheckRequest(), metadata=RECORDED)
            await stack.call()
        spans = await receiver.until(bool)
    assert [span.name for span in spans] == ["test.Echo/Do"]
