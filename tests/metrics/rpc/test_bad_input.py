"""Every bad field of a request is named, all of them in one BadRequest."""

from __future__ import annotations

from typing import cast

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.rpc import error_details_pb2
from grpc_status.rpc_status import from_call

from protos.metrics.v1 import metrics_pb2 as m
from protos.metrics.v1.deployment_pb2 import (
    GetDeploymentReportRequest,
    ListDeploymentsRequest,
    MarkDeploymentRequest,
)
from protos.metrics.v1.deployment_pb2_grpc import DeploymentServiceStub
from protos.metrics.v1.health_pb2 import GetDatabaseHealthRequest, WatchDatabaseHealthRequest
from protos.metrics.v1.journey_pb2 import GetJourneyRequest, ListSessionsRequest
from protos.metrics.v1.series_pb2 import GetSeriesRequest
from tests.metrics.rpc.running_servicers import Servicers, serve

MINUTE, HOUR, DAY = 60, 3600, 86400


def seconds(value: float) -> Duration:
    duration = Duration()
    duration.FromMicroseconds(round(value * 1_000_000))
    return duration


BAD_WINDOWS = [
    seconds(0),
    seconds(-10),
    seconds(5),
    seconds(15),
    seconds(10.000001),
    seconds(HOUR + 10),
    seconds(DAY + MINUTE),
    seconds(31 * DAY),
    Duration(seconds=10, nanos=-1_000_000),
    Duration(seconds=10, nanos=1),
    Duration(seconds=10, nanos=2_000_000_000),
    Duration(seconds=2**62),
]


async def ask(running: Servicers, request: Message) -> Message:
    """Send a request to the method that takes it; a stream gives its first message."""
    async with running.connection() as channel:
        deployments = DeploymentServiceStub(channel)
        match request:
            case MarkDeploymentRequest():
                return await deployments.MarkDeployment(request)
            case ListDeploymentsRequest():
                return await deployments.ListDeployments(request)
            case GetDeploymentReportRequest():
                return await deployments.GetDeploymentReport(request)
    async with running.channel() as (metrics, health):
        match request:
            case m.GetMetricsRequest():
                return await metrics.GetMetrics(request)
            case m.GetFunnelRequest():
                return await metrics.GetFunnel(request)
            case m.GetErrorBreakdownRequest():
                return await metrics.GetErrorBreakdown(request)
            case m.GetQueryStatsRequest():
                return await metrics.GetQueryStats(request)
            case m.ListRecentQueriesRequest():
                return await metrics.ListRecentQueries(request)
            case m.ListSlowQueriesRequest():
                return await metrics.ListSlowQueries(request)
            case GetJourneyRequest():
                return await metrics.GetJourney(request)
            case ListSessionsRequest():
                return await metrics.ListSessions(request)
            case GetSeriesRequest():
                return await metrics.GetSeries(request)
            case m.StreamMetricsRequest():
                return await anext(aiter(metrics.StreamMetrics(request)))
            case GetDatabaseHealthRequest():
                return await health.GetDatabaseHealth(request)
            case WatchDatabaseHealthRequest():
                return await anext(aiter(health.WatchDatabaseHealth(request)))
    raise TypeError(type(request))


async def refusal(running: Servicers, request: Message) -> dict[str, str]:
    """The violations by field of a request that must be refused."""
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await ask(running, request)
    assert raised.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    status = from_call(cast(grpc.Call, raised.value))
    assert status is not None
    named: dict[str, str] = {}
    reasons = []
    for detail in status.details:
        info, bad = error_details_pb2.ErrorInfo(), error_details_pb2.BadRequest()
        if detail.Unpack(info):
            reasons.append((info.reason, info.domain))
        if detail.Unpack(bad):
            named |= {each.field: each.description for each in bad.field_violations}
    assert reasons == [("INVALID_ARGUMENT", "metrics.farehold")]
    return named


@pytest.mark.parametrize("window", BAD_WINDOWS, ids=str)
async def test_a_window_that_is_not_kept_is_refused_by_every_method(window: Duration) -> None:
    requests: list[Message] = [
        m.GetMetricsRequest(window=window),
        m.GetFunnelRequest(window=window),
        m.GetErrorBreakdownRequest(window=window),
        m.GetQueryStatsRequest(window=window),
        m.StreamMetricsRequest(window=window),
    ]
    async with serve() as running:
        for request in requests:
            named = await refusal(running, request)
            assert list(named) == ["window"]
            assert "kept" in named["window"] or "microseconds" in named["window"]
        assert running.figures.asked == []


