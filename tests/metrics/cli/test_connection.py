"""The view survives a service that ends or answers what cannot be read, and says so on top."""

from __future__ import annotations

import asyncio
import io
import re
from typing import Any

import grpc
import pytest
from rich.console import Console

from metrics_service.cli import watch as view
from protos.metrics.v1 import metrics_pb2

BOUND_S = 20.0
SEQUENCE = re.compile(r"\x1b\[[0-9;?]*[a-zA-Z]")


class Service:
    """A metrics_service that sends given bytes, and then ends the stream with a status."""

    def __init__(self, *frames: bytes, ends_well: bool = False) -> None:
        self.streams = 0
        self._frames = frames
        self._ends_well = ends_well
        self.server: Any = grpc.aio.server()
        handlers: dict[str, Any] = {
            "StreamMetrics": grpc.unary_stream_rpc_method_handler(self.stream),
            "ListSlowQueries": grpc.unary_unary_rpc_method_handler(self.slow),
        }
        self.server.add_generic_rpc_handlers(
            (grpc.method_handlers_generic_handler("metrics.v1.MetricsService", handlers),)
        )
        self.port = self.server.add_insecure_port("127.0.0.1:0")

    async def stream(self, _: bytes, context: Any) -> None:
        self.streams += 1
        for frame in self._frames:
            await context.write(frame)
        if self._ends_well:
            return
        await context.abort(grpc.StatusCode.UNAVAILABLE, "\x1b[2J[/] gone")

    async def slow(self, _: bytes, context: Any) -> bytes:
        return b"\xff"


@pytest.mark.parametrize("last", [b"", b"\xff"], ids=["good", "unreadable"])
async def test_a_lost_connection_is_the_first_line_and_the_last_view_stays(
    last: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(view, "CONNECT_TIMEOUT_S", BOUND_S)
    good = metrics_pb2.StreamMetricsResponse()
    good.snapshot.revision = 77
    good.snapshot.business.revenue.add(currency="[/]\x1b[2J")
    service = Service(good.SerializeToString(), *([last] if last else []))
    await service.server.start()
    stop, file = asyncio.Event(), io.StringIO()
    console = Console(width=80, height=24, file=file, force_terminal=True, color_system=None)
    watching = asyncio.create_task(view.follow(f"127.0.0.1:{service.port}", stop, console=console))
    try:
        async with asyncio.timeout(BOUND_S):
            while "trying again" not in file.getvalue():
                assert not watching.done()
                await asyncio.sleep(0.01)
            stop.set()
            await watching
    finally:
        await service.server.stop(0)
    lines = [line.strip() for line in SEQUENCE.sub("", file.getvalue()).splitlines()]
    lost = next(at for at, line in enumerate(lines) if "trying again" in line)
    words = "the answer is not of this version" if last else "connection lost (unavailable)"
    assert lines[lost] == f"{words}; trying again ..."
    assert lines[lost + 1].startswith("Farehold   database unknown")
    assert "revision 77" in lines[lost + 1]


async def test_a_stream_that_comes_of_age_is_opened_again_without_a_word(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(view, "CONNECT_TIMEOUT_S", BOUND_S)
    service = Service(metrics_pb2.StreamMetricsResponse().SerializeToString(), ends_well=True)
    await service.server.start()
    file = io.StringIO()
    console = Console(width=80, height=24, file=file, force_terminal=True, color_system=None)
    try:
        async with asyncio.timeout(BOUND_S):
            target = f"127.0.0.1:{service.port}"
            await view.follow(target, asyncio.Event(), console=console, frames=3)
    finally:
        await service.server.stop(0)
    assert service.streams == 3
    assert "trying again" not in file.getvalue()
