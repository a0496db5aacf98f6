"""StreamAlerts over gRPC: a reader that stalls is ended, and the others get every change."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest

from metrics_service.alerts.feed import AlertFeed
from metrics_service.rpc import alerts, register
from protos.metrics.v1 import alert_pb2 as a
from protos.metrics.v1 import alert_pb2_grpc
from servicekit.server import GrpcServer
from servicekit.settings import ServerSettings
from tests.metrics.rpc.test_streams import BOUND_S, SMALL_WINDOWS, drained

FRAME_BYTES = 100_000


class Leader:
    """The alerts of a process that leads: only their changes."""

    leads = True

    def __init__(self) -> None:
        self.feed = AlertFeed(20)
        self.feed.begin(0, [])

    def change(self, count: int) -> None:
        first = self.feed.newest + 1
        summary = "x" * FRAME_BYTES
        self.feed.add(a.AlertEvent(number=first + n, summary=summary) for n in range(count))


@contextlib.asynccontextmanager
async def serving(stall_s: float) -> AsyncIterator[tuple[Leader, alerts.AlertService, str]]:
    leader = Leader()
    service = alerts.AlertService(leader, stall_s=stall_s, repeat_s=0.1)  # type: ignore[arg-type]  # what a stream needs of it
    server = GrpcServer(
        ServerSettings.load({"PORT": "0", "DRAIN_TIMEOUT_S": "1"}), domain="metrics.farehold"
    )
    register.add_alerts(service, server.grpc)
    port = await server.start([alerts.SERVICE])
    try:
        yield leader, service, f"127.0.0.1:{port}"
    finally:
        leader.feed.close()
        await server.drain()


@contextlib.asynccontextmanager
async def reading(
    target: str, *options: tuple[str, int], after: int = 0
) -> AsyncIterator[AsyncIterator[a.StreamAlertsResponse]]:
    alone = [("grpc.use_local_subchannel_pool", 1), *options]
    async with grpc.aio.insecure_channel(target, options=alone) as channel:
        stub: Any = alert_pb2_grpc.AlertServiceStub(channel)
        yield aiter(stub.StreamAlerts(a.StreamAlertsRequest(after=after)))


async def until_number(stream: AsyncIterator[a.StreamAlertsResponse], number: int) -> list[int]:
    """The numbers that come, up to this one."""
    seen: list[int] = []
    async with asyncio.timeout(BOUND_S):
        while not seen or seen[-1] < number:
            answer = await anext(stream)
            assert not answer.HasField("gap_from")
            if answer.HasField("event"):
                seen.append(answer.event.number)
    return seen


async def test_a_reader_that_stalls_is_ended_and_the_others_notice_nothing() -> None:
    async with (
        serving(stall_s=0.5) as (leader, service, target),
        reading(target, *SMALL_WINDOWS) as slow,
    ):
        assert (await anext(slow)).HasField("as_of")
        # The other is not to be ended for a standstill of the machine.
        service._stall_s = BOUND_S
        async with reading(target) as quick:
            assert (await anext(quick)).HasField("as_of")
            seen: list[int] = []
            async with asyncio.timeout(BOUND_S):
                while leader.feed.readers == 2:
                    leader.change(5)
                    seen += await until_number(quick, leader.feed.newest)
            assert seen == list(range(1, leader.feed.newest + 1))
            with pytest.raises(grpc.aio.AioRpcError) as raised:
                await drained(slow)
            assert raised.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
            leader.change(1)
            assert await until_number(quick, leader.feed.newest) == [leader.feed.newest]


async def test_a_reader_that_comes_back_late_is_told_what_it_has_missed() -> None:
    async with serving(stall_s=BOUND_S) as (leader, _, target):
        leader.change(50)
        async with reading(target, after=10) as stream:
            async with asyncio.timeout(BOUND_S):
                assert (await anext(stream)).gap_from == 11
            assert await until_number(stream, 50) == list(range(31, 51))
        async with reading(target, after=51) as stream:
            with pytest.raises(grpc.aio.AioRpcError, match="from 0 to 50, the newest change"):
                await anext(stream)
        leader.feed.close()
        async with reading(target) as stream:
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await anext(stream)
            assert refused.value.code() is grpc.StatusCode.UNAVAILABLE
