"""The only writer of the event log: it carries out the requests of all streams in groups, each in
one transaction, and answers them only after its commit.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections import deque
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any, Final, TypeVar

import asyncpg
import structlog

from metrics_service.eventlog import partitions, rows, single_events
from metrics_service.eventlog.producers import Appended, Plan, Producers, Request
from metrics_service.eventlog.row import tick_row
from metrics_service.state.record import LogRecord
from metrics_service.storage.connections import TROUBLE, connect
from metrics_service.storage.errors import LogUnavailableError, line_of
from metrics_service.storage.sql import QueryGroup

log = structlog.get_logger()

_LOG: Final = QueryGroup("log")
_PRODUCERS: Final = QueryGroup("producers")

MAX_GROUP_REQUESTS: Final = 512
MAX_GROUP_BYTES: Final = 8 * 1024 * 1024
MAX_QUEUE_BYTES: Final = 64 * 1024 * 1024

COMMIT_TIMEOUT_S: Final = 5.0
STANDBY_POLL_S: Final = 0.5
MAX_RECONNECT_S: Final = 2.0
LEAD_IDLE_S: Final = 10.0
"""The server ends the session of a leader that writes nothing for this long, since it would write
at each tick: the process is frozen or its host is lost, and another one is to lead.
"""

WRITER_LOCK: Final = 0x66617265_686F6C64
"""The advisory lock of the writer, one in each metrics database."""

T = TypeVar("T")


class Writer:
    """Holds the lead by a session advisory lock on the connection it writes with, so that it never
    has only one of the two, and takes the lead again by itself. `on_records` gets the records of
    each commit, and an empty list when the lead was taken and the log may hold others;
    `on_superseded` is told, perhaps repeatedly, that another process has led since this one did,
    and that this one leads.
    """

    def __init__(
        self,
        dsn: str,
        producers: Producers,
        *,
        now_us: Callable[[], int] | None,
        monotonic_s: Callable[[], float],
        tick_s: float,
        backfill_only: bool = False,
    ) -> None:
        self.epoch, self.sink_id = 0, ""
        self.fact_time_us = self.facts_known_us = 0
        self.last_position = 0
        self.leading = asyncio.Event()
        self.standing_by = self.superseded = False
        self.on_records: Callable[[list[LogRecord]], None] = lambda _: None
        self.on_superseded: Callable[[bool], None] = lambda _: None
        self._dsn = dsn
        self._producers = producers
        self.clock = partitions.LogClock(now_us, monotonic_s)
        self._monotonic_s = monotonic_s
        self._tick_s = tick_s
        self._tick = tick_row(backfill=backfill_only)
        self._queue: deque[Request] = deque()
        self._queued_bytes, self._stopping = 0, False
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._received_at, self._last_append_s = rows.EPOCH, 0.0
        self._days: set[datetime] = set()

    def start(self) -> None:
        """Start to take the lead."""
        self._task = asyncio.create_task(self._run(), name="event log writer")

    async def stop(self) -> None:
        """Carry out the queued requests, and give up the lead."""
        self._stopping = True
        self._wake.set()
        if self._task is not None:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(COMMIT_TIMEOUT_S if self.leading.is_set() else 0):
                    await asyncio.shield(self._task)
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def submit(self, request: Request) -> None:
        """Queue a request; its future is answered when the lead is lost, if not before."""
        if not self.leading.is_set() or self._stopping:
            _refuse(request, LogUnavailableError("the log cannot be written now"))
        elif self._queued_bytes + request.size > MAX_QUEUE_BYTES:
            _refuse(request, LogUnavailableError("too many requests wait to be written"))
        else:
            self._queue.append(request)
            self._queued_bytes += request.size
            self._wake.set()

    def received_now(self) -> datetime:
        """Return the received_at of a record appended now: the clock, but never going back."""
        return rows.EPOCH + timedelta(microseconds=self.clock.now_us())

    async def _run(self) -> None:
        failures = 0
        while not self._stopping:
            connection: asyncpg.Connection[Any] | None = None
            try:
                connection = await self._connect()
                await self._take_lead(connection)
                failures = 0
                await self._write_until_stopped(connection)
                await connection.close(timeout=COMMIT_TIMEOUT_S)
            except TROUBLE as trouble:
                if self.leading.is_set() or failures == 0:
                    log.warning("log_lost", reason=line_of(trouble))
                failures += 1
            except Exception:
                log.exception("log_writer_failed")
                failures += 1
            finally:
                self.leading.clear()
                self.standing_by = False
                self._refuse_all()
                if connection is not None:
                    connection.terminate()
            if not self._stopping:
                limit_s = min(MAX_RECONNECT_S, 0.1 * 2 ** min(failures, 10))
                await asyncio.sleep(random.uniform(0, limit_s))  # noqa: S311 - jitter

    async def _connect(self) -> asyncpg.Connection[Any]:
        limits = ("idle_session_timeout", "idle_in_transaction_session_timeout")
        return await connect(self._dsn, **dict.fromkeys(limits, f"{LEAD_IDLE_S * 1000:.0f}"))

    async def _take_lead(self, connection: asyncpg.Connection[Any]) -> None:
        awaited = False
        while not await connection.fetchval(_LOG.try_lock, WRITER_LOCK):
            if not awaited:
                awaited = True
                self.standing_by = self.epoch == 0
                log.info("log_lead_awaited")
            # The lock may still be held by the lost session of this process itself.
            if self.epoch and await connection.fetchval(_LOG.writer_epoch) != self.epoch:
                self.superseded = True
                self.on_superseded(True)
            await asyncio.sleep(STANDBY_POLL_S)
        head = await connection.fetchrow(_LOG.take_lead)
        if head is None:
            raise LogUnavailableError("the head of the log is missing")
        self.epoch = head["writer_epoch"]
        self.sink_id = str(head["sink_id"])
        self.facts_known_us = rows.microseconds(head["facts_known_from"] or rows.EPOCH)
        self.last_position = head["next_position"] - 1
        self._received_at = head["received_at"]
        self.clock.begin(rows.microseconds(head["clock"]), rows.microseconds(self._received_at))
        stored = dict(map(rows.producer_of, await connection.fetch(_PRODUCERS.list)))
        self._producers.reload(stored, self._monotonic_s())
        self._days = set(await partitions.existing(connection))
        self._last_append_s = self._monotonic_s()
        self.leading.set()
        self.standing_by = self.superseded = False
        self.on_superseded(False)
        log.info("log_lead_taken", writer_epoch=self.epoch, position=self.last_position)
        self.on_records([])

    async def _write_until_stopped(self, connection: asyncpg.Connection[Any]) -> None:
        while True:
            due_s = self._last_append_s + self._tick_s - self._monotonic_s()
            if not self._queue and due_s > 0 and not self._stopping:
                self._wake.clear()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(due_s):
                        await self._wake.wait()
            if self._stopping and not self._queue:
                return
            await self._write_group(connection)

    async def _write_group(self, connection: asyncpg.Connection[Any]) -> None:
        group = self._take_group()
        try:
            now_s = self._monotonic_s()
            plan = self._producers.plan(group, now_s)
            if not plan.rows and now_s - self._last_append_s >= self._tick_s:
                plan.rows.append(self._tick)
            first = self.last_position + 1
            if plan.writes:
                async with asyncio.timeout(COMMIT_TIMEOUT_S):
                    first = await self._commit(connection, plan)
        except BaseException:
            for request in group:
                _refuse(request, LogUnavailableError("the log could not be written"))
            raise
        self._producers.committed(plan)
        if plan.rows:
            self._last_append_s = self._monotonic_s()
            self.on_records(
                [
                    rows.written_record(row, position, self._received_at)
                    for position, row in enumerate(plan.rows, start=first)
                ]
            )
        _answer(plan, first)

    def _take_group(self) -> list[Request]:
        group: list[Request] = []
        size = 0
        while self._queue and len(group) < MAX_GROUP_REQUESTS and size < MAX_GROUP_BYTES:
            request = self._queue.popleft()
            size += request.size
            group.append(request)
        self._queued_bytes -= size
        return group

    async def _commit(self, connection: asyncpg.Connection[Any], plan: Plan) -> int:
        """Write the plan; returns the position of its first row."""
        stamp = self.received_now()
        (today,) = partitions.days_from(stamp, 0)
        if today not in self._days:
            await partitions.create(connection, today)
            self._days.add(today)
        old = self._producers.stored
        moved = [(key, new, old[key]) for key, new in plan.changed.items() if key in old]
        added = [(key, new) for key, new in plan.changed.items() if key not in old]
        facts = await rows.facts_of(plan)
        async with connection.transaction():
            if plan.singles:
                plan.rows += await single_events.add_ids(connection, plan.singles, today.date())
            head = await connection.fetchrow(_LOG.advance, len(plan.rows), stamp, self.epoch)
            if head is None:
                raise LogUnavailableError("another process has become the writer")
            first, received_at = int(head["first"]), head["received_at"]
            self.clock.read(rows.microseconds(head["clock"]))
            if moved:
                columns = rows.moved_columns(moved, stamp)
                if await connection.execute(_PRODUCERS.move, *columns) != f"UPDATE {len(moved)}":
                    raise LogUnavailableError("a producer was moved by another process")
            if added:
                await connection.copy_records_to_table(
                    "producer", records=[rows.producer_row(*one, stamp) for one in added]
                )
            if plan.forgotten:
                await connection.execute(_PRODUCERS.remove, *rows.key_columns(plan.forgotten))
            if facts:
                self.fact_time_us = facts[-1].time_us
                ids = [fact.id for fact in facts if fact.time_us >= self.facts_known_us]
                new = await connection.fetch(_LOG.add_facts, ids, today.date())
                rows.mark_repeats(plan, facts, {row["id"] for row in new})
            if plan.rows:
                await connection.copy_records_to_table(
                    "event_log",
                    columns=rows.COLUMNS,
                    records=[
                        rows.log_row(row, position, received_at)
                        for position, row in enumerate(plan.rows, start=first)
                    ],
                )
        self._received_at = received_at
        self.last_position = first + len(plan.rows) - 1
        return first

    def _refuse_all(self) -> None:
        while self._queue:
            _refuse(self._queue.popleft(), LogUnavailableError("the log cannot be written now"))
        self._queued_bytes = 0


def _answer(plan: Plan, first: int) -> None:
    for opened, point in plan.opened:
        _resolve(opened.done, point)
    for request, row, durable_seq in plan.appended:
        _resolve(request.done, Appended(None if row is None else first + row, durable_seq))
    for closed in plan.closed:
        _resolve(closed.done, None)
    for single in plan.singles:
        _resolve(single.done, single.is_new)
    for refused, reason in plan.refused:
        _refuse(refused, reason)


def _resolve(done: asyncio.Future[T], answer: T) -> None:
    if not done.done():
        done.set_result(answer)


def _refuse(request: Request, reason: Exception) -> None:
    if not request.done.done():
        request.done.set_exception(reason)
