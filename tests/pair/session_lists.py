"""Compares the lists of sessions of a running pair with the steps of its funnel."""

from __future__ import annotations

import asyncio
from datetime import timedelta

from booking_service.demo.calls import Client
from protos.metrics.v1 import journey_pb2, metrics_pb2, metrics_pb2_grpc

BOUND_S = 60.0
"""A checkpoint comes within a few seconds; a busy machine takes longer."""


async def sessions_agree(metrics: Client, window: timedelta | None = None) -> list[int]:
    """Wait until each list of sessions, all its pages, is as long as the step of the funnel says,
    for the same window; returns these numbers.
    """
    stub = metrics_pb2_grpc.MetricsServiceStub(metrics.channel)
    asked = metrics_pb2.GetFunnelRequest()
    if window is not None:
        asked.window.FromTimedelta(window)
    async with asyncio.timeout(BOUND_S):
        while True:
            funnel = await metrics.call(stub.GetFunnel, asked)
            lists = [await _length(metrics, stub, asked, step.name) for step in funnel.steps]
            if lists == [step.actors for step in funnel.steps]:
                return lists
            await asyncio.sleep(0.2)


async def _length(
    metrics: Client,
    stub: metrics_pb2_grpc.MetricsServiceAsyncStub,
    asked: metrics_pb2.GetFunnelRequest,
    step: str,
) -> int:
    request = journey_pb2.ListSessionsRequest(step=step, page_size=100)
    if asked.HasField("window"):
        request.window.CopyFrom(asked.window)
    names: list[str] = []
    while True:
        page = await metrics.call(stub.ListSessions, request)
        names += [session.session_id for session in page.sessions]
        request.page_token = page.next_page_token
        if not page.next_page_token:
            # While the log goes on, a session may be on two pages.
            return len(names) if len(set(names)) == len(names) else -1
