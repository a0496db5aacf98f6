"""A log of history alone: time is that of the events, whatever the real one, and nothing live is
taken.
"""

from __future__ import annotations

import asyncio
from typing import Final

import grpc
import pytest

from protos.metrics.v1 import metrics_pb2
from protos.tracking.v1 import event_pb2, tracking_pb2, tracking_pb2_grpc
from tests.metrics.raw_client import raw_client
from tests.metrics.running_service import BOUND_S, running

DAY_US: Final = 86_400_000_000
THEN_US: Final = 1_430_000_000_000_000
"""In April 2015."""


def view(time_us: int) -> bytes:
    viewed = event_pb2.Event(
        event_id=time_us.to_bytes(16),
        time_us=time_us,
        session_id=str(time_us),
        package_viewed=event_pb2.PackageViewed(package_id="p"),
    )
    return event_pb2.EventList(events=[viewed]).SerializeToString()


async def test_time_is_that_of_the_events(metrics_dsn: str) -> None:
    """Also after ticks, a producer that vanished and a restart."""
    hour = metrics_pb2.GetMetricsRequest()
    hour.window.FromSeconds(3600)
    for number in (1, 2):
        async with running(metrics_dsn, METRICS_BACKFILL_ONLY="true") as service:
            engine = service.server.engine
            async with raw_client(service.target) as client:
                at_us = THEN_US + number * 100 * DAY_US
                await client.welcome(
                    "history", lane=tracking_pb2.LANE_FACTS, mode=tracking_pb2.Hello.BACKFILL
                )
                await client.batch(number, view(at_us))
                await client.acked(number)
            after = engine.position
            async with asyncio.timeout(BOUND_S):
                while engine.position < after + 2:  # noqa: ASYNC110 - two ticks
                    await asyncio.sleep(0.02)
            answer = await service.metrics.GetMetrics(hour)
            assert answer.as_of.ToMicroseconds() == at_us
            assert answer.funnel.entered == 1
            assert service.server.event_log.leading
            everything = await service.metrics.GetMetrics(metrics_pb2.GetMetricsRequest())
            assert everything.funnel.entered == number


@pytest.mark.parametrize("lane", [tracking_pb2.LANE_FACTS, tracking_pb2.LANE_TELEMETRY])
async def test_nothing_live_is_taken(metrics_dsn: str, lane: tracking_pb2.Lane.ValueType) -> None:
    async with running(metrics_dsn, METRICS_BACKFILL_ONLY="true") as service:
        async with raw_client(service.target) as client:
            await client.hello("live", 1, lane=lane)
            nack = (await client.expect("nack")).nack
            assert nack.reason == tracking_pb2.Nack.UNSUPPORTED
        event = event_pb2.EventList.FromString(view(THEN_US)).events[0]
        stub = tracking_pb2_grpc.TrackingServiceStub(service.channel)
        with pytest.raises(grpc.aio.AioRpcError, match="history alone") as raised:
            await stub.Track(tracking_pb2.TrackRequest(service="s", event=event))
        assert raised.value.code() is grpc.StatusCode.UNAVAILABLE
