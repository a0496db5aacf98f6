"""The whole service: facts in over the stream, the same figures from every interface."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import grpc
import httpx
import pytest
from google.protobuf.duration_pb2 import Duration
from rich.console import Console

from metrics_service.cli import watch as view
from metrics_service.web.encode import to_json
from protos.metrics.v1.health_pb2 import DatabaseHealth
from protos.metrics.v1.metrics_pb2 import (
    GetErrorBreakdownRequest,
    GetFunnelRequest,
    GetMetricsRequest,
    GetQueryStatsRequest,
    ListRecentQueriesRequest,
    MetricsSnapshot,
    StreamMetricsRequest,
    StreamMetricsResponse,
)
from protos.metrics.v1.series_pb2 import DIMENSION_PACKAGE
from tests.metrics.running_service import BOUND_S, Producer, Service, running, until

FAST = StreamMetricsRequest(interval=Duration(nanos=100_000_000))


async def confirmed(service: Service, count: int) -> MetricsSnapshot:
    """Wait until so many bookings are folded in."""
    await until(
        lambda: service.server.engine.state.metrics(None).business.confirmed >= count,
        f"{count} confirmed bookings",
    )
    return await service.metrics.GetMetrics(GetMetricsRequest())


async def test_bookings_come_out_as_funnel_and_business(metrics_dsn: str) -> None:
    async with running(metrics_dsn) as service, Producer(service) as producer:
        producer.book(3)
        snapshot = await confirmed(service, 3)
    (revenue,) = snapshot.business.revenue
    assert (revenue.currency, revenue.confirmed, revenue.gross_minor) == ("EUR", 3, 30_000)
    funnel = snapshot.funnel
    assert (funnel.bookings_started, funnel.bookings_completed, funnel.bookings_confirmed) == (
        3,
        3,
        3,
    )
    assert snapshot.quality.facts == 12
    assert snapshot.funnel.revision == snapshot.errors.revision == snapshot.revision


async def test_the_stream_follows_and_its_last_message_equals_get_metrics(
    metrics_dsn: str,
) -> None:
    async with running(metrics_dsn) as service, Producer(service) as producer:
        stream: AsyncIterator[StreamMetricsResponse] = aiter(service.metrics.StreamMetrics(FAST))
        seen: list[MetricsSnapshot] = []
        async with asyncio.timeout(BOUND_S):
            seen.append((await anext(stream)).snapshot)
            for count in (5, 10, 15):
                producer.book(5)
                while seen[-1].business.confirmed < count:
                    seen.append((await anext(stream)).snapshot)
            # The log's ticks go on: ask until both doors show the same revision.
            while (last := await service.metrics.GetMetrics(GetMetricsRequest())) != seen[-1]:
                assert last.revision != seen[-1].revision
                seen.append((await anext(stream)).snapshot)
    counts = [snapshot.business.confirmed for snapshot in seen]
    revisions = [snapshot.revision for snapshot in seen]
    assert len(seen) >= 4
    assert counts == sorted(counts)
    assert counts[-1] == 15
    assert revisions == sorted(revisions)
    assert last.business.confirmed == 15


async def test_http_and_rpc_answer_the_same_at_one_revision(metrics_dsn: str) -> None:
    async with running(metrics_dsn) as service, Producer(service) as producer:
        producer.book(4)
        await confirmed(service, 4)
        async with (
            httpx.AsyncClient(
                base_url=f"http://127.0.0.1:{service.http_port}",
                trust_env=False,
                timeout=BOUND_S,
            ) as client,
            asyncio.timeout(BOUND_S),
        ):
            while True:
                before = await service.metrics.GetMetrics(GetMetricsRequest())
                answer = (await client.get("/api/metrics/bookings")).json()
                if answer["revision"] == before.revision:
                    break
        funnel = await service.metrics.GetFunnel(GetFunnelRequest())
    expected = to_json(before)
    assert answer["as_of"] == expected["as_of"]
    assert answer["funnel"] == expected["funnel"]
    assert answer["errors"] == expected["errors"]
    assert answer["metrics"]["business"] == expected["business"]
    assert answer["metrics"]["business"]["revenue"][0]["gross_minor"] == 40_000
    assert funnel.bookings_confirmed == 4


@pytest.mark.parametrize("query", ["", "?window=1h", "?window=24h"])
async def test_one_figure_is_the_same_number_by_every_way(metrics_dsn: str, query: str) -> None:
    window = {"": None, "?window=1h": 3_600, "?window=24h": 86_400}[query]
    span = None if window is None else Duration(seconds=window)
    async with running(metrics_dsn) as service, Producer(service) as producer:
        producer.book(4)
        await confirmed(service, 4)
        request = StreamMetricsRequest(window=span, interval=FAST.interval)
        stream: AsyncIterator[StreamMetricsResponse] = aiter(service.metrics.StreamMetrics(request))
        async with (
            httpx.AsyncClient(
                base_url=f"http://127.0.0.1:{service.http_port}", trust_env=False, timeout=BOUND_S
            ) as client,
            asyncio.timeout(BOUND_S),
        ):
            revisions: set[int] = set()
            while len(revisions) != 1:
                # The log's ticks go on: ask until all are of one revision.
                streamed = (await anext(stream)).snapshot
                body = (await client.get(f"/api/metrics/bookings{query}")).json()
                whole = await service.metrics.GetMetrics(GetMetricsRequest(window=span))
                funnel = await service.metrics.GetFunnel(
                    GetFunnelRequest(window=span, by=DIMENSION_PACKAGE)
                )
                errors = await service.metrics.GetErrorBreakdown(
                    GetErrorBreakdownRequest(window=span)
                )
                answers = (streamed, whole, funnel, errors)
                revisions = {body["revision"], *(answer.revision for answer in answers)}
    assert streamed == whole
    assert body["funnel"] == to_json(whole)["funnel"]
    assert body["metrics"] == {
        name: to_json(whole)[name] for name in ("business", "performance", "quality")
    }
    assert body["errors"] == to_json(whole)["errors"]
    for name in ("by", "groups", "other_groups", "all_groups"):
        funnel.ClearField(name)
    assert funnel == whole.funnel
    assert errors.error_rate == whole.errors.error_rate
    assert type(body["revision"]) is type(body["metrics"]["business"]["confirmed"]) is int
    if window is None:
        gross = body["metrics"]["business"]["revenue"][0]["gross_minor"]
        assert (type(gross), gross) == (int, 40_000)


async def test_every_read_answers_over_every_kind_of_window(metrics_dsn: str) -> None:
    async with running(metrics_dsn) as service, Producer(service) as producer:
        producer.book(1)
        await confirmed(service, 1)
        for seconds in (10, 3600, 86_400, 30 * 86_400):
            kept = Duration(seconds=seconds)
            snapshot = await service.metrics.GetMetrics(GetMetricsRequest(window=kept))
            assert snapshot.window == kept
            await service.metrics.GetFunnel(GetFunnelRequest(window=kept))
            await service.metrics.GetErrorBreakdown(GetErrorBreakdownRequest(window=kept))
            await service.metrics.GetQueryStats(GetQueryStatsRequest(window=kept))
        for group in GetQueryStatsRequest.GroupBy.values():
            for order in GetQueryStatsRequest.OrderBy.values():
                for window in (None, Duration(seconds=300), Duration(seconds=3600)):
                    await service.metrics.GetQueryStats(
                        GetQueryStatsRequest(group_by=group, order_by=order, window=window)
                    )
        await service.metrics.ListRecentQueries(ListRecentQueriesRequest(include_internal=True))


async def test_a_restart_restores_what_was_folded(metrics_dsn: str) -> None:
    async with running(metrics_dsn) as service, Producer(service) as producer:
        producer.book(6)
        before = await confirmed(service, 6)
    async with running(metrics_dsn) as service:
        after = await service.metrics.GetMetrics(GetMetricsRequest())
        async with Producer(service) as producer:
            # The same batch again: it is stored, and counted once.
            producer.book(6)
            producer.book(2)
            again = await confirmed(service, 8)
    assert after.business == before.business
    assert after.revision >= before.revision
    assert again.business.confirmed == 8


async def test_a_second_service_waits_and_takes_over(metrics_dsn: str) -> None:
    async with asyncio.timeout(3 * BOUND_S):
        async with running(metrics_dsn) as first:
            async with Producer(first) as producer:
                producer.book(2)
                await confirmed(first, 2)
            second_entered = asyncio.Event()
            leave = asyncio.Event()
            counts: list[int] = []

            async def second() -> None:
                async with running(metrics_dsn) as service:
                    second_entered.set()
                    snapshot = await service.metrics.GetMetrics(GetMetricsRequest())
                    counts.append(snapshot.business.confirmed)
                    await leave.wait()

            standing_by = asyncio.create_task(second())
            await asyncio.sleep(0.5)
            assert not second_entered.is_set(), "two writers at once"
        await second_entered.wait()
        leave.set()
        await standing_by
    assert counts == [2]


async def test_draining_ends_streams_and_sends_producers_elsewhere(metrics_dsn: str) -> None:
    async with running(metrics_dsn, METRICS_DRAIN_TIMEOUT_S="600") as service:
        producer = Producer(service)
        await producer.stream.start()
        await until(lambda: service.server.ingest.streams, "the producer's stream")
        stream = aiter(service.metrics.StreamMetrics(FAST))
        await anext(stream)
        assert await service.serving("metrics.v1.MetricsService")
        codes = []
        async with asyncio.timeout(BOUND_S):
            stopping = asyncio.create_task(service.server.stop())
            try:
                async for _ in stream:
                    pass
            except grpc.aio.AioRpcError as error:
                codes.append(error.code())
            await stopping
        await producer.stream.stop(0.1)
    assert codes == [grpc.StatusCode.UNAVAILABLE]


async def test_the_terminal_view_shows_the_figures(
    metrics_dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(view, "CONNECT_TIMEOUT_S", BOUND_S)
    console = Console(record=True, width=160, force_terminal=True)
    async with running(metrics_dsn) as service, Producer(service) as producer:
        producer.book(7)
        await confirmed(service, 7)
        # Facts do not wait for the first heartbeat.
        await until(
            lambda: service.server.health.verdict().status == DatabaseHealth.HEALTHY, "the verdict"
        )
        async with asyncio.timeout(BOUND_S):
            await view.follow(service.target, asyncio.Event(), console=console, frames=2)
    text = console.export_text()
    assert "Funnel" in text
    assert "700.00" in text
    assert "healthy" in text
    assert "confirmed 7, cancelled 0" in text
