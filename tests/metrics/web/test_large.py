"""Large answers that clients do not take: so many are held, and all others are answered."""

from __future__ import annotations

import asyncio
import json

import pytest

from metrics_service.web import large
from metrics_service.web.calls import FIGURES
from protos.metrics.v1.metrics_pb2 import Funnel, MetricsSnapshot
from protos.metrics.v1.series_pb2 import GetSeriesResponse, Series
from tests.metrics.running_service import BOUND_S
from tests.metrics.web.serving import calling

SERIES = "/api/rpc/GetSeries?metrics=x"
# More than the buffers of a connection to this machine hold.
TEXT = "x" * 8_000_000


class Charts:
    """A servicer whose series are larger than any may be."""

    async def GetSeries(self, request: object, context: object) -> GetSeriesResponse:
        return GetSeriesResponse(series=[Series(metric=TEXT)])

    async def GetFunnel(self, request: object, context: object) -> Funnel:
        return Funnel(entered=3)

    async def GetMetrics(self, request: object, context: object) -> MetricsSnapshot:
        return MetricsSnapshot()

    def __getattr__(self, name: str) -> object:
        return self.GetMetrics


@pytest.fixture(autouse=True)
def _two(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(large, "MAX_LARGE", 2)


async def test_a_large_answer_arrives_whole() -> None:
    async with calling({FIGURES: Charts()}) as client:
        for _ in range(large.MAX_LARGE + 1):
            answer = await client.get(SERIES)
        assert answer.json()["series"][0]["metric"] == TEXT
        assert int(answer.headers["content-length"]) == len(answer.content)
        head = await client.head(SERIES)
        assert (head.status_code, head.content) == (200, b"")


async def test_what_is_not_taken_is_bounded_and_keeps_no_other_answer_back() -> None:
    async with calling({FIGURES: Charts()}) as client:
        assert client.base_url.port is not None
        idle = []
        for _ in range(2):
            reader, writer = await asyncio.open_connection(
                "127.0.0.1", client.base_url.port, limit=1_024
            )
            writer.write(f"GET {SERIES} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
            await reader.readline()
            idle.append(writer)
        refused = await client.get(SERIES)
        assert (refused.status_code, refused.json()["reason"]) == (429, "OVERLOADED")
        assert refused.headers["retry-after"] == "1"
        assert json.loads((await client.get("/api/rpc/GetFunnel")).content)["entered"] == 3
        for writer in idle:
            writer.transport.abort()
        async with asyncio.timeout(BOUND_S):
            while (await client.get(SERIES)).status_code != 200:  # noqa: ASYNC110 - of the server
                await asyncio.sleep(0.01)
