"""Calls without a message, calls that are reset, and streams that are not read: each has a bound,
and others are served meanwhile.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import grpc
import pytest
from pydantic_settings import SettingsConfigDict

from servicekit import arrivals, handlers
from servicekit.arrivals import MAX_PEERS, MAX_RESETS, RESETS_PER_S, Resets
from servicekit.rpc_end import RpcEnd
from servicekit.server import GrpcServer
from servicekit.settings import ServerSettings
from tests.malformed import reason_of
from tests.servicekit.raw_http2 import BOUND_S, message, raw_http2

DO = "/test.Slow/Do"
WATCH = "/grpc.health.v1.Health/Watch"
Context = grpc.aio.ServicerContext[Any, Any]


class Settings(ServerSettings):
    model_config = SettingsConfigDict(env_prefix="TEST_")


class Site:
    """A server, its ends of RPCs, and a method that waits where it is asked to."""

    def __init__(self, **environ: str) -> None:
        settings = Settings.load({"TEST_PORT": "0", "TEST_DRAIN_TIMEOUT_S": "0", **environ})
        self.ends: list[RpcEnd] = []
        self.entered = 0
        self.server = GrpcServer(settings, domain="test.domain", on_rpc=self.ends.append)
        methods: dict[str, Any] = {"Do": grpc.unary_unary_rpc_method_handler(self._do)}
        generic = grpc.method_handlers_generic_handler("test.Slow", methods)
        self.server.grpc.add_generic_rpc_handlers((generic,))
        self.port = 0
        self.channel: Any = None

    async def _do(self, request: bytes, context: Context) -> bytes:
        self.entered += 1
        if request == b"wait":
            await asyncio.Event().wait()
        return request

    async def asks(self, request: bytes = b"x") -> bytes:
        answer: bytes = await self.channel.unary_unary(DO)(request, timeout=BOUND_S)
        return answer

    def reasons(self) -> list[str]:
        return [end.reason for end in self.ends if end.reason]

    @property
    def waiting(self) -> int:
        return len(self.server._interceptor._arrivals._waiting)

    async def until_waiting(self, calls: int) -> None:
        await until(lambda: self.waiting == calls)

    async def until_entered(self, calls: int) -> None:
        await until(lambda: self.entered == calls)

    async def until_over(self, calls: int) -> None:
        await until(lambda: len(self.ends) == calls)


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(BOUND_S):
        while not condition():  # noqa: ASYNC110 - any condition
            await asyncio.sleep(0.005)


@asynccontextmanager
async def running(**environ: str) -> AsyncIterator[Site]:
    site = Site(**environ)
    site.port = await site.server.start([])
    try:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{site.port}") as channel:
            site.channel = channel
            yield site
    finally:
        await site.server.drain()


@pytest.mark.parametrize("path", [DO, WATCH])
@pytest.mark.parametrize(
    "data", [None, b"\0", message(b"", 64), message(b"abc", 64)], ids=["none", "1", "prefix", "cut"]
)
async def test_a_call_that_never_sends_its_message_ends(
    path: str, data: bytes | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(arrivals, "MAX_REQUEST_S", 0.3)
    async with running() as site, raw_http2(site.port) as client:
        stream = client.call(path, data)
        await until(lambda: site.waiting == 1)
        assert await site.asks() == b"x"
        await client.until_ended(stream)
        await until(lambda: site.reasons() == ["UNFINISHED_REQUEST"])
        assert site.waiting == 0
        assert await site.asks() == b"x"


async def test_a_call_that_ends_without_a_message_is_refused() -> None:
    async with running() as site, raw_http2(site.port) as client:
        await client.until_ended(client.call(DO, ends=True))
        await until(lambda: site.reasons() == ["MALFORMED_REQUEST"])


async def test_of_too_many_calls_that_wait_the_oldest_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arrivals, "MAX_WAITING", 4)
    monkeypatch.setattr(arrivals, "CROWDED_S", 0.0)
    async with running() as site, raw_http2(site.port) as client:
        streams = []
        for number in range(6):
            streams.append(client.call(DO))
            await site.until_waiting(min(4, number + 1))
        await client.until_ended(streams[0])
        await client.until_ended(streams[1])
        assert await site.asks() == b"x"
        await client.until_ended(streams[2])
        assert streams[3] not in client.ended


async def test_young_calls_do_not_end_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arrivals, "MAX_WAITING", 1)
    async with running() as site, raw_http2(site.port) as client:
        streams = [client.call(DO) for _ in range(5)]
        await until(lambda: site.waiting == 5)
        assert await site.asks() == b"x"
        assert client.ended.isdisjoint(streams)


async def test_a_call_that_is_reset_leaves_nothing() -> None:
    async with running() as site, raw_http2(site.port) as client:
        for data in (None, message(b"", 64), message(b"wait")):
            client.reset(client.call(DO, data))
        for _ in range(20):
            stream = client.call(DO)
            await until(lambda: site.waiting == 1)
            client.reset(stream)
            await until(lambda: site.waiting == 0)
        assert await site.asks() == b"x"
        await until(lambda: not site.server._interceptor._in_flight)
        assert site.reasons() in ([], ["CANCELLED"])


async def test_a_connection_that_resets_too_many_calls_gets_no_work_done(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(arrivals, "MAX_RESETS", 10)
    monkeypatch.setattr(arrivals, "RESETS_PER_S", 0.0)
    async with running() as site, raw_http2(site.port) as client:
        for number in range(11):
            stream = client.call(DO, message(b"wait"), ends=True)
            await site.until_entered(number + 1)
            client.reset(stream)
            await site.until_over(number + 1)
        await client.until_ended(client.call(DO, message(b"wait"), ends=True))
        await until(lambda: site.reasons()[11:] == ["TOO_MANY_RESETS"])
        assert site.entered == 11
        assert await site.asks() == b"x"


def test_resets_are_forgotten_at_a_rate_and_counted_for_the_newest_connections() -> None:
    clock = [0.0]
    resets = Resets(lambda: clock[0])

    class Of:
        def peer(self) -> str:
            return "a"

    for _ in range(MAX_RESETS + 1):
        resets.count("a")
    assert resets.too_many(Of())
    clock[0] = 2 / RESETS_PER_S
    assert not resets.too_many(Of())
    for number in range(2 * MAX_PEERS):
        resets.count(str(number))
    assert len(resets._counted) == MAX_PEERS


async def test_a_surplus_of_streams_is_refused_and_a_place_is_free_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(handlers, "MAX_STREAMS", 2)
    async with running() as site:
        watch = site.channel.unary_stream(WATCH)
        streams = [watch(b"") for _ in range(2)]
        for stream in streams:
            await stream.read()
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await watch(b"", timeout=BOUND_S).read()
        assert reason_of(raised.value) == "TOO_MANY_STREAMS"
        streams[0].cancel()
        await until(lambda: "CANCELLED" in site.reasons())
        last = watch(b"", timeout=BOUND_S)
        assert await last.read() is not grpc.aio.EOF


async def test_a_stream_that_is_not_read_keeps_nobody_waiting_and_ends_with_its_connection(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(handlers, "MAX_STREAMS", 2)
    async with (
        running(TEST_CONNECTION_AGE_S="1") as site,
        raw_http2(site.port, window=0) as client,
    ):
        for _ in range(2):
            client.call(WATCH, message(b""), ends=True)
        assert await site.asks() == b"x"
        await client.until_closed()

        async def served() -> bool:
            stream = site.channel.unary_stream(WATCH)(b"", timeout=BOUND_S)
            try:
                return await stream.read() is not grpc.aio.EOF
            except grpc.aio.AioRpcError:
                return False

        async with asyncio.timeout(BOUND_S):
            while not await served():  # noqa: ASYNC110 - any condition
                await asyncio.sleep(0.01)
