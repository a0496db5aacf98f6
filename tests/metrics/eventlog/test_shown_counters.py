"""What monitors read as counters goes on when the log is folded anew: by another version of the
code, whose fold gives other sums, and by a repair.
"""

from __future__ import annotations

from typing import Any

import asyncpg
import pytest
from structlog.testing import capture_logs

from metrics_service.eventlog.shown import Shown
from metrics_service.state.counter_base import Counts
from metrics_service.state.fold import State
from metrics_service.state.record import LogRecord
from metrics_service.storage.checkpoints import Checkpoint, Section
from tests.metrics.delivery_pair import Sink
from tests.metrics.eventlog.history_log import Days, Feeder
from tests.metrics.eventlog.test_history_faults import raise_version
from tests.metrics.state.log import NOW, Log


async def with_history(dsn: str, feeder: Feeder) -> tuple[Sink, Any]:
    """A process of forty-four days, the first of which have left the log."""
    running = feeder.sink(dsn, retention_days=31)
    await running.start()
    batches = Days(46, hours=(11,)).batches()
    for day in range(44):
        await feeder.folded(running, *next(batches))
        if day in (10, 43):
            await running.engine._checkpoint()
    await running.log._checkpoints.using(running.log._keep_partitions)
    return running, batches


def less(after: Counts, before: Counts) -> dict[tuple[str, ...], int]:
    """What counters have risen or fallen by."""
    return {
        (counter, *labels): change
        for counter, samples in after.items()
        for labels, count in samples.items()
        if (change := count - before.get(counter, {}).get(labels, 0))
    }


@pytest.mark.parametrize("lost", [False, True])
async def test_they_go_on_in_another_version_of_the_code(
    metrics_dsn: str, monkeypatch: pytest.MonkeyPatch, lost: bool
) -> None:
    feeder = Feeder()
    running, batches = await with_history(metrics_dsn, feeder)
    before = running.engine.state.counters()
    confirmed = running.engine.state.metrics().business.confirmed
    assert before["bookings"]["confirmed",] == confirmed > 0
    await running.crash()
    raise_version(monkeypatch)
    if lost:
        # The sums of before the log cannot be had: the fold is of 31 days alone.
        connection = await asyncpg.connect(metrics_dsn)
        await connection.execute("DELETE FROM history_total")
        await connection.close()
    running = feeder.sink(metrics_dsn, retention_days=31)
    await running.start()
    state = running.engine.state
    assert (state.metrics().business.confirmed < confirmed) is lost
    assert less(state.counters(), before) == {}
    # They rise by what is counted from then on, and a restart finds them so.
    now_us, events = next(batches)
    had = state.metrics().business.confirmed
    await feeder.folded(running, now_us, events)
    more = state.metrics().business.confirmed - had
    risen = less(state.counters(), before)
    assert risen.get(("bookings", "confirmed"), 0) == more
    assert min(risen.values()) > 0
    await running.engine._checkpoint()
    await running.crash()
    again = feeder.sink(metrics_dsn, retention_days=31)
    await again.start()
    assert less(again.engine.state.counters(), before) == risen
    await again.stop()


async def test_the_first_process_of_a_log_shows_what_it_counts(metrics_dsn: str) -> None:
    feeder = Feeder()
    running = feeder.sink(metrics_dsn)
    await running.start()
    for now_us, events in Days(3).batches():
        await feeder.folded(running, now_us, events)
    shown = running.engine.state.counters()
    assert shown["bookings"]["confirmed",] == running.engine.state.metrics().business.confirmed
    await running.crash()
    again = feeder.sink(metrics_dsn)
    await again.start()
    assert less(again.engine.state.counters(), shown) == {}
    await again.stop()


async def test_they_go_on_when_a_repair_begins_anew(
    metrics_dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    feeder = Feeder()
    running, batches = await with_history(metrics_dsn, feeder)
    engine = running.engine
    before = engine.state.counters()
    connection = await asyncpg.connect(metrics_dsn)
    await connection.execute("DELETE FROM history_total")
    await connection.close()

    async def unusable(_: int) -> list[Section]:
        return [("head", 0, b"\xff")]

    monkeypatch.setattr(engine._repair, "_stored_rows", unusable)
    await engine._recover(engine.position, ValueError("broken"))
    assert engine.state.metrics().business.confirmed < before["bookings"]["confirmed",]
    assert less(engine.state.counters(), before) == {}
    await feeder.folded(running, *next(batches))
    assert min(less(engine.state.counters(), before).values()) > 0
    await running.crash()


def test_counters_that_cannot_be_read_begin_at_zero(monkeypatch: pytest.MonkeyPatch) -> None:
    log = Log()
    log.append(*(log.view(NOW, f"s{number}") for number in range(4)))
    rows = [*log.state.dump()]
    with capture_logs() as lines:
        for unreadable in ([], [("head", 0, b"\xff")], [*rows, ("business.total", 0, b"\xff")]):
            state = State.load(rows)
            Shown.stored(Checkpoint(1, 1, unreadable)).hand_on(state)
            assert state.counters()["package_views"] == {(): 0}
        again = State.load(state.dump())
        again.apply(LogRecord(2, NOW, "tick"))
        assert again.counters()["package_views"] == {(): 0}
        with monkeypatch.context() as patch:
            patch.setattr(State, "counters", lambda _: 1 / 0)
            shown = Shown.of(log.state)
            # What cannot be handed on breaks no fold.
            Shown.of(State.load(rows)).hand_on(State.load(rows))
        shown.hand_on(log.state)
    assert log.state.counters()["package_views"] == {(): 0}
    assert [line["event"] for line in lines] == ["counters_lost"] * 6


def test_without_a_fold_before_nothing_is_subtracted() -> None:
    log = Log()
    log.append(log.view(NOW, "s"))
    Shown.nothing().hand_on(log.state)
    assert log.state.counters()["package_views"] == {(): 1}
