"""Seals the outbox into numbered segments and gives them to the tracking stream.

Numbers are dense, a segment never changes, and only the holder of the current epoch seals: a copy
that was frozen and wakes up seals nothing.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from typing import Final, NoReturn, Protocol

import structlog

from booking_service.delivery.segments import Epoch, Segments
from booking_service.storage.database import Database
from booking_service.storage.driver_errors import DatabaseError, DatabaseUnavailable
from metrics_service.client.host import ForkError, LaneDrained, LaneSource, OutBatch
from protos.tracking.v1 import tracking_pb2

POLL_S: Final = 0.25
"""How often the outbox is looked at when no commit of this process says so."""

SPACING_S: Final = 0.02
"""Between two seals, unless more waits than one segment takes; many commits share one."""

RETRY_S: Final = 1.0
"""Between two attempts to lead, or to reach the database."""

HOUSEKEEPING_S: Final = 1.0
READ_AHEAD: Final = 8

log = structlog.get_logger()


class Lanes(Protocol):
    """Where a lane is sent from: the stream client."""

    def add_lane(self, source: LaneSource) -> None: ...

    def remove_lane(self, source: LaneSource) -> None: ...


class OutboxRelay:
    """Seals and streams facts for as long as this process leads; otherwise waits to lead.

    Many copies may run against one database, one of them leads. `notify` after a commit makes it
    look at once.
    """

    def __init__(
        self,
        database: Database,
        lanes: Lanes,
        *,
        retention: timedelta = timedelta(hours=24),
        monotonic_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._database = database
        self._lanes = lanes
        self._retention = retention
        self._monotonic_s = monotonic_s
        self._committed = asyncio.Event()
        self._lane: FactLane | None = None
        self._pending: int | None = None
        self._task: asyncio.Task[None] | None = None

    @property
    def leading(self) -> bool:
        """Whether this process is the one that seals."""
        return self._lane is not None

    @property
    def facts_pending(self) -> int | None:
        """Facts committed and not yet acknowledged, as of a second ago; None where it does not
        lead.
        """
        return self._pending if self.leading else None

    def notify(self) -> None:
        """Facts were committed. Never waits."""
        self._committed.set()

    def start(self) -> None:
        self._task = asyncio.create_task(self._run(), name="outbox-relay")

    async def stop(self) -> None:
        """End and let another copy lead. What is not sealed stays in the outbox."""
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task
            self._task = None

    async def _run(self) -> None:
        interrupted = False
        while True:
            try:
                async with Segments.connected(self._database) as segments:
                    interrupted = False
                    leads = await segments.try_lead()
                    while not leads:
                        await asyncio.sleep(RETRY_S)
                        leads = await segments.try_lead()
                    await self._lead(segments)
            except (DatabaseUnavailable, DatabaseError) as error:
                if not interrupted:
                    log.warning("outbox relay interrupted", reason=str(error))
                interrupted = True
            except Exception:
                # Facts must go on, whatever it was.
                log.exception("outbox relay failed")
            await asyncio.sleep(RETRY_S)

    async def _lead(self, segments: Segments) -> None:
        epoch = await segments.raise_epoch()
        log.info("outbox relay leads", epoch=epoch.number, producer=epoch.producer_id)
        lane = self._lane = FactLane(segments, epoch)
        self._lanes.add_lane(lane)
        housekeeping_at_s = 0.0
        try:
            while not lane.ended:
                self._committed.clear()
                await lane.seal_all()
                if self._monotonic_s() >= housekeeping_at_s:
                    housekeeping_at_s = self._monotonic_s() + HOUSEKEEPING_S
                    self._pending = await segments.pending()
                    await segments.drop_acknowledged(self._retention)
                await asyncio.sleep(SPACING_S)
                with suppress(TimeoutError):
                    async with asyncio.timeout(POLL_S):
                        await self._committed.wait()
        finally:
            self._lane = None
            self._lanes.remove_lane(lane)
            log.info("outbox relay no longer leads", epoch=epoch.number)


class FactLane:
    """The segments as the stream wants them, from a resume point on. A LaneSource.

    When the database is lost, or a newer epoch rules there or at the sink, `ended` is set, and
    nothing comes any more until the relay has removed this lane.
    """

    def __init__(self, segments: Segments, epoch: Epoch) -> None:
        self.ended = False
        self._segments = segments
        self._epoch = epoch
        self._news = asyncio.Event()
        self._sent_seq = 0
        self._ahead: deque[OutBatch] = deque()
        self._draining = False

    @property
    def lane(self) -> tracking_pb2.Lane.ValueType:
        return tracking_pb2.LANE_FACTS

    @property
    def producer_id(self) -> str:
        return self._epoch.producer_id

    @property
    def epoch(self) -> int:
        return self._epoch.number

    async def seal_all(self) -> None:
        """Seal what is in the outbox now."""
        more = True
        while more and not self.ended:
            sealed = await self._segments.seal()
            if not sealed.leading:
                log.error("outbox relay fenced: the database knows a newer epoch", epoch=self.epoch)
                self.ended = True
            if sealed.seq is not None:
                self._news.set()
            more = sealed.more

    async def open(self, resume_after: int, batch_hash: bytes) -> None:
        """Go on after what the sink has stored, if it is what was sealed here.

        ForkError when it is not, when that cannot be told any more, or when segments that the sink
        lacks are no longer kept.
        """
        try:
            await self._compare(resume_after, batch_hash)
        except (DatabaseUnavailable, DatabaseError) as error:
            await self._lost(error)
        self._ahead.clear()
        self._sent_seq = resume_after

    async def next(self) -> OutBatch:
        while not self._ahead:
            self._news.clear()
            # As it is now: what was committed before drain() must still be sealed after it.
            draining = self._draining
            try:
                if draining:
                    await self.seal_all()
                self._ahead.extend(await self._segments.read(self._sent_seq, READ_AHEAD))
            except (DatabaseUnavailable, DatabaseError) as error:
                await self._lost(error)
            if not self._ahead:
                if draining:
                    raise LaneDrained
                await self._news.wait()
        batch = self._ahead.popleft()
        self._sent_seq = batch.seq
        return batch

    async def acked(self, seq: int) -> None:
        # Lost with the connection, it comes again with the next Welcome.
        with suppress(DatabaseUnavailable, DatabaseError):
            await self._segments.acknowledge(seq)

    async def fenced(self) -> None:
        log.error("outbox relay fenced: the sink knows a newer epoch", epoch=self.epoch)
        self.ended = True

    def drain(self) -> None:
        self._draining = True
        self._news.set()

    async def _compare(self, resume_after: int, batch_hash: bytes) -> None:
        first_seq, next_seq = await self._segments.kept()
        if resume_after >= next_seq:
            raise ForkError(f"the sink has batch {resume_after}; the newest here is {next_seq - 1}")
        if first_seq is not None and resume_after + 1 < first_seq:
            raise ForkError(f"the sink lacks batch {resume_after + 1}; kept from {first_seq} on")
        if resume_after > 0:
            kept = await self._segments.batch_hash(resume_after)
            if kept is None:
                raise ForkError(f"batch {resume_after} of the sink is not kept here to compare")
            if kept != batch_hash:
                raise ForkError(f"batch {resume_after} of the sink differs from the one here")

    async def _lost(self, error: Exception) -> NoReturn:
        """The right to lead went with the connection; the relay will remove this lane."""
        if not self.ended:
            log.warning("outbox relay lost its connection", reason=str(error))
        self.ended = True
        await asyncio.get_running_loop().create_future()
        raise AssertionError("nobody resolves this")
