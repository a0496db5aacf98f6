"""RPCs counted by a real server: once begun, once ended, with their messages."""

from __future__ import annotations

from typing import Any

import grpc
import pytest
from grpc import StatusCode
from pydantic_settings import SettingsConfigDict

from protos.metrics.v1 import health_pb2, health_pb2_grpc
from protos.metrics.v1.health_pb2 import (
    DatabaseHealth,
    GetDatabaseHealthRequest,
    WatchDatabaseHealthRequest,
)
from servicekit.errors import INVALID_ARGUMENT, ApiError
from servicekit.exposition.rpcs import CODES, FROM_ZERO, HANDLED, HANDLING, RpcCounts
from servicekit.server import GrpcServer
from servicekit.settings import ServerSettings

NAME = health_pb2.DESCRIPTOR.services_by_name["HealthService"].full_name
UNARY = ("unary", NAME, "GetDatabaseHealth")
STREAM = ("server_stream", NAME, "WatchDatabaseHealth")


class Settings(ServerSettings):
    model_config = SettingsConfigDict(env_prefix="TEST_")


class Servicer(health_pb2_grpc.HealthServiceServicer):
    async def GetDatabaseHealth(
        self, request: GetDatabaseHealthRequest, context: object
    ) -> DatabaseHealth:
        if request.page_size == 7:
            raise ApiError(INVALID_ARGUMENT, "no")
        if request.page_size == 8:
            raise ZeroDivisionError
        return DatabaseHealth()

    async def WatchDatabaseHealth(self, request: object, context: object):  # type: ignore[no-untyped-def]
        for _ in range(3):
            yield DatabaseHealth()


def values(counts: RpcCounts) -> dict[str, dict[tuple[str, ...], object]]:
    return {family.metric.name: dict(family.samples) for family in counts.families()}


async def test_every_call_is_counted_once_with_its_messages() -> None:
    server = GrpcServer(Settings.load({"TEST_PORT": "0"}), domain="test")
    health_pb2_grpc.add_HealthServiceServicer_to_server(Servicer(), server.grpc)
    port = await server.start([NAME])
    zeros = values(server.counts)
    assert zeros["grpc_server_started_total"] == {UNARY: 0, STREAM: 0}
    assert zeros["grpc_server_handled_total"] == {
        (*labels, CODES[code]): 0 for labels in (UNARY, STREAM) for code in FROM_ZERO
    }
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        stub = health_pb2_grpc.HealthServiceStub(channel)
        await stub.GetDatabaseHealth(GetDatabaseHealthRequest())
        for size, code in ((7, StatusCode.INVALID_ARGUMENT), (8, StatusCode.INTERNAL)):
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await stub.GetDatabaseHealth(GetDatabaseHealthRequest(page_size=size))
            assert refused.value.code() is code
        raw: Any = channel.unary_unary(f"/{NAME}/GetDatabaseHealth")
        with pytest.raises(grpc.aio.AioRpcError):
            await raw(b"\xff\xff")
        assert (
            len([each async for each in stub.WatchDatabaseHealth(WatchDatabaseHealthRequest())])
            == 3
        )
        check: Any = channel.unary_unary("/grpc.health.v1.Health/Check")
        await check(b"")
        unknown: Any = channel.unary_unary(f"/{NAME}/Unknown")
        with pytest.raises(grpc.aio.AioRpcError):
            await unknown(b"")
    await server.drain()
    found = values(server.counts)
    assert found["grpc_server_started_total"] == {UNARY: 4, STREAM: 1}
    ended = {labels: count for labels, count in found[HANDLED.name].items() if count}
    assert ended == {
        (*UNARY, "OK"): 1,
        (*UNARY, "InvalidArgument"): 2,
        (*UNARY, "Internal"): 1,
        (*STREAM, "OK"): 1,
    }
    assert found["grpc_server_msg_received_total"] == {UNARY: 4, STREAM: 1}
    assert found["grpc_server_msg_sent_total"] == {UNARY: 1, STREAM: 3}
    times = found[HANDLING.name]
    assert [times[labels].counts[-1] for labels in (UNARY, STREAM)] == [4, 1]  # type: ignore[attr-defined]


def test_codes_are_those_of_the_common_dashboards() -> None:
    assert CODES[StatusCode.OK] == "OK"
    assert CODES[StatusCode.CANCELLED] == "Canceled"
    assert CODES[StatusCode.DEADLINE_EXCEEDED] == "DeadlineExceeded"
    assert len({*CODES.values()}) == len(StatusCode)


def test_services_without_a_known_contract_are_counted_from_their_first_call() -> None:
    counts = RpcCounts()
    counts.declare(["nobody.v1.Knows"])
    assert values(counts)["grpc_server_started_total"] == {}
    handler: Any = grpc.unary_unary_rpc_method_handler(lambda *_: None)
    counts.of("nobody.v1.Knows/It", handler)
    counts.begin("nobody.v1.Knows/It")
    counts.end("nobody.v1.Knows/It", StatusCode.OK, 5_000)
    assert values(counts)["grpc_server_started_total"] == {("unary", "nobody.v1.Knows", "It"): 1}
