"""Collects everything that the pair puts out: answers, pages, logs, event payloads and tables."""

from __future__ import annotations

import asyncio
import contextlib
import urllib.error
import urllib.request
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import asyncpg
import grpc
from google.protobuf.message import DecodeError

from protos.metrics.v1 import (
    alert_pb2,
    alert_pb2_grpc,
    health_pb2,
    health_pb2_grpc,
    journey_pb2,
    metrics_pb2,
    metrics_pb2_grpc,
)
from protos.tracking.v1 import event_pb2
from tests.pair.canaries import Canaries, found
from tests.pair.real_pair import Pair

BOUND_S = 30.0
PAGES = ("/", "/api/health/database", "/api/metrics/bookings", "/metrics", "/nowhere")

ALERTS = frozenset({"database_unhealthy", "slow_query"})

Outputs = list[tuple[str, bytes]]
"""What was put out: where, and the bytes."""


async def answers(pair: Pair, until: Canaries) -> Outputs:
    """Return every answer of metrics_service, once it contains the operation planted last, and the
    alerts of ALERTS fire.
    """
    async with grpc.aio.insecure_channel(pair.metrics) as channel:
        metrics = metrics_pb2_grpc.MetricsServiceStub(channel)
        health = health_pb2_grpc.HealthServiceStub(channel)
        alerts: Any = alert_pb2_grpc.AlertServiceStub(channel)
        recent = metrics_pb2.ListRecentQueriesRequest
        async with asyncio.timeout(BOUND_S):
            newest = b""
            while not found(until, [("", newest)]):
                await asyncio.sleep(0.1)
                newest = (await metrics.ListRecentQueries(recent())).SerializeToString()
            fired: set[str] = set()
            while not fired >= ALERTS:
                await asyncio.sleep(0.1)
                listed = await alerts.ListAlerts(alert_pb2.ListAlertsRequest())
                fired = {alert.rule for alert in listed.alerts}
        calls: list[tuple[str, Callable[[], Awaitable[Any]]]] = [
            ("GetMetrics", lambda: metrics.GetMetrics(metrics_pb2.GetMetricsRequest())),
            ("GetFunnel", lambda: metrics.GetFunnel(metrics_pb2.GetFunnelRequest())),
            (
                "GetErrorBreakdown",
                lambda: metrics.GetErrorBreakdown(metrics_pb2.GetErrorBreakdownRequest()),
            ),
            ("GetQueryStats", lambda: metrics.GetQueryStats(metrics_pb2.GetQueryStatsRequest())),
            ("ListRecentQueries", lambda: metrics.ListRecentQueries(recent(limit=500))),
            (
                "ListSlowQueries",
                lambda: metrics.ListSlowQueries(metrics_pb2.ListSlowQueriesRequest()),
            ),
            (
                "ListSessions",
                lambda: metrics.ListSessions(journey_pb2.ListSessionsRequest()),
            ),
            (
                "GetDatabaseHealth",
                lambda: health.GetDatabaseHealth(health_pb2.GetDatabaseHealthRequest()),
            ),
            (
                "ListAlerts",
                lambda: alerts.ListAlerts(alert_pb2.ListAlertsRequest(include_resolved=True)),
            ),
        ]
        collected: Outputs = []
        for name, call in calls:
            answer = await call()
            collected += [(name, answer.SerializeToString()), (name, str(answer).encode())]
    collected += [
        (f"GET {page}", await asyncio.to_thread(_page, f"http://{pair.http}{page}"))
        for page in PAGES
    ]
    return collected


def _page(address: str) -> bytes:
    try:
        with urllib.request.urlopen(address, timeout=BOUND_S) as answer:
            return bytes(answer.read())
    except urllib.error.HTTPError as error:
        return bytes(error.read())


def logs(folder: Path) -> list[tuple[str, bytes]]:
    return [(log.stem, log.read_bytes()) for log in folder.glob("*.log")]


def payloads(sent: list[bytes]) -> Outputs:
    return [("event payload", payload) for payload in sent]


def kinds_of_events(outputs: Outputs) -> set[str]:
    """The kinds of events in what was sent and stored."""
    kinds: set[str] = set()
    for name, content in outputs:
        if name in ("event payload", "table event_log"):
            with contextlib.suppress(DecodeError):
                events = event_pb2.EventList.FromString(content).events
                kinds |= {str(event.WhichOneof("body")) for event in events}
    return kinds


async def tables(dsn: str) -> Outputs:
    """Every value of every table."""
    connection = await asyncpg.connect(dsn)
    try:
        names = await connection.fetch(
            "SELECT relname FROM pg_class WHERE relkind IN ('r', 'p') "
            "AND relnamespace = 'public'::regnamespace"
        )
        return [
            (f"table {table['relname']}", value if type(value) is bytes else str(value).encode())
            for table in names
            for row in await connection.fetch(f'SELECT * FROM "{table["relname"]}"')
            for value in row
        ]
    finally:
        await connection.close()
