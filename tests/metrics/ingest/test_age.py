"""Streams that come of age: producers connect again, and no batch is lost or doubled by it."""

from __future__ import annotations

import asyncio

import pytest
from structlog.testing import capture_logs

from metrics_service.client.stream import client as client_module
from tests.metrics.delivery_pair import (
    TELEMETRY,
    ListSource,
    Sink,
    events,
    remember,
    running,
    streaming,
    until,
)

STREAMS = 4


async def acked(source: ListSource) -> None:
    await until(lambda: source.acked_seq == len(source.batches))


async def test_producers_connect_again_for_the_age_of_their_stream_and_nothing_is_lost(
    metrics_dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    remember(monkeypatch)
    # A stream that has stood for that long was of use.
    monkeypatch.setattr(client_module, "MAX_RECONNECT_S", 0.1)
    facts, telemetry = ListSource("facts"), ListSource("telemetry")
    telemetry.lane = TELEMETRY
    both = (facts, telemetry)
    async with running(Sink(metrics_dsn, max_stream_s=0.5)) as sink:
        with capture_logs() as lines:
            async with streaming(sink.target, *both):
                while len(facts.opened) < STREAMS:
                    for source in both:
                        source.put(events(f"{source.producer_id}-{len(source.batches)}"))
                    await asyncio.sleep(0.005)
                for source in both:
                    await acked(source)
    for source in both:
        sent = [batch.payload for batch in source.batches]
        assert sink.state.payloads(source.producer_id) == sent
        assert source.forks == []
    lost = [line for line in lines if line["event"] == "stream_lost"]
    assert len(lost) >= STREAMS - 1
    assert {line["log_level"] for line in lines} == {"info"}
