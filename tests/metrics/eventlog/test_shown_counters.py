"""What monitors read as counters goes on when the log is folded anew: by another version of the
code, whose fold gives other sums, and by a repair.
"""

from __future__ import annotations

from typing import Any

import asyncpg
import pytest

from metrics_service.state.counter_base import Counts
from tests.metrics.delivery_pair import Sink
from tests.metrics.eventlog.history_log import Days, Feeder
from tests.metrics.eventlog.test_history_faults import raise_version


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
