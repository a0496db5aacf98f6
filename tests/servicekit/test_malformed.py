"""Refused bytes take the place of a message, and end the RPC once, whatever the handler does."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import grpc
import pytest
import structlog
from grpc_health.v1 import health_pb2

from servicekit.errors import MALFORMED as MALFORMED_SPEC
from servicekit.handlers import LINE_GAP_S, LineLimit, RefusedBytes, Requests, refusing
from servicekit.rpc_end import RpcEnd
from servicekit.server import GrpcServer
from servicekit.settings import ServerSettings
from tests.malformed import MALFORMED, reason_of

BOUND_S = 20.0
GOOD = health_pb2.HealthCheckRequest(service="good").SerializeToString()
Context = grpc.aio.ServicerContext[Any, Any]


class Handlers:
    """Handlers of streams, from the plain to the careless."""

    def __init__(self) -> None:
        self.read: list[str] = []

    async def plain(self, requests: AsyncIterator[Any], context: Context) -> None:
        async for request in requests:
            self.read.append(request.service)
            await context.write(request)

    async def generating(self, requests: AsyncIterator[Any], context: Context) -> Any:
        async for request in requests:
            self.read.append(request.service)
            yield request

    async def swallowing(self, requests: AsyncIterator[Any], context: Context) -> None:
        await asyncio.gather(self.plain(requests, context), return_exceptions=True)

    async def hiding(self, requests: AsyncIterator[Any], context: Context) -> None:
        try:
            await self.plain(requests, context)
        except Exception as error:
            raise RuntimeError("another error") from error

    async def grouping(self, requests: AsyncIterator[Any], context: Context) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(self.plain(requests, context))

    async def collecting(self, requests: AsyncIterator[Any], context: Context) -> Any:
        self.read += [request.service async for request in requests]
        return health_pb2.HealthCheckRequest()


@asynccontextmanager
async def serving(handlers: Handlers, ends: list[RpcEnd]) -> AsyncIterator[tuple[GrpcServer, Any]]:
    server = GrpcServer(
        ServerSettings.load({"PORT": "0", "DRAIN_TIMEOUT_S": "1"}),
        domain="test.domain",
        on_rpc=ends.append,
    )
    codec: Any = {
        "request_deserializer": health_pb2.HealthCheckRequest.FromString,
        "response_serializer": health_pb2.HealthCheckRequest.SerializeToString,
    }
    streams = ("plain", "generating", "swallowing", "hiding", "grouping")
    methods = {
        name: grpc.stream_stream_rpc_method_handler(getattr(handlers, name), **codec)
        for name in streams
    }
    methods["collecting"] = grpc.stream_unary_rpc_method_handler(handlers.collecting, **codec)
    server.grpc.add_generic_rpc_handlers(
        (grpc.method_handlers_generic_handler("test.Streams", methods),)
    )
    port = await server.start([])
    try:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            yield server, channel
    finally:
        await server.drain()


async def drained(answers: AsyncIterator[Any]) -> None:
    async for _ in answers:
        pass


async def three(data: bytes) -> AsyncIterator[bytes]:
    for each in (GOOD, data, GOOD):
        yield each


async def error_of(channel: Any, name: str, data: bytes) -> grpc.aio.AioRpcError | None:
    """How the server has ended the stream; None where gRPC's client does not tell, since it was
    just writing a message.
    """
    path = f"/test.Streams/{name}"
    if name == "collecting":
        answering = channel.stream_unary(path)(three(data))
    else:
        answering = drained(channel.stream_stream(path)(three(data)))
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await answering
    unsent = "SendMessageOperation" in (raised.value.debug_error_string() or "")
    return None if unsent else raised.value


@pytest.mark.parametrize("data", MALFORMED, ids=range(len(MALFORMED)))
@pytest.mark.parametrize(
    "name", ["plain", "generating", "swallowing", "hiding", "grouping", "collecting"]
)
async def test_a_stream_ends_once_with_the_reason_and_reads_no_further(
    name: str, data: bytes
) -> None:
    handlers, ends = Handlers(), list[RpcEnd]()
    with structlog.testing.capture_logs() as lines:
        async with serving(handlers, ends) as (_, channel), asyncio.timeout(BOUND_S):
            while (error := await error_of(channel, name, data)) is None:
                handlers.read.clear()
                ends.clear()
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert reason_of(error) == "MALFORMED_REQUEST"
    assert handlers.read == ([] if name == "collecting" else ["good"])
    assert [(end.reason, end.kind, end.counts_as_error) for end in ends] == [
        ("MALFORMED_REQUEST", "caller", False)
    ]
    assert [line["event"] for line in lines] == ["rpc_ended"]


async def test_a_flood_is_recorded_in_full_and_logged_once_a_second(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now_s = 100.0
    ends: list[RpcEnd] = []
    with structlog.testing.capture_logs() as lines:
        async with serving(Handlers(), ends) as (server, channel):
            lines_of = {"MALFORMED_REQUEST": LineLimit(lambda: now_s)}
            monkeypatch.setattr(server._interceptor, "_refused_lines", lines_of)
            check = channel.unary_unary("/grpc.health.v1.Health/Check")
            for second in (1, 2):
                answers: list[Any] = await asyncio.gather(
                    *(check(b"\xff") for _ in range(50)), return_exceptions=True
                )
                assert all(reason_of(each) == "MALFORMED_REQUEST" for each in answers)
                now_s += second * LINE_GAP_S
    assert len(ends) == 100
    assert [(line["event"], line.get("suppressed", 0)) for line in lines] == [
        ("rpc_ended", 0),
        ("rpc_ended", 49),
    ]


def test_lines_are_limited_by_the_clock() -> None:
    times = iter((5.0, 5.1, 5.9, 6.0, 6.5, 9.0))
    limit = LineLimit(lambda: next(times))
    assert [limit.take() for _ in range(6)] == [0, None, None, 2, None, 1]


@pytest.mark.parametrize("error", [ValueError, RecursionError, UnicodeDecodeError])
def test_whatever_reading_raises_is_a_refusal_without_its_text(error: type[Exception]) -> None:
    def fail(_: bytes) -> None:
        if error is UnicodeDecodeError:
            b"\xff".decode()
        raise error("secret")

    read: Callable[[bytes], Any] | None = refusing(fail)
    assert read is not None
    refusal = read(b"")
    assert isinstance(refusal, RefusedBytes)
    assert "secret" not in refusal.message


async def test_a_refused_stream_stays_refused() -> None:
    refusal = RefusedBytes(MALFORMED_SPEC, "no")

    async def messages() -> AsyncIterator[Any]:
        for each in (1, refusal, 3):
            yield each

    requests = Requests(messages())
    assert await anext(requests) == 1
    for _ in range(3):
        with pytest.raises(RefusedBytes):
            await anext(requests)
    assert requests.refused is refusal
