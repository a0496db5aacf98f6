"""An endpoint that nobody serves, or that takes connections and answers nothing, slows no RPC."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Iterator

import pytest
from grpc import StatusCode

from servicekit import binaries
from servicekit.tracing.queue import MAX_QUEUED
from tests.servicekit.tracing.test_rpc_spans import RECORDED, Stack, running

CALLS = 200
ROUNDS = 4
# What spans of every call may cost in CPU; a call without is some 500 us.
MAX_RATIO = 2.0


@pytest.fixture(params=["nobody listens", "nobody answers"])
def dead(request: pytest.FixtureRequest) -> Iterator[str]:
    """An endpoint that takes no span."""
    if request.param == "nobody listens":
        yield f"http://127.0.0.1:{binaries.free_port()}"
        return
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"


async def cpu_s(stack: Stack, calls: int = CALLS) -> float:
    """The CPU time of this process for so many calls, each of a recorded trace."""
    begun_s = time.process_time()
    for _ in range(calls // 20):
        codes = await asyncio.gather(*(stack.call(metadata=RECORDED) for _ in range(20)))
        assert set(codes) == {StatusCode.OK}
    return time.process_time() - begun_s


async def test_calls_are_answered_and_what_is_not_sent_is_counted(dead: str) -> None:
    async with running(None, OTEL_EXPORTER_OTLP_ENDPOINT=dead) as stack:
        queue = stack.tracer.queue
        assert queue is not None
        await cpu_s(stack)
        assert len(queue) <= MAX_QUEUED
    assert (queue.sent, queue.lost, len(queue)) == (0, CALLS, 0)


async def test_calls_cost_no_more_than_their_spans(dead: str) -> None:
    async with (
        running(None) as without,
        running(None, OTEL_EXPORTER_OTLP_ENDPOINT=dead) as with_spans,
    ):
        await cpu_s(without)
        await cpu_s(with_spans)
        ratios = []
        for _ in range(ROUNDS):
            base_s = await cpu_s(without)
            ratios.append(await cpu_s(with_spans) / base_s)
    assert min(ratios) < MAX_RATIO, ratios
