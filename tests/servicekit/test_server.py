"""A server from bind to drain, with health, reflection, TLS and one-line failures."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from grpc import StatusCode
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2
from pydantic_settings import SettingsConfigDict

from servicekit.server import GrpcServer, StartError, run
from servicekit.settings import ServerSettings, SettingsError

BOUND_S = 10.0
Status = health_pb2.HealthCheckResponse
Context = grpc.aio.ServicerContext[Any, Any]


class Settings(ServerSettings):
    model_config = SettingsConfigDict(env_prefix="TEST_")


def make(**environ: str) -> GrpcServer:
    return GrpcServer(Settings.load({"TEST_PORT": "0", **environ}), domain="test.domain")


@asynccontextmanager
async def running(server: GrpcServer, *names: str) -> AsyncIterator[grpc.aio.Channel]:
    port = await server.start(names)
    try:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            yield channel
    finally:
        await server.drain()


async def check(channel: grpc.aio.Channel, service: str) -> int:
    stub: Any = health_pb2_grpc.HealthStub(channel)  # its types name no methods
    answer = await stub.Check(health_pb2.HealthCheckRequest(service=service), timeout=BOUND_S)
    return int(answer.status)


async def test_the_process_and_its_services_serve_once_started() -> None:
    server = make()
    server.health.set("shop.v1.Late", False)
    async with running(server, "shop.v1.Shop", "shop.v1.Late") as channel:
        assert await check(channel, "") == Status.SERVING
        assert await check(channel, "shop.v1.Shop") == Status.SERVING
        assert await check(channel, "shop.v1.Late") == Status.NOT_SERVING
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await check(channel, "shop.v1.Other")
        assert raised.value.code() is StatusCode.NOT_FOUND


async def test_the_statuses_are_listed() -> None:
    server = make()
    server.health.set("shop.v1.Late", False)
    async with running(server, "shop.v1.Shop") as channel:
        stub: Any = health_pb2_grpc.HealthStub(channel)
        request = health_pb2.HealthListRequest()  # type: ignore[attr-defined]  # the stubs lag
        answer = await stub.List(request, timeout=BOUND_S)
    assert {name: each.status for name, each in answer.statuses.items()} == {
        "": Status.SERVING,
        "shop.v1.Late": Status.NOT_SERVING,
        "shop.v1.Shop": Status.SERVING,
    }


async def test_a_watcher_gets_every_change_and_the_drain() -> None:
    server = make()
    async with running(server) as channel:
        stub: Any = health_pb2_grpc.HealthStub(channel)  # its types name no methods
        watch = stub.Watch(health_pb2.HealthCheckRequest(service="database"), timeout=BOUND_S)
        assert (await watch.read()).status == Status.SERVICE_UNKNOWN
        server.health.set("database", True)
        assert (await watch.read()).status == Status.SERVING
        server.health.set("database", True)
        server.health.set("database", False)
        assert (await watch.read()).status == Status.NOT_SERVING
        server.health.set("database", True)
        assert (await watch.read()).status == Status.SERVING
        draining = asyncio.create_task(server.drain())
        assert (await watch.read()).status == Status.NOT_SERVING
        assert await watch.read() is grpc.aio.EOF
        await draining
        server.health.set("database", True)
        assert server.health.get("database") is False


async def reflected(
    channel: grpc.aio.Channel, version: str, question: reflection_pb2.ServerReflectionRequest
) -> reflection_pb2.ServerReflectionResponse:
    """The answer of one version to one question; both have the same messages."""
    stream = channel.stream_stream(
        f"/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo",
        request_serializer=reflection_pb2.ServerReflectionRequest.SerializeToString,
        response_deserializer=reflection_pb2.ServerReflectionResponse.FromString,
    )(timeout=BOUND_S)
    await stream.write(question)
    answer = await stream.read()
    stream.cancel()
    assert isinstance(answer, reflection_pb2.ServerReflectionResponse)
    return answer


@pytest.mark.parametrize("version", ["v1", "v1alpha"])
async def test_reflection_describes_the_services_and_can_be_switched_off(version: str) -> None:
    names_please = reflection_pb2.ServerReflectionRequest(list_services="")
    async with running(make(), "grpc.health.v1.Health") as channel:
        found = await reflected(channel, version, names_please)
        names = {each.name for each in found.list_services_response.service}
        assert names == {
            "grpc.health.v1.Health",
            "grpc.reflection.v1.ServerReflection",
            "grpc.reflection.v1alpha.ServerReflection",
        }
        for name in names:
            about = reflection_pb2.ServerReflectionRequest(file_containing_symbol=name)
            described = await reflected(channel, version, about)
            files = described.file_descriptor_response.file_descriptor_proto
            file = FileDescriptorProto.FromString(files[0])
            assert name in {f"{file.package}.{service.name}" for service in file.service}
    async with running(make(TEST_REFLECTION="false"), "shop.v1.Shop") as channel:
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await reflected(channel, version, names_please)
        assert raised.value.code() is StatusCode.UNIMPLEMENTED


async def test_a_taken_port_is_one_line() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(StartError) as raised:
            await make(TEST_PORT=str(port)).start([])
    assert str(raised.value) == (
        f"cannot listen on 127.0.0.1:{port}: Address already in use; "
        "set TEST_PORT or TEST_HOST to a free one"
    )


async def test_two_servers_never_share_a_port() -> None:
    first = make()
    port = await first.start([])
    with pytest.raises(StartError, match="cannot listen"):
        await make(TEST_PORT=str(port)).start([])
    await first.drain()


class Slow:
    """A unary method that ends when the test sets its event."""

    def __init__(self, server: GrpcServer) -> None:
        self.entered = asyncio.Event()
        self.let_go = asyncio.Event()
        handlers: dict[str, Any] = {"Do": grpc.unary_unary_rpc_method_handler(self.do)}
        generic = grpc.method_handlers_generic_handler("test.Slow", handlers)
        server.grpc.add_generic_rpc_handlers((generic,))

    async def do(self, request: bytes, context: Context) -> bytes:
        self.entered.set()
        await self.let_go.wait()
        return request


async def test_a_drain_waits_for_calls_in_flight_and_takes_no_new_ones() -> None:
    server = make(TEST_DRAIN_TIMEOUT_S="10")
    slow = Slow(server)
    async with running(server) as channel, asyncio.timeout(BOUND_S):
        method: Any = channel.unary_unary("/test.Slow/Do")
        call = asyncio.ensure_future(method(b"x"))
        await slow.entered.wait()
        draining = asyncio.create_task(server.drain())
        await server.draining.wait()
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await method(b"y", timeout=BOUND_S)
        assert raised.value.code() is StatusCode.UNAVAILABLE
        assert not draining.done()
        slow.let_go.set()
        assert await call == b"x"
        await draining


async def test_a_drain_does_not_wait_longer_than_its_bound() -> None:
    server = make(TEST_DRAIN_TIMEOUT_S="0.1")
    slow = Slow(server)
    async with running(server) as channel, asyncio.timeout(BOUND_S):
        method: Any = channel.unary_unary("/test.Slow/Do")
        call = asyncio.ensure_future(method(b"x"))
        await slow.entered.wait()
        await server.drain()
        with pytest.raises(grpc.aio.AioRpcError):
            await call


def test_run_ends_with_0_on_sigterm_and_with_one_line_on_a_start_error(
    capsys: pytest.CaptureFixture[str],
) -> None:
    async def ends(stop: asyncio.Event) -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        async with asyncio.timeout(BOUND_S):
            await stop.wait()

    async def fails(_stop: asyncio.Event) -> None:
        raise StartError("the database is not there")

    async def misconfigured(_stop: asyncio.Event) -> None:
        raise SettingsError("X='1': must be 2")

    for uvloop in (True, False):
        assert run(ends, uvloop=uvloop) == 0
    assert run(fails) == 1
    assert run(misconfigured) == 2
    assert capsys.readouterr().err == "the database is not there\nX='1': must be 2\n"


async def test_a_missing_tls_file_is_one_line(tmp_path: Path) -> None:
    missing = str(tmp_path / "cert.pem")
    with pytest.raises(
        StartError, match=r"^TEST_TLS_KEY='.*cert.pem' cannot be read: No such file"
    ):
        await make(TEST_TLS_CERT=missing, TEST_TLS_KEY=missing).start([])
