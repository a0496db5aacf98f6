"""A message has at most the size that its RPC takes; a larger one is refused before it is read."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from unittest.mock import Mock

import grpc
import pytest

from servicekit.handlers import MAX_MESSAGE_BYTES, MAX_REQUEST_BYTES
from servicekit.identity.gate import Admission, Unidentified
from servicekit.interceptors import RpcInterceptor
from servicekit.metadata import caller_header
from servicekit.rpc_end import RpcEnd
from servicekit.server import GrpcServer
from servicekit.settings import ServerSettings
from tests.malformed import reason_of

BOUND_S = 20.0
Context = grpc.aio.ServicerContext[Any, Any]


class Handlers:
    """What was read; `read` is also the deserialiser, so that it sees what reaches it."""

    def __init__(self) -> None:
        self.sizes: list[int] = []

    def read(self, data: bytes) -> int:
        self.sizes.append(len(data))
        return len(data)

    async def one(self, size: int, context: Context) -> bytes:
        return b"%d" % size

    async def many(self, sizes: AsyncIterator[int], context: Context) -> None:
        async for size in sizes:
            await context.write(b"%d" % size)


@asynccontextmanager
async def serving(handlers: Handlers, ends: list[RpcEnd]) -> AsyncIterator[Any]:
    """A channel to a server where the RPCs named Large take large messages."""
    server = GrpcServer(
        ServerSettings.load({"PORT": "0"}),
        domain="test",
        on_rpc=ends.append,
        large_messages=("test.Sizes/LargeOne", "test.Sizes/LargeMany"),
    )
    methods: dict[str, Any] = {}
    for name in ("", "Large"):
        methods[f"{name}One"] = grpc.unary_unary_rpc_method_handler(
            handlers.one, request_deserializer=handlers.read
        )
        methods[f"{name}Many"] = grpc.stream_stream_rpc_method_handler(
            handlers.many, request_deserializer=handlers.read
        )
    server.grpc.add_generic_rpc_handlers(
        (grpc.method_handlers_generic_handler("test.Sizes", methods),)
    )
    port = await server.start([])
    try:
        async with (
            grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel,
            asyncio.timeout(BOUND_S),
        ):
            yield channel
    finally:
        await server.drain()


async def _messages(*sizes: int) -> AsyncIterator[bytes]:
    for size in sizes:
        yield bytes(size)


async def _read_all(call: AsyncIterator[bytes], answers: list[bytes]) -> None:
    async for answer in call:
        answers.append(answer)  # noqa: PERF401 - those before the end are kept


@pytest.mark.parametrize(
    ("name", "most"), [("One", MAX_REQUEST_BYTES), ("LargeOne", MAX_MESSAGE_BYTES)]
)
async def test_a_message_of_the_largest_size_is_read(name: str, most: int) -> None:
    handlers = Handlers()
    async with serving(handlers, []) as channel:
        assert await channel.unary_unary(f"/test.Sizes/{name}")(bytes(most)) == b"%d" % most
    assert handlers.sizes == [most]


@pytest.mark.parametrize("size", [MAX_REQUEST_BYTES + 1, MAX_MESSAGE_BYTES])
async def test_a_larger_one_is_refused_unread_with_a_reason(size: int) -> None:
    handlers, ends = Handlers(), list[RpcEnd]()
    async with serving(handlers, ends) as channel:
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await channel.unary_unary("/test.Sizes/One")(bytes(size))
        assert await channel.unary_unary("/test.Sizes/One")(b"x") == b"1"
    assert raised.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert reason_of(raised.value) == "MESSAGE_TOO_LARGE"
    assert handlers.sizes == [1]
    assert [(end.reason, end.kind, end.counts_as_error) for end in ends] == [
        ("MESSAGE_TOO_LARGE", "caller", False),
        ("", None, False),
    ]


@pytest.mark.parametrize("name", ["One", "LargeOne"])
async def test_grpc_refuses_what_no_rpc_takes(name: str) -> None:
    handlers = Handlers()
    async with serving(handlers, []) as channel:
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await channel.unary_unary(f"/test.Sizes/{name}")(bytes(MAX_MESSAGE_BYTES + 1))
        assert await channel.unary_unary(f"/test.Sizes/{name}")(b"x") == b"1"
    assert raised.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert handlers.sizes == [1]


async def test_a_stream_ends_at_the_message_that_is_too_large() -> None:
    handlers, ends = Handlers(), list[RpcEnd]()
    answers: list[bytes] = []
    async with serving(handlers, ends) as channel:
        call = channel.stream_stream("/test.Sizes/Many")(_messages(1, MAX_REQUEST_BYTES + 1, 2))
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await _read_all(call, answers)
        large = channel.stream_stream("/test.Sizes/LargeMany")(_messages(MAX_MESSAGE_BYTES))
        assert [answer async for answer in large] == [b"%d" % MAX_MESSAGE_BYTES]
    assert reason_of(raised.value) == "MESSAGE_TOO_LARGE"
    assert answers in ([b"1"], [])
    assert ends[0].reason == "MESSAGE_TOO_LARGE"


@pytest.mark.parametrize(
    ("metadata", "caller", "session"),
    [
        ({"x-caller": "a" * 128, "x-session-id": "b" * 128}, "a" * 128, "b" * 128),
        ({"x-caller": "a" * 129, "x-session-id": "b" * 129}, "local", ""),
        ({"x-caller": "\u20ac" * 43, "x-session-id": "\u20ac" * 43}, "local", ""),
        ({"x-caller": "a\x1bb", "x-session-id": "a\nb"}, "local", ""),
        ({"x-request-id": "r" * 8000}, "local", ""),
    ],
)
def test_what_is_kept_of_metadata_is_bounded(
    metadata: dict[str, str], caller: str, session: str
) -> None:
    context: Any = Mock()
    context.time_remaining.return_value = None
    identity = Unidentified(caller_header).identify(list, metadata)
    call = RpcInterceptor("test")._enter("test.Sizes/One", context, metadata, Admission(identity))
    assert (call.caller, call.session_id) == (caller, session)
    assert len(call.request_id) == 32
