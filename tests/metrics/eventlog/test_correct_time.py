"""A log that a wrong clock has dated far ahead is corrected by one command: windows, partitions and
retention are right afterwards, and nothing is counted twice or lost.
"""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta

import asyncpg
import pytest

from metrics_service.engine import Engine
from metrics_service.eventlog import correct_time as module
from metrics_service.eventlog import partitions
from metrics_service.eventlog.correct_time import Correction, NotCorrectedError, correct_time
from metrics_service.eventlog.event_log import EventLog
from metrics_service.state.series.rings import HOUR_US
from protos.tracking.v1 import event_pb2
from servicekit.clock import wall_us
from tests.bench.fold_rate import SECOND_US, fact_events
from tests.metrics.delivery_pair import until
from tests.metrics.eventlog.test_clock import Clocks
from tests.metrics.eventlog.test_event_log import DAY_US, attach, opened

SESSIONS = 5
# A start that finds the clock further ahead does not believe it.
FAR = timedelta(days=29)


@asynccontextmanager
async def folded(dsn: str, ahead_us: int | None = None) -> AsyncIterator[tuple[EventLog, Engine]]:
    """A log and its state, by a clock that is ahead, or by the database's."""
    clocks = Clocks()
    if ahead_us is not None:
        clocks.us = wall_us() + ahead_us
    options = {} if ahead_us is None else {"now_us": clocks.now_us}
    async with opened(dsn, **options) as log:
        engine = Engine(log)
        await engine.start()
        yield log, engine
        await engine.stop()


async def book(log: EventLog, engine: Engine, seq: int) -> None:
    """Append confirmed bookings of the last minute, one session in each batch."""
    append = await attach(log)
    start_us = wall_us() - 300 * SECOND_US
    events = list(fact_events(random.Random(seq), SESSIONS, start_us))
    for number in range(SESSIONS):
        session = event_pb2.EventList(events=events[4 * number : 4 * number + 4])
        await append(seq + number, session.SerializeToString())
    await until(lambda: engine.position == log.last_position)


def confirmed(engine: Engine, window_us: int | None = HOUR_US) -> int:
    return engine.state.metrics(window_us).business.confirmed


async def poisoned(dsn: str) -> None:
    """A log that is right, and then far ahead, with a checkpoint."""
    async with folded(dsn, -600 * SECOND_US) as (log, engine):
        await book(log, engine, 1)
    async with folded(dsn, FAR.days * DAY_US) as (log, engine):
        await book(log, engine, 1 + SESSIONS)
        assert confirmed(engine) == 0
    # Nothing mends it by itself.
    async with folded(dsn) as (log, engine):
        await book(log, engine, 1 + 2 * SESSIONS)
        assert log.clock.step_us < -28 * DAY_US
        assert confirmed(engine) == 0
        assert confirmed(engine, None) == 3 * SESSIONS
        with pytest.raises(NotCorrectedError, match="stop it first"):
            await correct_time(dsn)


async def is_right(dsn: str, log: EventLog, engine: Engine) -> None:
    """The time of everything is that of now."""
    assert log.clock.step_us == 0
    assert abs(engine.state.as_of_us - wall_us()) < 60 * SECOND_US
    side = await asyncpg.connect(dsn)
    rows = await side.fetch("SELECT received_at FROM event_log ORDER BY position")
    times = [row["received_at"] for row in rows]
    assert times == sorted(times)
    now = datetime.now(UTC)
    assert times[-1] - now < timedelta(minutes=1)
    assert max(await partitions.existing(side)) - now < timedelta(days=partitions.DAYS_AHEAD + 1)
    assert await side.fetchval("SELECT max(updated_at) FROM producer") - now < timedelta(minutes=1)
    await side.close()


async def test_a_log_that_is_complete_is_folded_again_with_right_times(metrics_dsn: str) -> None:
    await poisoned(metrics_dsn)
    done = await correct_time(metrics_dsn)
    assert (done.records, done.refold) == (2 * SESSIONS, True)
    assert abs(done.ahead - FAR) < timedelta(minutes=10)
    async with folded(metrics_dsn) as (log, engine):
        assert confirmed(engine) == confirmed(engine, None) == 3 * SESSIONS
        await book(log, engine, 1 + 3 * SESSIONS)
        assert confirmed(engine) == confirmed(engine, None) == 4 * SESSIONS
        await is_right(metrics_dsn, log, engine)
    with pytest.raises(NotCorrectedError, match="not ahead"):
        await correct_time(metrics_dsn)


async def test_without_its_beginning_the_state_is_kept_and_goes_back(metrics_dsn: str) -> None:
    await poisoned(metrics_dsn)
    side = await asyncpg.connect(metrics_dsn)
    await side.execute("DELETE FROM event_log WHERE position <= 2")
    await side.close()
    done = await correct_time(metrics_dsn)
    assert (done.records, done.refold) == (2 * SESSIONS, False)
    async with folded(metrics_dsn) as (log, engine):
        assert confirmed(engine, None) == 3 * SESSIONS
        await book(log, engine, 1 + 3 * SESSIONS)
        assert confirmed(engine) == SESSIONS
        assert confirmed(engine, None) == 4 * SESSIONS
        await is_right(metrics_dsn, log, engine)
    # The state is that of the log: another start reads the same.
    async with folded(metrics_dsn) as (_, engine):
        assert confirmed(engine) == SESSIONS


async def test_only_the_head_of_a_log_may_be_ahead(metrics_dsn: str) -> None:
    side = await asyncpg.connect(metrics_dsn)
    await side.execute("UPDATE event_log_head SET received_at = clock_timestamp() + $1", FAR)
    await side.close()
    done = await correct_time(metrics_dsn)
    assert isinstance(done, Correction)
    assert (done.records, done.refold) == (0, False)
    async with folded(metrics_dsn) as (log, engine):
        await book(log, engine, 1)
        await is_right(metrics_dsn, log, engine)


async def test_it_does_nothing_by_a_clock_that_may_be_wrong(
    metrics_dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    await poisoned(metrics_dsn)
    monkeypatch.setattr(module, "wall_us", lambda: wall_us() + 400 * DAY_US)
    with pytest.raises(NotCorrectedError, match="set the wrong one right first"):
        await correct_time(metrics_dsn)
