"""Telemetry whose name is taken, by another process or a forged Hello, goes on under a new one."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from structlog.testing import capture_logs

from metrics_service.client.telemetry.emitter import Emitter
from metrics_service.client.telemetry.producer_name import LOGGED_S, SHOWN_S, ProducerName
from protos.tracking.v1 import event_pb2
from protos.tracking.v1.tracking_pb2 import LaneSignal
from tests.metrics.delivery_pair import TELEMETRY, Sink, remember, running, streaming, until
from tests.metrics.raw_client import raw_client

VIEW = event_pb2.PackageViewed(package_id="p")


@pytest.fixture
async def sink(metrics_dsn: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Sink]:
    remember(monkeypatch)
    async with running(Sink(metrics_dsn)) as started:
        yield started


def emitter(start_us: int = 1_000_000) -> Emitter:
    return Emitter("test", instance="i-1", now_us=lambda: start_us, flush_interval_s=0.01)


def stored(sink: Sink) -> list[str]:
    """The sessions of the events of telemetry, each id once, in their order."""
    found: dict[bytes, str] = {}
    for *_, payload in sink.state.batches:
        for event in event_pb2.EventList.FromString(payload).events:
            if event.HasField("package_viewed"):
                found.setdefault(event.event_id, event.session_id)
    return list(found.values())


async def view(sink: Sink, source: Emitter, session: str) -> None:
    source.emit(VIEW, session_id=session)
    await until(lambda: session in stored(sink), session)


@pytest.mark.parametrize("epoch", [1_000_001, 2**62, 2**63 - 1])
async def test_a_forged_hello_takes_nothing_while_it_runs_or_before_it_starts(
    sink: Sink, epoch: int
) -> None:
    running_one = emitter()
    async with streaming(sink.target, running_one):
        await view(sink, running_one, "before")
        async with raw_client(sink.target) as forged:
            await forged.welcome("i-1", epoch, lane=TELEMETRY)
            await view(sink, running_one, "during")
        await view(sink, running_one, "after")
    assert running_one.lane_signal().state == LaneSignal.FENCED
    started_later = emitter(start_us=2_000_000 if epoch > 2_000_000 else 1)
    async with streaming(sink.target, started_later):
        await view(sink, started_later, "a new start")
    assert started_later.lane_signal().state == LaneSignal.FENCED
    assert stored(sink) == ["before", "during", "after", "a new start"]


async def test_two_processes_of_one_name_both_go_on(sink: Sink) -> None:
    first, second = emitter(1_000_000), emitter(2_000_000)
    async with streaming(sink.target, first):
        await view(sink, first, "a")
        async with streaming(sink.target, second):
            for session in ("b", "d"):
                await view(sink, second, session)
                await view(sink, first, f"{session} of the first")
    assert len({first.producer_id, second.producer_id}) == 2
    assert second.lane_signal().state == LaneSignal.OK


async def test_what_was_sent_and_not_acknowledged_is_sent_again_with_its_ids() -> None:
    source = emitter()
    source.emit(VIEW, session_id="kept")
    await source.open(0, b"")
    before = await source.next()
    name, epoch = source.producer_id, source.epoch
    assert await source.fenced(2**63 - 1, "")
    assert source.producer_id != name
    assert source.epoch > epoch
    await source.open(0, b"")
    assert (await source.next()).payload == before.payload


def test_a_heartbeat_says_so_for_a_minute_and_the_log_once_in_ten() -> None:
    now_s = 1_000.0
    name = ProducerName("i-1", lambda: now_s)
    assert name.signal().state == LaneSignal.OK
    with capture_logs() as lines:
        name.renew()
        now_s += SHOWN_S - 1
        assert (name.signal().state, "i-1" in name.signal().reason) == (LaneSignal.FENCED, True)
        name.renew()
        now_s += SHOWN_S
        assert name.signal() == LaneSignal(state=LaneSignal.OK)
        now_s += LOGGED_S
        name.renew()
    assert [(line["event"], line["suppressed"]) for line in lines] == [
        ("telemetry_fenced", 0),
        ("telemetry_fenced", 1),
    ]
