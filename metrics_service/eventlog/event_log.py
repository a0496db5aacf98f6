"""The event log in PostgreSQL: one writer appends records at dense positions, and readers get them
in this order; with the checkpoints of the state folded from it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from datetime import date, datetime, timedelta
from functools import partial
from typing import Any, Final

import asyncpg
import structlog

from metrics_service.eventlog import forgetting, partitions, rows, single_events
from metrics_service.eventlog.producer import ProducerKey, ResumePoint
from metrics_service.eventlog.producers import (
    Appended,
    AppendRequest,
    CloseRequest,
    OpenRequest,
    Producers,
)
from metrics_service.eventlog.single_events import SingleEvent, SingleRequest
from metrics_service.eventlog.writer import Writer
from metrics_service.state.record import LogRecord
from metrics_service.storage import history, session_rows
from metrics_service.storage.checkpoints import Checkpoint, CheckpointStore, Section, Write
from metrics_service.storage.connections import check_ready
from metrics_service.storage.errors import LogUnavailableError, line_of
from metrics_service.storage.history_reader import HistoryReader
from metrics_service.storage.session_reader import SessionReader
from metrics_service.storage.sql import QueryGroup
from servicekit.background import BackgroundTask
from servicekit.budget import Budget

log = structlog.get_logger()

_LOG: Final = QueryGroup("log")
_PRODUCERS: Final = QueryGroup("producers")

TICK_S: Final = 1.0
"""A tick is appended after this time without a record."""

UNCLEAN_AFTER_S: Final = 15.0
"""A telemetry producer without a stream for this long counts as ended."""

RETENTION_DAYS: Final = 35

PAGE_RECORDS: Final = 512
PAGE_BYTES: Final = 8 * 1024 * 1024
MAINTENANCE_S: Final = 600.0

MEASURE_S: Final = 5.0
"""How often the size of the log is compared with its budget."""

MAX_BYTES: Final = 32_768 * 10**6
FACT_IDS_DAYS: Final = 400


class EventLog:
    """The log of one metrics database.

    One process writes, others wait to take over. While the database is unavailable or another
    process is the writer, requests fail with LogUnavailableError; the log recovers by itself. Its
    clock is that of the database, or now_us.
    """

    def __init__(
        self,
        dsn: str,
        *,
        now_us: Callable[[], int] | None = None,
        monotonic_s: Callable[[], float] = time.monotonic,
        retention_days: int = RETENTION_DAYS,
        tick_s: float = TICK_S,
        unclean_after_s: float = UNCLEAN_AFTER_S,
        max_producers: int = forgetting.MAX_PRODUCERS,
        max_bytes: int = MAX_BYTES,
        fact_ids_days: int = FACT_IDS_DAYS,
        backfill_only: bool = False,
    ) -> None:
        self._dsn, self._monotonic_s = dsn, monotonic_s
        self._retention_days = retention_days
        self._max_bytes, self._fact_ids_days = max_bytes, fact_ids_days
        self._maintained_s: float | None = None
        self._days = Budget("days of the event log", "dropped")
        self._producers = Producers(unclean_after_s, max_producers)
        self._checkpoints = CheckpointStore(dsn)
        self.sessions = SessionReader(dsn)
        self.history = HistoryReader(dsn)
        self._maintenance = BackgroundTask("event log maintenance")
        self._writer = Writer(
            dsn,
            self._producers,
            now_us=now_us,
            monotonic_s=monotonic_s,
            tick_s=tick_s,
            backfill_only=backfill_only,
        )
        self.clock: Final = self._writer.clock
        """The time of the log, while this process leads."""

    async def start(self) -> None:
        """Check the database and start to take the lead. Raises LogNotReadyError with one line."""
        await check_ready(self._dsn)
        self._writer.start()
        self._maintenance.start(self._maintain())

    async def stop(self) -> None:
        """Write the queued requests, give up the lead, and close the connections."""
        await self._maintenance.stop()
        await self._writer.stop()
        await self.history.close()
        await self._checkpoints.close()
        await self.sessions.close()

    @property
    def leading(self) -> bool:
        """Whether this process is the writer and the database answers."""
        return self._writer.leading.is_set()

    @property
    def superseded(self) -> bool:
        """Whether another process has become the writer after this one."""
        return self._writer.superseded

    @property
    def standing_by(self) -> bool:
        """Whether this process has never been the writer, and waits while another one is."""
        return self._writer.standing_by

    async def wait_leading(self) -> None:
        """Wait until this process is the writer."""
        await self._writer.leading.wait()

    @property
    def last_position(self) -> int:
        """The position of the newest record known to be stored; 0 for none."""
        return self._writer.last_position

    @property
    def sink_id(self) -> str:
        """The UUID of this log; empty before this process is its writer."""
        return self._writer.sink_id

    @property
    def writer_epoch(self) -> int:
        """The epoch of this process as the writer, the newest one where it leads no more."""
        return self._writer.epoch

    @property
    def over_budget(self) -> list[str]:
        """What the bounds of the log have refused or dropped within the last minute."""
        budgets = (self._days, self._producers.refusals, self._producers.budget)
        return [budget.line for budget in budgets if budget.line]

    def subscribe(self, on_records: Callable[[list[LogRecord]], None]) -> None:
        """Call on_records with the records of each commit, in order, and with an empty list when
        this process becomes the writer and the log may hold records that it has not passed on.
        """
        self._writer.on_records = on_records

    def on_superseded(self, listener: Callable[[bool], None]) -> None:
        """Call listener with True, perhaps repeatedly, when another process has become the writer
        after this one, and with False when this one is the writer. A lost database is neither.
        """
        self._writer.on_superseded = listener

    # A request is queued at once; its future has the answer after the commit.

    def open_producer(
        self,
        key: ProducerKey,
        *,
        epoch: int,
        instance: str,
        service: str,
        backfill: bool,
        succeeds: tuple[str, ...] = (),
    ) -> asyncio.Future[ResumePoint]:
        """Attach a stream to a producer; succeeds are the ids of those whose place it takes.

        FencedError when a newer epoch has taken over; of facts also EpochError and ForkedError.
        """
        done: asyncio.Future[ResumePoint] = asyncio.get_running_loop().create_future()
        self._writer.submit(OpenRequest(key, epoch, instance, service, backfill, done, succeeds))
        return done

    def append(
        self, key: ProducerKey, *, token: int, epoch: int, seq: int, count: int, payload: bytes
    ) -> asyncio.Future[Appended]:
        """Append a batch exactly once. RefusedError with its reason, LogUnavailableError."""
        done: asyncio.Future[Appended] = asyncio.get_running_loop().create_future()
        self._writer.submit(AppendRequest(key, token, epoch, seq, count, payload, done))
        return done

    def append_single(self, event: SingleEvent) -> asyncio.Future[bool]:
        """Append an event of no producer once by its id, and answer whether it is new.

        LogUnavailableError.
        """
        done: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._writer.submit(SingleRequest(event, done))
        return done

    def close_producer(self, key: ProducerKey, *, token: int) -> asyncio.Future[None]:
        """Close a producer that has sent Goodbye."""
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._writer.submit(CloseRequest(key, token, done))
        return done

    def release_producer(self, key: ProducerKey, *, token: int) -> None:
        """Detach the stream of a producer that ended without Goodbye; another may follow."""
        self._producers.release(key, token, self._monotonic_s())

    async def read(self, after: int) -> list[LogRecord]:
        """Read a page of records after a position, empty at the end. LogUnavailableError."""
        page = await self._checkpoints.using(
            lambda connection: connection.fetch(_LOG.read, after, PAGE_RECORDS, PAGE_BYTES)
        )
        return [rows.stored_record(row) for row in page]

    async def load_checkpoint(self) -> Checkpoint:
        """Load the newest checkpoint; position 0 before the first. LogUnavailableError."""
        return await self._checkpoints.load()

    async def save_checkpoint(
        self,
        position: int,
        state_version: int,
        changed: list[Section],
        removed: list[tuple[str, int]],
        *,
        replace: bool,
        also: Sequence[Write] = (),
    ) -> None:
        """Change the checkpoint by compare-and-set, as in CheckpointStore.save."""
        content = position, state_version, changed, removed
        epoch = self._writer.epoch
        await self._checkpoints.save(*content, replace=replace, writer_epoch=epoch, also=also)

    async def _maintain(self) -> None:
        while True:
            await self.wait_leading()
            try:
                await self._checkpoints.using(self._keep_within)
                now_s = self._monotonic_s()
                if self._maintained_s is None or now_s - self._maintained_s >= MAINTENANCE_S:
                    self._maintained_s = now_s
                    first = await self._checkpoints.using(self._keep_partitions)
                    # Each step for itself, so that a checkpoint waits for one at most.
                    while await self._checkpoints.using(partial(session_rows.forget, first=first)):
                        pass
            except LogUnavailableError as trouble:
                log.warning("log_maintenance_failed", reason=line_of(trouble))
            await asyncio.sleep(MEASURE_S)

    async def _keep_within(self, connection: asyncpg.Connection[Any]) -> None:
        """Drop the oldest days beyond the budget; while the others exceed it, take no telemetry."""
        limit = f"{self._max_bytes / 1e6:g} MB"
        days, left = await partitions.drop_beyond(
            connection, self._writer.received_now(), self._max_bytes
        )
        for day in days:
            log.warning("log_partition_dropped", day=f"{day:%Y-%m-%d}")
        if days:
            self._days.exceeded(len(days), limit)
        self._producers.full = limit if left > self._max_bytes else ""

    async def _keep_partitions(self, connection: asyncpg.Connection[Any]) -> date:
        """Create the partitions of the coming days; drop partitions, ended producers and ids of
        facts older than their retention. Returns the first day that is kept.
        """
        now = self._writer.received_now()
        for day in partitions.days_from(now, partitions.DAYS_AHEAD):
            await partitions.create(connection, day)
        cutoff = now - timedelta(days=self._retention_days)
        for day in await partitions.drop_before(connection, cutoff, self._retention_days):
            log.info("log_partition_dropped", day=f"{day:%Y-%m-%d}")
        oldest = min(await partitions.existing(connection))
        forgotten = await connection.fetch(_PRODUCERS.forget, min(cutoff, oldest))
        self._producers.forget(ProducerKey(row["lane"], row["id"]) for row in forgotten)
        await single_events.forget_ids(connection, min(cutoff, oldest))
        await self._forget_facts(connection, now)
        await history.forget(connection)
        return min(cutoff, oldest).date()

    async def _forget_facts(self, connection: asyncpg.Connection[Any], now: datetime) -> None:
        newest = rows.EPOCH + timedelta(microseconds=self._writer.fact_time_us)
        first = forgetting.first_day(now, newest, self._fact_ids_days)
        if await forgetting.has_facts_before(connection, first):
            # In this process, which may be appending, before any id is deleted.
            known_us = rows.microseconds(first + forgetting.MARGIN)
            self._writer.facts_known_us = max(self._writer.facts_known_us, known_us)
            await forgetting.forget_facts(connection, first)
