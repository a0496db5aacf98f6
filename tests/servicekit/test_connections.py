"""Connections: their number, their age, and those that say nothing."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from pydantic_settings import SettingsConfigDict

from servicekit import server as server_module
from servicekit.server import OPTIONS, GrpcServer
from servicekit.settings import ServerSettings
from tests.servicekit.raw_http2 import BOUND_S, RawHttp2, raw_http2

MOST = 8
FEW = 4
Status = health_pb2.HealthCheckResponse


class Settings(ServerSettings):
    model_config = SettingsConfigDict(env_prefix="TEST_")


@asynccontextmanager
async def running(
    health: health_pb2_grpc.HealthServicer | None = None, **environ: str
) -> AsyncIterator[int]:
    settings = Settings.load({"TEST_PORT": "0", "TEST_DRAIN_TIMEOUT_S": "0", **environ})
    server = GrpcServer(settings, domain="test.domain")
    if health is not None:
        health_pb2_grpc.add_HealthServicer_to_server(health, server.grpc)
    port = await server.start([])
    try:
        yield port
    finally:
        await server.drain()


@asynccontextmanager
async def client(port: int) -> AsyncIterator[Any]:
    options = [("grpc.use_local_subchannel_pool", 1), ("grpc.max_reconnect_backoff_ms", 100)]
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}", options=options) as channel:
        yield health_pb2_grpc.HealthStub(channel)


async def asks(stub: Any) -> int:
    request = health_pb2.HealthCheckRequest()
    answer = await stub.Check(request, timeout=BOUND_S, wait_for_ready=True)
    return int(answer.status)


def set_option(monkeypatch: pytest.MonkeyPatch, name: str, value: int) -> None:
    others = [each for each in OPTIONS if each[0] != name]
    assert len(others) == len(OPTIONS) - 1
    monkeypatch.setattr(server_module, "OPTIONS", (*others, (name, value)))


async def test_a_connection_that_says_nothing_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    set_option(monkeypatch, "grpc.server_handshake_timeout_ms", 300)
    async with running() as port, AsyncExitStack() as stack:
        silent = [
            await stack.enter_async_context(raw_http2(port, speaks=False)) for _ in range(FEW)
        ]
        begun = await stack.enter_async_context(raw_http2(port, speaks=False))
        begun.writer.write(b"PRI * HT")
        stub = await stack.enter_async_context(client(port))
        assert await asks(stub) == Status.SERVING
        for each in (*silent, begun):
            await each.until_closed()
        assert await asks(stub) == Status.SERVING


async def test_a_connection_without_calls_is_closed_and_a_client_connects_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    set_option(monkeypatch, "grpc.max_connection_idle_ms", 300)
    async with running() as port, raw_http2(port) as idle, client(port) as stub:
        assert await asks(stub) == Status.SERVING
        await idle.until_closed()
        assert await asks(stub) == Status.SERVING


async def test_a_connection_beyond_the_limit_is_closed_and_the_others_are_served() -> None:
    async with running(TEST_CONNECTIONS_MAX=str(MOST)) as port, AsyncExitStack() as stack:
        known = await stack.enter_async_context(client(port))
        assert await asks(known) == Status.SERVING
        held: list[RawHttp2] = []
        for _ in range(MOST - 1):
            held.append(await stack.enter_async_context(raw_http2(port)))
            await held[-1].until_settled()
        async with raw_http2(port) as further:
            await further.until_closed()
        assert await asks(known) == Status.SERVING
        late = await stack.enter_async_context(client(port))
        waiting = asyncio.create_task(asks(late))
        await held[0].close()
        assert await waiting == Status.SERVING


async def test_calls_go_on_without_an_error_while_connections_are_replaced() -> None:
    peers: set[str] = set()

    class Noting(health_pb2_grpc.HealthServicer):
        async def Check(self, request: Any, context: Any) -> Any:
            peers.add(context.peer())
            return Status(status=Status.SERVING)

    async with running(Noting(), TEST_CONNECTION_AGE_S="0.2") as port, client(port) as stub:
        async with asyncio.timeout(BOUND_S):
            while len(peers) < FEW:
                calls = [stub.Check(health_pb2.HealthCheckRequest()) for _ in range(FEW)]
                assert [(await call).status for call in calls] == [Status.SERVING] * FEW


async def test_a_stream_ends_with_ok_before_its_connection_does() -> None:
    async with running(TEST_CONNECTION_AGE_S="0.3") as port, client(port) as stub:
        for _ in range(3):
            watch = stub.Watch(health_pb2.HealthCheckRequest(), timeout=BOUND_S)
            assert (await watch.read()).status == Status.SERVING
            assert await watch.read() is grpc.aio.EOF
            assert await watch.code() is grpc.StatusCode.OK
