"""The functions behind a service's own endpoints, against a running server."""

from __future__ import annotations

from datetime import timedelta

import grpc
import pytest

from metrics_service import client
from protos.metrics.v1.health_pb2 import DatabaseHealth
from protos.metrics.v1.metrics_pb2 import GetFunnelRequest
from protos.metrics.v1.series_pb2 import DIMENSION_VENDOR
from servicekit.binaries import free_port
from tests.metrics.rpc.running_servicers import serve

HOUR = timedelta(hours=1)
HOUR_US = 3_600_000_000


async def test_the_health_of_the_database_is_the_verdict() -> None:
    async with serve() as running:
        running.health.reasons.add(criterion="p95_ms", value=1_200.5)
        health = await client.check_database_health(f"127.0.0.1:{running.port}")
        assert health == running.health
        assert health.status == DatabaseHealth.HEALTHY


async def test_the_health_of_nothing_is_unavailable() -> None:
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await client.check_database_health(f"127.0.0.1:{free_port()}")
    assert raised.value.code() is grpc.StatusCode.UNAVAILABLE


async def test_the_endpoint_reads_metrics_funnel_and_errors() -> None:
    async with serve() as running:
        running.figures.revision = 7
        target = f"127.0.0.1:{running.port}"
        async with client.create_booking_metrics_endpoint(target, token="t") as endpoint:
            metrics = await endpoint.get_metrics()
            funnel = await endpoint.get_conversion_funnel(
                HOUR, 2 * HOUR, matured=True, by=DIMENSION_VENDOR
            )
            errors = await endpoint.get_error_breakdown(HOUR)
            asked = list(running.figures.asked)
            with pytest.raises(grpc.aio.AioRpcError) as raised:
                await endpoint.get_metrics(timedelta(seconds=7))
    assert [answer.revision for answer in (metrics, funnel, errors)] == [7, 7, 7]
    request = GetFunnelRequest(state=GetFunnelRequest.MATURED, by=DIMENSION_VENDOR)
    assert asked == [None, (HOUR_US, 2 * HOUR_US, request), HOUR_US]
    assert raised.value.code() is grpc.StatusCode.INVALID_ARGUMENT
