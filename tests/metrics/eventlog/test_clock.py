"""The time of the log when the clock steps: it goes on, and retention drops nothing for it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import asyncpg
import pytest

from metrics_service.eventlog import partitions
from metrics_service.eventlog.event_log import EventLog
from metrics_service.eventlog.partitions import LogClock
from servicekit.clock import BELIEVED_AFTER_S, MAX_STEP_US
from tests.metrics.delivery_pair import events
from tests.metrics.eventlog.test_event_log import DAY_US, NOON_US, attach, everything, opened

SECOND_US = 1_000_000


class Clocks:
    """A wall clock and a monotonic one that the test moves."""

    def __init__(self) -> None:
        self.us = NOON_US
        self.s = 1_000.0

    def now_us(self) -> int:
        return self.us

    def monotonic_s(self) -> float:
        return self.s

    def passes(self, seconds: float) -> None:
        """Time passes on both."""
        self.us += int(seconds * SECOND_US)
        self.s += seconds

    @asynccontextmanager
    async def log(self, dsn: str, **options: Any) -> AsyncIterator[EventLog]:
        async with opened(dsn, now_us=self.now_us, monotonic_s=self.monotonic_s, **options) as log:
            yield log


async def times(log: EventLog) -> list[float]:
    """Seconds after noon of each record."""
    return [(each.received_at_us - NOON_US) / SECOND_US for each in await everything(log)]


@pytest.mark.parametrize("days", [400, -400])
async def test_a_step_for_three_seconds_leaves_the_time_as_it_is(
    metrics_dsn: str, days: int
) -> None:
    clocks = Clocks()
    async with clocks.log(metrics_dsn) as log:
        append = await attach(log)
        await append(1, events("a"))
        clocks.us += days * DAY_US
        clocks.passes(1)
        await append(2, events("b"))
        assert log.clock.step_us == days * DAY_US
        clocks.passes(2)
        await append(3, events("c"))
        clocks.us -= days * DAY_US
        clocks.passes(1)
        await append(4, events("d"))
        assert log.clock.step_us == 0
        assert await times(log) == [0, 1, 3, 4]


async def test_a_step_forward_that_stands_for_a_minute_is_followed(metrics_dsn: str) -> None:
    clocks = Clocks()
    async with clocks.log(metrics_dsn) as log:
        append = await attach(log)
        await append(1, events("a"))
        clocks.us += DAY_US
        await append(2, events("b"))
        clocks.passes(BELIEVED_AFTER_S - 1)
        await append(3, events("c"))
        clocks.passes(1)
        await append(4, events("d"))
        assert log.clock.step_us == 0
        day_s = DAY_US / SECOND_US
        assert await times(log) == [0, 0, BELIEVED_AFTER_S - 1, day_s + BELIEVED_AFTER_S]


async def test_a_clock_behind_the_log_is_never_followed_and_small_steps_are_at_once(
    metrics_dsn: str,
) -> None:
    clocks = Clocks()
    async with clocks.log(metrics_dsn) as log:
        append = await attach(log)
        await append(1, events("a"))
        clocks.us -= DAY_US
        await append(2, events("b"))
        clocks.passes(10 * BELIEVED_AFTER_S)
        await append(3, events("c"))
        assert log.clock.step_us == -DAY_US
        clocks.us += DAY_US + MAX_STEP_US
        await append(4, events("d"))
        assert log.clock.step_us == 0
        late_s = 10 * BELIEVED_AFTER_S
        assert await times(log) == [0, 0, late_s, late_s + MAX_STEP_US / SECOND_US]
    # Nor by a process that starts while it is behind.
    clocks.us -= 400 * DAY_US
    async with clocks.log(metrics_dsn) as log:
        append = await attach(log)
        clocks.passes(1)
        await append(5, events("e"))
        assert log.clock.step_us < 0
        assert (await times(log))[-1] == late_s + MAX_STEP_US / SECOND_US + 1


async def test_a_start_while_the_clock_is_far_ahead_is_a_step_too(metrics_dsn: str) -> None:
    clocks = Clocks()
    async with clocks.log(metrics_dsn) as log:
        append = await attach(log)
        await append(1, events("a"))
    clocks.us += 400 * DAY_US
    async with clocks.log(metrics_dsn) as log:
        append = await attach(log)
        await append(2, events("b"))
        clocks.passes(3)
        assert log.clock.step_us == 400 * DAY_US
        clocks.us -= 400 * DAY_US
        await append(3, events("c"))
        assert log.clock.step_us == 0
        assert await times(log) == [0, 0, 3]


async def test_after_a_long_time_without_a_process_the_clock_is_believed_in_a_minute(
    metrics_dsn: str,
) -> None:
    clocks = Clocks()
    for number, days in enumerate((0, 29, 400), start=1):
        clocks.us += days * DAY_US
        async with clocks.log(metrics_dsn) as log:
            append = await attach(log)
            if days > 30:
                clocks.passes(BELIEVED_AFTER_S)
            await append(number, events(f"after {days}"))
            assert log.clock.step_us == 0
            assert (await everything(log))[-1].received_at_us == clocks.us


async def test_without_another_clock_it_is_that_of_the_database(metrics_dsn: str) -> None:
    side = await asyncpg.connect(metrics_dsn)
    before = await side.fetchval("SELECT clock_timestamp()")
    async with opened(metrics_dsn) as log:
        append = await attach(log)
        for seq in range(1, 4):
            await append(seq, events(f"s{seq}"))
        stored = [
            row["received_at"] for row in await side.fetch("SELECT received_at FROM event_log")
        ]
    after = await side.fetchval("SELECT clock_timestamp()")
    await side.close()
    slack = after - before
    assert all(before - slack <= each <= after + slack for each in stored)


async def test_no_partition_is_dropped_before_so_many_later_days_have_records(
    metrics_dsn: str,
) -> None:
    """Not even where a process starts with its clock weeks ahead."""
    clocks = Clocks()
    side = await asyncpg.connect(metrics_dsn)
    oldest = []
    for day in range(4):
        async with clocks.log(metrics_dsn, retention_days=3) as log:
            append = await attach(log)
            await append(day + 1, events(f"d{day}"))
            await log.load_checkpoint()
            for _ in range(2):
                await log.save_checkpoint(day + 1, 1, [], [], replace=True)
            await log._checkpoints.using(log._keep_partitions)
        oldest.append(await side.fetchval("SELECT min(position) FROM event_log"))
        clocks.passes(29 * 86_400 if day == 1 else 86_400)
    # The first goes once three later days have records, whatever the clock says.
    assert oldest == [1, 1, 1, 2]
    await side.close()


@pytest.mark.parametrize("database_days", [400, -400])
def test_a_start_with_a_clock_far_from_the_machines_goes_on_at_the_earlier(
    monkeypatch: pytest.MonkeyPatch, database_days: int
) -> None:
    clocks = Clocks()
    database_us = NOON_US + database_days * DAY_US
    monkeypatch.setattr(partitions, "wall_us", lambda: NOON_US)
    clock = LogClock(None, clocks.monotonic_s)
    clock.begin(database_us, NOON_US - 2 * DAY_US)
    # Never before the newest record.
    begun_us = NOON_US if database_days > 0 else NOON_US - 2 * DAY_US
    assert clock.now_us() == begun_us
    assert clock.step_us == database_us - begun_us
    clocks.passes(1)
    clock.read(NOON_US + SECOND_US)
    assert clock.now_us() == begun_us + SECOND_US
    assert (clock.step_us == 0) == (database_days > 0)