@pytest.mark.parametrize(
    ("window", "ended"),
    [(HOUR, 5), (HOUR, 10), (HOUR, -60), (HOUR, 31 * DAY), (30 * DAY, HOUR), (None, HOUR)],
    ids=str,
)
async def test_an_end_that_is_not_kept_is_refused_by_every_method(
    window: int | None, ended: int
) -> None:
    span = seconds(window) if window else None
    requests: list[Message] = [
        m.GetMetricsRequest(window=span, ended=seconds(ended)),
        m.GetFunnelRequest(window=span, ended=seconds(ended)),
        m.GetErrorBreakdownRequest(window=span, ended=seconds(ended)),
        m.GetQueryStatsRequest(window=span, ended=seconds(ended)),
        m.StreamMetricsRequest(window=span, ended=seconds(ended)),
    ]
    async with serve() as running:
        for request in requests:
            named = await refusal(running, request)
            assert list(named) == ["ended"]
        assert running.figures.asked == []


@pytest.mark.parametrize(
    "kept", [10, 290, HOUR, HOUR + MINUTE, DAY, DAY + HOUR, 30 * DAY], ids=lambda s: f"{s}s"
)
async def test_a_kept_window_is_answered(kept: int) -> None:
    async with serve() as running:
        await ask(running, m.GetMetricsRequest(window=seconds(kept)))
        await ask(running, m.StreamMetricsRequest(window=seconds(kept)))
        assert kept * 1_000_000 in running.figures.asked
        assert ("funnel", kept * 1_000_000) in running.figures.asked


@pytest.mark.parametrize(
    ("request_", "fields"),
    [
        (m.GetQueryStatsRequest(limit=-1), {"limit"}),
        (m.GetQueryStatsRequest(group_by=9), {"group_by"}),  # type: ignore[arg-type]  # bad on purpose
        (m.GetQueryStatsRequest(order_by=-3), {"order_by"}),  # type: ignore[arg-type]  # bad on purpose
        (
            m.GetQueryStatsRequest(
                group_by=m.GetQueryStatsRequest.FINGERPRINT, window=seconds(HOUR + MINUTE)
            ),
            {"window"},
        ),
        (
            m.GetQueryStatsRequest(limit=-1, group_by=9, order_by=9, window=seconds(1)),  # type: ignore[arg-type]  # bad on purpose
            {"limit", "group_by", "order_by", "window"},
        ),
        (
            m.GetQueryStatsRequest(
                group_by=m.GetQueryStatsRequest.FINGERPRINT, window=seconds(310)
            ),
            {"window"},
        ),
        (m.GetFunnelRequest(state=9), {"state"}),  # type: ignore[arg-type]  # bad on purpose
        (m.ListRecentQueriesRequest(limit=-2_000_000_000), {"limit"}),
        (m.ListSlowQueriesRequest(limit=-1, operation="a.b"), {"limit"}),
        (m.StreamMetricsRequest(interval=seconds(0)), {"interval"}),
        (m.StreamMetricsRequest(interval=seconds(0.099999)), {"interval"}),
        (m.StreamMetricsRequest(interval=seconds(60.000001)), {"interval"}),
        (m.StreamMetricsRequest(interval=seconds(-1)), {"interval"}),
        (m.StreamMetricsRequest(interval=seconds(0), window=seconds(7)), {"interval", "window"}),
        (WatchDatabaseHealthRequest(interval=seconds(0.999999)), {"interval"}),
        (WatchDatabaseHealthRequest(interval=seconds(61)), {"interval"}),
        (WatchDatabaseHealthRequest(interval=Duration(nanos=-1)), {"interval"}),
    ],
    # A set's own text differs from one process to the next.
    ids=lambda given: " ".join(sorted(given)) if isinstance(given, set) else str(given).strip(),
)
async def test_every_bad_field_is_named(request_: Message, fields: set[str]) -> None:
    async with serve() as running:
        assert set(await refusal(running, request_)) == fields


@pytest.mark.parametrize(
    ("limit", "expected"), [(0, 50), (1, 1), (500, 500), (501, 500), (2**31 - 1, 500)]
)
async def test_limits_are_filled_in(limit: int, expected: int) -> None:
    async with serve() as running:
        await ask(running, m.GetQueryStatsRequest(limit=limit))
        await ask(running, m.ListRecentQueriesRequest(limit=limit, operation="a.b"))
        await ask(running, m.ListSlowQueriesRequest(limit=limit, operation="a.b"))
        stats, recent, slow = running.figures.asked
    assert stats == m.GetQueryStatsRequest(
        limit=expected,
        group_by=m.GetQueryStatsRequest.OPERATION,
        order_by=m.GetQueryStatsRequest.TOTAL_TIME,
    )
    assert recent == m.ListRecentQueriesRequest(limit=expected, operation="a.b")
    assert slow == m.ListSlowQueriesRequest(limit=expected, operation="a.b")


async def test_empty_requests_are_answered() -> None:
    async with serve() as running:
        for request in (
            m.GetMetricsRequest(),
            m.GetFunnelRequest(),
            m.GetErrorBreakdownRequest(),
            m.GetQueryStatsRequest(),
            m.ListRecentQueriesRequest(),
            m.ListSlowQueriesRequest(),
            m.StreamMetricsRequest(),
            WatchDatabaseHealthRequest(),
        ):
            await ask(running, request)
