"""Every RPC ends exactly once, with the status, the record and the log line that belong to it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc
import pytest
from google.rpc import error_details_pb2 as details
from grpc import StatusCode
from grpc_status import rpc_status
from pydantic_settings import SettingsConfigDict

from servicekit import interceptors
from servicekit.context import Call, current_call, remaining_s
from servicekit.errors import ApiError, ErrorSpec, Violation, invalid
from servicekit.rpc_end import RpcEnd
from servicekit.server import GrpcServer
from servicekit.settings import ServerSettings

BOUND_S = 10.0
FULL = ErrorSpec("FULL", StatusCode.FAILED_PRECONDITION, "availability", True, True, "Full.")
Context = grpc.aio.ServicerContext[Any, Any]


class Settings(ServerSettings):
    model_config = SettingsConfigDict(env_prefix="TEST_")


class Echo:
    """A service of raw bytes: the request says what the handler does."""

    def __init__(self) -> None:
        self.calls: list[Call] = []
        self.entered = asyncio.Event()
        self.cancelled = asyncio.Event()

    async def do(self, request: bytes, context: Context) -> bytes:
        call = current_call.get()
        assert call is not None
        self.calls.append(call)
        self.entered.set()
        match request:
            case b"refuse":
                raise ApiError(FULL, "no room", metadata={"free": "0"})
            case b"bad":
                raise invalid([Violation("a", "is missing"), Violation("b", "is wrong")])
            case b"fault":
                raise RuntimeError("secret text")
            case b"abort":
                await context.abort(StatusCode.UNIMPLEMENTED, "not here")
            case b"stray":
                # Something the handler waits for is cancelled; the RPC itself is not.
                future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
                future.cancel()
                await future
            case b"left":
                return str(remaining_s()).encode()
            case b"hang":
                try:
                    await asyncio.Event().wait()
                except asyncio.CancelledError:
                    self.cancelled.set()
                    raise
        return b"ok:" + request

    async def write(self, request: bytes, context: Context) -> None:
        for number in range(3):
            await context.write(b"%d" % number)
        await self.do(request, context)

    async def generate(self, request: bytes, context: Context) -> AsyncIterator[bytes]:
        for number in range(3):
            yield b"%d" % number
        await self.do(request, context)

    async def talk(self, requests: AsyncIterator[bytes], context: Context) -> None:
        async for request in requests:
            await context.write(await self.do(request, context))


class Stack:
    """A server with the echo service, a channel to it, and the ends of its RPCs."""

    def __init__(self, settings: ServerSettings) -> None:
        self.ends: list[RpcEnd] = []
        self.ended = asyncio.Event()
        self.echo = Echo()
        self.server = GrpcServer(settings, domain="test.domain", on_rpc=self.on_rpc)
        handlers: dict[str, Any] = {
            "Do": grpc.unary_unary_rpc_method_handler(self.echo.do),
            "Write": grpc.unary_stream_rpc_method_handler(self.echo.write),
            "Generate": grpc.unary_stream_rpc_method_handler(self.echo.generate),
            "Talk": grpc.stream_stream_rpc_method_handler(self.echo.talk),
        }
        generic = grpc.method_handlers_generic_handler("test.Echo", handlers)
        self.server.grpc.add_generic_rpc_handlers((generic,))
        self.channel: Any = None

    def on_rpc(self, end: RpcEnd) -> None:
        self.ends.append(end)
        self.ended.set()

    async def call(self, request: bytes, **options: Any) -> bytes:
        answer: bytes = await self.channel.unary_unary("/test.Echo/Do")(request, **options)
        return answer

    async def last_end(self) -> RpcEnd:
        async with asyncio.timeout(BOUND_S):
            await self.ended.wait()
        return self.ends[-1]


@asynccontextmanager
async def running(**environ: str) -> AsyncIterator[Stack]:
    stack = Stack(Settings.load({"TEST_PORT": "0", "TEST_DRAIN_TIMEOUT_S": "0", **environ}))
    port = await stack.server.start([])
    try:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            stack.channel = channel
            yield stack
    finally:
        await stack.server.drain()


async def test_an_answer_is_recorded_as_ok_with_its_request_and_time() -> None:
    async with running() as stack:
        assert await stack.call(b"x") == b"ok:x"
        end = await stack.last_end()
    assert (end.method, end.code, end.reason, end.kind) == ("test.Echo/Do", StatusCode.OK, "", None)
    assert end.request == b"x"
    assert 0 < end.duration_us < BOUND_S * 1e6


async def test_a_refusal_is_a_rich_status_and_recorded_by_the_catalogue() -> None:
    async with running() as stack:
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await stack.call(b"refuse")
        end = await stack.last_end()
    status = rpc_status.from_call(raised.value)  # type: ignore[arg-type]  # it serves both kinds
    info = details.ErrorInfo()
    assert status.details[0].Unpack(info)
    assert (info.reason, info.domain, info.metadata["free"]) == ("FULL", "test.domain", "0")
    assert raised.value.code() is StatusCode.FAILED_PRECONDITION
    assert (end.reason, end.kind, end.counts_as_error) == ("FULL", "availability", True)


async def test_all_violations_arrive_in_one_answer() -> None:
    async with running() as stack:
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await stack.call(b"bad")
    status = rpc_status.from_call(raised.value)  # type: ignore[arg-type]  # it serves both kinds
    bad_request = details.BadRequest()
    assert status.details[1].Unpack(bad_request)
    assert [each.field for each in bad_request.field_violations] == ["a", "b"]


@pytest.mark.parametrize("request_", [b"fault", b"stray"])
async def test_an_unexpected_error_shows_a_correlation_id_and_no_text(
    request_: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    async with running() as stack:
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await stack.call(request_, timeout=BOUND_S)
        end = await stack.last_end()
    assert raised.value.code() is StatusCode.INTERNAL
    assert "secret text" not in str(raised.value.details())
    assert end.call.request_id in str(raised.value.details())
    assert (end.reason, end.counts_as_error) == ("INTERNAL", True)
    logged = capsys.readouterr().out
    assert end.call.request_id in logged
    assert "Traceback" in logged


async def test_a_status_that_the_handler_sets_itself_is_kept() -> None:
    async with running() as stack:
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await stack.call(b"abort")
        end = await stack.last_end()
    assert raised.value.code() is StatusCode.UNIMPLEMENTED
    assert (end.code, end.reason) == (StatusCode.UNIMPLEMENTED, "UNIMPLEMENTED")


@pytest.mark.parametrize("method", ["Write", "Generate"])
async def test_streams_answer_in_order_and_refuse_richly(method: str) -> None:
    async with running() as stack:
        stream = stack.channel.unary_stream(f"/test.Echo/{method}")
        assert [each async for each in stream(b"x")] == [b"0", b"1", b"2"]
        assert (await stack.last_end()).code is StatusCode.OK
        refused = stream(b"refuse")
        assert [await refused.read() for _ in range(3)] == [b"0", b"1", b"2"]
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await refused.read()
        assert raised.value.code() is StatusCode.FAILED_PRECONDITION
        assert stack.ends[-1].reason == "FULL"


async def test_a_bidirectional_stream_is_served_and_recorded_without_a_request() -> None:
    async with running() as stack:
        talk = stack.channel.stream_stream("/test.Echo/Talk")()
        await talk.write(b"one")
        assert await talk.read() == b"ok:one"
        await talk.done_writing()
        assert await talk.read() is grpc.aio.EOF
        end = await stack.last_end()
    assert (end.method, end.code, end.request) == ("test.Echo/Talk", StatusCode.OK, None)


@pytest.mark.parametrize("method", ["Do", "Write"])
async def test_a_call_that_its_client_leaves_is_cancelled_and_counts_as_no_error(
    method: str,
) -> None:
    async with running() as stack:
        if method == "Do":
            call = stack.channel.unary_unary("/test.Echo/Do")(b"hang")
        else:
            call = stack.channel.unary_stream("/test.Echo/Write")(b"hang")
        async with asyncio.timeout(BOUND_S):
            await stack.echo.entered.wait()
            call.cancel()
            await stack.echo.cancelled.wait()
        end = await stack.last_end()
    assert (end.code, end.reason, end.counts_as_error) == (
        StatusCode.CANCELLED,
        "CANCELLED",
        False,
    )


async def test_an_expired_deadline_is_distinguished_from_a_client_that_leaves(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # The client, whose clock began to run before the call was sent, gives up first; however late
    # the call arrived, its time is over by then.
    monkeypatch.setattr(interceptors, "WAY_BACK_S", 1.5)
    async with running() as stack:
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await stack.call(b"hang", timeout=2.0)
        end = await stack.last_end()
    assert raised.value.code() is StatusCode.DEADLINE_EXCEEDED
    assert end.code is StatusCode.DEADLINE_EXCEEDED
    assert not end.counts_as_error


async def test_the_deadline_is_a_budget_with_the_way_back_taken_off(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(interceptors, "WAY_BACK_S", 20.0)
    async with running() as stack:
        left_s = float(await stack.call(b"left", timeout=60.0))
        # A time-out is rounded up on its way.
        assert 20.0 < left_s < 41.0
        assert await stack.call(b"left") == b"None"


async def test_too_little_time_is_refused_before_any_work(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(interceptors, "WAY_BACK_S", 60.0)
    async with running() as stack:
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await stack.call(b"x", timeout=BOUND_S)
        end = await stack.last_end()
        assert stack.echo.calls == []
        assert await stack.call(b"x") == b"ok:x"
    assert raised.value.code() is StatusCode.DEADLINE_EXCEEDED
    assert (end.reason, end.kind) == ("DEADLINE_TOO_SHORT", "caller")


async def test_request_id_session_and_caller_come_from_metadata() -> None:
    sent = (("x-request-id", "r-7"), ("x-session-id", "s-7"), ("x-caller", "desk"))
    async with running(TEST_TRUST_CALLER_HEADER="true") as stack:
        await stack.call(b"x", metadata=sent)
        (call,) = stack.echo.calls
    assert (call.request_id, call.session_id, call.caller) == ("r-7", "s-7", "desk")


async def test_a_caller_header_that_is_not_trusted_and_bad_headers_are_dropped() -> None:
    sent = (("x-session-id", "s" * 129), ("x-caller", "desk"), ("x-request-id", "r" * 129))
    async with running() as stack:
        await stack.call(b"x", metadata=sent)
        await stack.call(b"x")
        first, second = stack.echo.calls
    assert (first.session_id, first.caller) == ("", "local")
    assert len(first.request_id) == 32
    assert first.request_id != second.request_id


async def test_a_callback_that_raises_changes_no_call() -> None:
    async with running() as stack:

        def broken(_end: RpcEnd) -> None:
            raise ValueError("hook")

        stack.server._interceptor._on_rpc = broken
        assert await stack.call(b"x") == b"ok:x"


async def test_an_unknown_method_is_unimplemented() -> None:
    async with running() as stack:
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await stack.channel.unary_unary("/test.Echo/Nothing")(b"x")
    assert raised.value.code() is StatusCode.UNIMPLEMENTED


async def test_the_budget_is_measured_on_the_monotonic_clock() -> None:
    async with running() as stack:
        before = time.monotonic()
        await stack.call(b"x", timeout=20.0)
        after = time.monotonic()
        (call,) = stack.echo.calls
    assert call.deadline is not None
    # A time-out is rounded up on its way.
    assert before + 19.0 < call.deadline < after + 21.0
