"""The event log on PostgreSQL: dense positions, time that never goes back, one writer."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import pytest

from metrics_service.eventlog import partitions
from metrics_service.eventlog.errors import FencedError, GapError
from metrics_service.eventlog.event_log import EventLog
from metrics_service.eventlog.producer import ProducerKey
from metrics_service.state.record import LogRecord
from metrics_service.storage.errors import (
    CheckpointConflictError,
    LogNotReadyError,
    LogUnavailableError,
)
from tests.metrics.delivery_pair import FACTS, TELEMETRY, until

NOON_US = int(datetime(2026, 3, 29, 12, tzinfo=UTC).timestamp()) * 1_000_000
DAY_US = 86_400_000_000


class Clock:
    """A wall clock that the test sets."""

    def __init__(self) -> None:
        self.us = NOON_US

    def __call__(self) -> int:
        return self.us


@asynccontextmanager
async def opened(dsn: str, **options: Any) -> AsyncIterator[EventLog]:
    """A log that leads."""
    log = EventLog(dsn, **{"tick_s": 3_600.0, **options})
    await log.start()
    try:
        async with asyncio.timeout(20):
            await log.wait_leading()
        yield log
    finally:
        await log.stop()


async def attach(
    log: EventLog,
    name: str = "relay",
    epoch: int = 1,
    lane: int = FACTS,
    succeeds: tuple[str, ...] = (),
) -> Any:
    """Open a producer; returns append(seq, payload)."""
    key = ProducerKey(lane, name)
    point = await log.open_producer(
        key, epoch=epoch, instance="i", service="test", backfill=False, succeeds=succeeds
    )

    def append(seq: int, payload: bytes = b"x") -> asyncio.Future[Any]:
        return log.append(key, token=point.token, epoch=epoch, seq=seq, count=1, payload=payload)

    return append


async def everything(log: EventLog) -> list[LogRecord]:
    records: list[LogRecord] = []
    while page := await log.read(records[-1].position if records else 0):
        records.extend(page)
    return records


async def test_positions_are_dense_over_all_producers_and_one_commit_takes_many(
    metrics_dsn: str,
) -> None:
    commits: list[int] = []
    async with opened(metrics_dsn) as log:
        log.subscribe(lambda records: commits.append(len(records)))
        one, two = await attach(log, "one"), await attach(log, "two", lane=TELEMETRY)
        commits.clear()
        answers = await asyncio.gather(
            *(append(seq) for seq in range(1, 51) for append in (one, two))
        )
        assert sorted(answer.position for answer in answers) == list(range(1, 101))
        stored = await everything(log)
    assert [record.position for record in stored] == list(range(1, 101))
    assert commits == [100]


async def test_subscribers_get_the_records_that_are_read_back(metrics_dsn: str) -> None:
    handed: list[LogRecord] = []
    async with opened(metrics_dsn, tick_s=0.05) as log:
        log.subscribe(handed.extend)
        append = await attach(log)
        await asyncio.gather(*(append(seq, bytes([seq])) for seq in range(1, 10)))
        await until(lambda: any(record.kind == "tick" for record in handed))
        stored = await everything(log)
        assert stored[: len(handed)] == handed[: len(stored)]
        assert {record.kind for record in stored} == {"batch", "tick"}


async def test_received_at_never_goes_back_when_the_clock_does(metrics_dsn: str) -> None:
    clock = Clock()
    async with opened(metrics_dsn, now_us=clock, monotonic_s=lambda: 0.0) as log:
        append = await attach(log)
        await append(1)
        clock.us -= 5 * DAY_US
        await append(2)
        clock.us = NOON_US + 1
        await append(3)
    clock.us = NOON_US - DAY_US
    async with opened(metrics_dsn, now_us=clock, monotonic_s=lambda: 0.0) as log:
        append = await attach(log)
        await append(4)
        times = [record.received_at_us - NOON_US for record in await everything(log)]
    assert times == [0, 0, 1, 1]


async def test_a_clock_that_jumps_past_the_created_days_finds_a_partition(
    metrics_dsn: str,
) -> None:
    clock = Clock()
    async with opened(metrics_dsn, now_us=clock) as log:
        append = await attach(log)
        await append(1)
    clock.us += 400 * DAY_US
    async with opened(metrics_dsn, now_us=clock) as log:
        append = await attach(log)
        assert (await append(2)).position == 2


async def test_every_refusal_gives_its_reason_and_stores_nothing(metrics_dsn: str) -> None:
    async with opened(metrics_dsn) as log:
        append = await attach(log)
        with pytest.raises(GapError) as gap:
            await append(2)
        assert gap.value.next_seq == 1
        assert (await append(1)).position == 1
        again = await append(1)
        assert (again.position, again.durable_seq) == (None, 1)
        newer = await attach(log, epoch=2)
        with pytest.raises(FencedError):
            await append(2)
        with pytest.raises(FencedError):
            await attach(log, epoch=1)
        assert (await newer(2)).position == 2
        assert [record.epoch for record in await everything(log)] == [1, 2]


async def test_a_newer_stream_of_the_same_epoch_fences_the_older(metrics_dsn: str) -> None:
    async with opened(metrics_dsn) as log:
        older, newer = await attach(log), await attach(log)
        with pytest.raises(FencedError):
            await older(1)
        assert (await newer(1)).position == 1


async def test_a_second_process_waits_and_takes_over_when_the_first_has_ended(
    metrics_dsn: str,
) -> None:
    second = EventLog(metrics_dsn, tick_s=3_600)
    try:
        async with opened(metrics_dsn) as first:
            append = await attach(first)
            await append(1)
            await second.start()
            await asyncio.wait({asyncio.ensure_future(second.wait_leading())}, timeout=0.8)
            assert not second.leading
            with pytest.raises(LogUnavailableError):
                await attach(second)
        await until(lambda: second.leading)
        append = await attach(second)
        assert (await append(2)).position == 2
    finally:
        await second.stop()


async def test_a_frozen_leader_loses_the_lead(
    metrics_dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def never() -> None:
        await asyncio.Event().wait()

    second = EventLog(metrics_dsn, tick_s=3_600)
    try:
        with monkeypatch.context() as quick:
            quick.setattr("metrics_service.eventlog.writer.LEAD_IDLE_S", 0.3)
            first = EventLog(metrics_dsn, tick_s=3_600)
            await first.start()
            await until(lambda: first.leading)
        # It neither writes nor finds out that its session has ended.
        monkeypatch.setattr(first._writer, "_connect", never)
        await second.start()
        await until(lambda: second.leading)
    finally:
        await second.stop()
        await first.stop()


async def test_a_writer_that_lost_its_connection_is_refused_by_the_epoch_of_the_next(
    metrics_dsn: str,
) -> None:
    async with opened(metrics_dsn) as log:
        append = await attach(log)
        await append(1)
        other = await asyncpg.connect(metrics_dsn)
        await other.execute("UPDATE event_log_head SET writer_epoch = writer_epoch + 1")
        await other.close()
        with pytest.raises(LogUnavailableError):
            await append(2)
        await until(lambda: log.leading)
        assert (await append(2)).position == 2


async def test_a_request_is_never_left_without_an_answer(metrics_dsn: str) -> None:
    async with opened(metrics_dsn) as log:
        append = await attach(log)
        waiting = [append(seq) for seq in range(1, 200)]
        await log.stop()
        done = await asyncio.gather(*waiting, return_exceptions=True)
        answered = [answer for answer in done if not isinstance(answer, LogUnavailableError)]
        assert len(done) == 199
        with pytest.raises(LogUnavailableError):
            await append(200)
    async with opened(metrics_dsn) as log:
        assert len(await everything(log)) == len(answered)


async def test_a_checkpoint_is_changed_by_rows_and_refused_to_an_outdated_process(
    metrics_dsn: str,
) -> None:
    async with opened(metrics_dsn) as log:
        assert (await log.load_checkpoint()).position == 0
        await log.save_checkpoint(5, 1, [("a", 1, b"1"), ("a", 2, b"2")], [], replace=True)
        await log.save_checkpoint(
            9, 1, [("a", 2, b"two"), ("b", -1, b"3")], [("a", 1)], replace=False
        )
        saved = await log.load_checkpoint()
        assert (saved.position, saved.state_version) == (9, 1)
        assert sorted(saved.rows) == [("a", 2, b"two"), ("b", -1, b"3")]

        other = await asyncpg.connect(metrics_dsn)
        assert await other.fetchval("SELECT previous_position FROM checkpoint") == 5
        await other.execute("UPDATE checkpoint SET generation = generation + 1")
        await other.close()
        with pytest.raises(CheckpointConflictError):
            await log.save_checkpoint(11, 1, [("c", 1, b"old")], [], replace=True)
        untouched = await log.load_checkpoint()
        assert (untouched.position, sorted(untouched.rows)) == (9, sorted(saved.rows))


async def test_a_checkpoint_is_refused_once_another_process_is_the_writer(
    metrics_dsn: str,
) -> None:
    async with opened(metrics_dsn) as log:
        await log.load_checkpoint()
        other = await asyncpg.connect(metrics_dsn)
        await other.execute("UPDATE event_log_head SET writer_epoch = writer_epoch + 1")
        await other.close()
        with pytest.raises(CheckpointConflictError):
            await log.save_checkpoint(1, 1, [("a", 1, b"x")], [], replace=True)


async def test_days_are_created_ahead_and_dropped_after_retention_but_not_before_two_checkpoints(
    metrics_dsn: str,
) -> None:
    clock = Clock()
    side = await asyncpg.connect(metrics_dsn)

    async def days() -> list[str]:
        return sorted(f"{day:%m-%d}" for day in await partitions.existing(side))

    for day in range(3):
        async with opened(metrics_dsn, now_us=clock, retention_days=1) as log:
            append = await attach(log)
            await append(day + 1)
            clock.us += DAY_US
    await until(lambda: True)
    assert (await days())[:3] == ["03-29", "03-30", "03-31"]

    # Fewer than the 30 days after which the clock itself is doubted.
    clock.us = NOON_US + 20 * DAY_US
    async with opened(metrics_dsn, now_us=clock, retention_days=1) as log:
        await log.load_checkpoint()
        await log._checkpoints.using(log._keep_partitions)
        assert "03-29" in await days()
        await log.save_checkpoint(2, 1, [], [], replace=True)
        await log.save_checkpoint(3, 1, [], [], replace=True)
        await log._checkpoints.using(log._keep_partitions)
        kept = await days()
        assert "03-29" not in kept
        assert "03-30" not in kept
        assert "03-31" in kept
        ahead = datetime(2026, 4, 18, tzinfo=UTC) + timedelta(days=partitions.DAYS_AHEAD)
        assert f"{ahead:%m-%d}" in kept
        assert [record.position for record in await everything(log)] == [3]
    await side.close()


async def test_a_page_is_bounded_in_bytes_and_never_empty_before_the_end(
    metrics_dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("metrics_service.eventlog.event_log.PAGE_BYTES", 1_000)
    async with opened(metrics_dsn) as log:
        append = await attach(log)
        for seq, size in enumerate((10, 5_000, 400, 400, 400), start=1):
            await append(seq, bytes(size))
        assert [record.position for record in await log.read(0)] == [1, 2]
        assert [record.position for record in await log.read(1)] == [2]
        assert [record.position for record in await log.read(2)] == [3, 4, 5]
        assert await log.read(5) == []


async def test_a_log_that_cannot_be_used_is_reported_in_one_line(
    metrics_dsn: str, empty_dsn: str
) -> None:
    with pytest.raises(LogNotReadyError, match="is not migrated: run `make migrate`"):
        await EventLog(empty_dsn).start()
    nowhere = "postgresql://user:secret@127.0.0.1:1/metrics"
    with pytest.raises(LogNotReadyError, match="cannot be reached") as refused:
        await EventLog(nowhere).start()
    assert "127.0.0.1:1/metrics" in str(refused.value)
    assert "secret" not in str(refused.value)
    assert "\n" not in str(refused.value)
    assert metrics_dsn
