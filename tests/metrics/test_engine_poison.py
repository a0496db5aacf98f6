"""Batches that break the fold, its rows or its answers: the engine goes on without them, now and
after a restart from a log that holds them.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import structlog

from metrics_service import engine as engine_module
from metrics_service.eventlog.event_log import EventLog
from metrics_service.eventlog.producer import ProducerKey
from metrics_service.eventlog.recovery import UnreadableError
from metrics_service.state.fold import VERSION
from metrics_service.state.record import LogRecord
from protos.tracking.v1 import event_pb2
from tests.metrics.delivery_pair import FACTS, Sink, events, running, until
from tests.metrics.fragile import BREAKS_ANSWERS, BREAKS_APPLY, BREAKS_ROWS, Fragile

FAULTS = pytest.mark.parametrize(
    "dropped", [BREAKS_APPLY, BREAKS_ROWS, BREAKS_ANSWERS], ids=["fold", "rows", "answers"]
)


@pytest.fixture(autouse=True)
def _fragile(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine_module, "State", Fragile)


def poison(dropped: int) -> bytes:
    """Return a batch of a view, and a loss that breaks what Fragile says."""
    loss = event_pb2.TelemetryLoss(dropped_events=dropped)
    payload = event_pb2.EventList(events=[event_pb2.Event(telemetry_loss=loss)])
    return events("broken") + payload.SerializeToString()


async def fill(log: EventLog, start: int, *payloads: bytes) -> None:
    key = ProducerKey(FACTS, "relay")
    point = await log.open_producer(key, epoch=1, instance="i", service="test", backfill=False)
    for seq, payload in enumerate(payloads, start=start):
        await log.append(key, token=point.token, epoch=1, seq=seq, count=2, payload=payload)


def figures(sink: Sink) -> tuple[int, int, int]:
    """Return (actors that entered, quarantined batches, quarantined events)."""
    metrics = sink.engine.state.metrics()
    quality = metrics.quality
    return metrics.funnel.entered, quality.quarantined_batches, quality.quarantined_events


async def is_folded(sink: Sink) -> None:
    await until(lambda: sink.engine.position == sink.log.last_position)


@FAULTS
async def test_what_breaks_is_quarantined_without_an_effect(metrics_dsn: str, dropped: int) -> None:
    sink = Sink(metrics_dsn, checkpoint_interval_s=3_600, tick_s=3_600)
    with structlog.testing.capture_logs() as lines:
        async with running(sink):
            await fill(sink.log, 1, events("a"), poison(dropped), events("b"))
            await is_folded(sink)
            await sink.engine._checkpoint()
            assert figures(sink) == (2, 1, 2)
            await fill(sink.log, 4, poison(dropped), events("c"))
            await is_folded(sink)
            await sink.engine._checkpoint()
            assert figures(sink) == (3, 2, 4)
    assert not sink.engine.failure.done() or sink.engine.failure.cancelled()
    named = [line["producer"] for line in lines if line["event"] == "batch_quarantined"]
    assert named[0] == "relay"
    async with running(Sink(metrics_dsn)) as again:
        assert figures(again) == (3, 2, 4)


@FAULTS
async def test_a_log_that_holds_it_can_be_started_from(
    metrics_dsn: str, monkeypatch: pytest.MonkeyPatch, dropped: int
) -> None:
    log = EventLog(metrics_dsn)
    await log.start()
    await log.wait_leading()
    await fill(log, 1, events("a"), poison(dropped), events("b"), poison(dropped), events("c"))
    await log.stop()
    crashed = Sink(metrics_dsn, checkpoint_interval_s=3_600)
    await crashed.start()
    await crashed.engine._checkpoint()
    assert figures(crashed) == (3, 2, 4)
    await crashed.crash()
    # Neither does it matter that the checkpoint is of another version.
    monkeypatch.setattr(engine_module, "VERSION", VERSION + 1)
    async with running(Sink(metrics_dsn)) as second:
        await second.engine._checkpoint()
        assert figures(second) == (3, 2, 4)


def watch_repairs(sink: Sink, monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """Return where (revision, actors) of what readers see go, at each page that a repair reads;
    (-1, -1) is nothing.
    """
    seen: list[tuple[int, int]] = []
    read = sink.log.read

    async def reading(after: int) -> list[LogRecord]:
        try:
            state = sink.engine.current_state()
            seen.append((state.revision, state.metrics().funnel.entered))
        except UnreadableError:
            seen.append((-1, -1))
        return await read(after)

    monkeypatch.setattr(sink.log, "read", reading)
    return seen


@FAULTS
async def test_readers_have_the_last_whole_state_while_a_broken_one_is_repaired(
    metrics_dsn: str, monkeypatch: pytest.MonkeyPatch, dropped: int
) -> None:
    sink = Sink(metrics_dsn, checkpoint_interval_s=3_600, tick_s=3_600)
    async with running(sink):
        await fill(sink.log, 1, events("a"), events("b"))
        await is_folded(sink)
        await sink.engine._checkpoint()
        whole = sink.engine.state.revision
        seen = watch_repairs(sink, monkeypatch)
        await fill(sink.log, 3, events("c"), poison(dropped), events("d"))
        await is_folded(sink)
        await sink.engine._checkpoint()
        assert seen[0] == (whole, 2)
        # It comes nearer, but never shows anything of the batch that breaks.
        assert seen == sorted(seen)
        assert {actors for _, actors in seen} <= {2, 3}
        assert sink.engine.current_state() is sink.engine.state
        assert figures(sink) == (4, 1, 2)


async def test_without_a_whole_state_readers_are_refused_until_there_is_one(
    metrics_dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    sink = Sink(metrics_dsn, checkpoint_interval_s=3_600, tick_s=3_600)
    async with running(sink):
        seen = watch_repairs(sink, monkeypatch)
        await fill(sink.log, 1, events("a"), poison(BREAKS_APPLY), events("b"))
        await is_folded(sink)
        assert set(seen) == {(-1, -1)}
        assert sink.engine.current_state().metrics().funnel.entered == 2


async def test_an_answer_that_fails_gets_the_state_repaired_without_a_checkpoint(
    metrics_dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    sink = Sink(metrics_dsn, checkpoint_interval_s=3_600, tick_s=3_600)
    async with running(sink):
        await fill(sink.log, 1, events("a"), poison(BREAKS_ANSWERS), events("b"))
        await is_folded(sink)
        with pytest.raises(OverflowError):
            sink.engine.current_state().metrics()
        broken = sink.engine.state
        sink.engine.suspect()
        await until(lambda: sink.engine.state is not broken)
        assert figures(sink) == (2, 1, 2)


async def test_the_state_is_checked_at_a_bounded_rate_and_only_then_repaired(
    metrics_dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    checks = 0
    encode_answers = Fragile.encode_answers

    def counted(state: Fragile) -> Iterator[None]:
        nonlocal checks
        checks += 1
        yield from encode_answers(state)

    monkeypatch.setattr(Fragile, "encode_answers", counted)
    # A tick wakes the fold, as a record does.
    sink = Sink(metrics_dsn, checkpoint_interval_s=3_600, tick_s=0.01)
    with structlog.testing.capture_logs() as lines:
        async with running(sink):
            for _ in range(3):
                position = sink.engine.position
                for _ in range(100):
                    sink.engine.suspect()
                await until(lambda: sink.engine.position > position + 2)  # noqa: B023 - at once
            assert checks == 1
            monkeypatch.setattr(engine_module, "MIN_CHECK_INTERVAL_S", 0.0)
            await until(lambda: checks == 2, "the check that was due")
    assert "fold_interrupted" not in [line["event"] for line in lines]
