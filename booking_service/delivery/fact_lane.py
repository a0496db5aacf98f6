"""The lane of facts on the tracking stream: sealed segments in order, from the sink's resume point.

A segment is sent again unchanged until it is acknowledged. If the sink is another one than before,
or has stored anything else, no fact is sent until that is mended, and people are told.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from typing import Final, NoReturn

import structlog

from booking_service.delivery.segments import Epoch, Kept, Segments, Trouble
from booking_service.storage.driver_errors import DatabaseError, DatabaseUnavailable
from metrics_service.client.host import ForkError, LaneDrained, OutBatch
from protos.tracking.v1 import tracking_pb2

MAX_READ_AHEAD: Final = 8
"""Segments that are read at once."""

FENCED_RETRY_S: Final = 10.0
"""The least time between two epochs that a lane begins because the sink alone has fenced it."""

TROUBLE_LOGGED_S: Final = 600.0
"""How often the same trouble is logged again."""

TROUBLE_CHANGED_S: Final = 60.0
"""How soon it is logged that its reason has changed."""

MAX_EPOCH: Final = 2**62
"""No sink can have been told a higher one."""

log = structlog.get_logger()


class FactLane:
    """A LaneSource over the segments of one epoch.

    `ended` is set when the connection is lost, or, with `superseded`, when the database knows a
    newer epoch; the lane then sends nothing until the relay removes it.
    """

    def __init__(
        self,
        segments: Segments,
        epoch: Epoch,
        *,
        monotonic_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self.ended = False
        self.superseded = False
        self.trouble: Trouble | None = None
        self._monotonic_s = monotonic_s
        self._logged_s = 0.0
        self._fenced_s: float | None = None
        self._segments = segments
        self._epoch = epoch
        self._sealed = asyncio.Event()
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

    @property
    def succeeds(self) -> tuple[str, ...]:
        return self._epoch.succeeds

    async def seal_all(self) -> None:
        """Seal what is in the outbox now."""
        more = True
        while more and not self.ended:
            sealed = await self._segments.seal()
            if not sealed.leading:
                self._end()
            if sealed.seq is not None:
                self._sealed.set()
            more = sealed.more

    async def open(
        self, resume_after: int, batch_hash: bytes, *, sink_id: str = "", events: int | None = None
    ) -> None:
        """Continue after the sink's last stored batch.

        Raises ForkError if it is another sink than before, if that batch differs from the segment
        here, if it is not kept to be compared, if segments that the sink lacks are no longer kept,
        or if the lanes that this one succeeds have facts there that are not known here.
        """
        try:
            kept = await self._kept()
            reason = self._other_sink(kept, sink_id) or await self._fork_reason(
                kept, resume_after, batch_hash, events
            )
            if reason:
                raise ForkError(
                    reason, sink_id=sink_id or None, resume_after=resume_after, events=events
                )
            await self._segments.agree(resume_after, sink_id or None, events)
        except (DatabaseUnavailable, DatabaseError) as error:
            await self._lost(error)
        if self.trouble is not None:
            log.info("lane_recovered", producer=self.producer_id, sink=sink_id)
        self.trouble = None
        self._ahead.clear()
        self._sent_seq = resume_after

    async def next(self) -> OutBatch:
        """Wait for the next segment. Raises LaneDrained after `drain`, once all are sent."""
        while not self._ahead:
            self._sealed.clear()
            # Read before sealing: what was committed before drain() must still be sealed after it.
            draining = self._draining
            try:
                if draining:
                    await self.seal_all()
                self._ahead.extend(await self._segments.read(self._sent_seq, MAX_READ_AHEAD))
            except (DatabaseUnavailable, DatabaseError) as error:
                await self._lost(error)
            if not self._ahead:
                if draining:
                    raise LaneDrained
                await self._sealed.wait()
        batch = self._ahead.popleft()
        self._sent_seq = batch.seq
        return batch

    async def acked(self, seq: int) -> None:
        """Record that the sink has stored every segment up to `seq`, unless one was not sent."""
        if seq > self._sent_seq:
            log.error("outbox_ack_refused", seq=seq, sent=self._sent_seq)
            return
        # If it is lost with the connection, the next Welcome repeats it.
        with suppress(DatabaseUnavailable, DatabaseError):
            await self._segments.acknowledge(seq)

    async def fenced(self, epoch: int, sink_id: str) -> bool:
        """Begin a higher epoch, at most every FENCED_RETRY_S, if the sink alone knows one.

        Returns False, and ends the lane, if another process leads. Raises ForkError if it is
        another sink than before, which is not believed.
        """
        try:
            kept = await self._kept()
            if reason := self._other_sink(kept, sink_id):
                raise ForkError(reason, sink_id=sink_id or None)
            if epoch >= MAX_EPOCH:
                reason = f"the sink knows epoch {epoch} of this lane"
                raise ForkError(reason, sink_id=sink_id or None)
            other = f"epoch {epoch}" if epoch else "another stream"
            reason = f"the sink knows {other} of this lane; the newest here is {self.epoch}"
            fork = ForkError(reason, sink_id=sink_id or None)
            await self._report(Trouble("fenced", reason), fork)
            now_s = self._monotonic_s()
            if self._fenced_s is not None:
                await asyncio.sleep(self._fenced_s + FENCED_RETRY_S - now_s)
            self._fenced_s = self._monotonic_s()
            raised = await self._segments.raise_above(epoch)
        except (DatabaseUnavailable, DatabaseError) as error:
            await self._lost(error)
        if raised is None:
            self._end()
            return False
        self._epoch = replace(self._epoch, number=raised)
        return True

    async def forked(self, fork: ForkError) -> None:
        """Record why no fact is sent. The lane is opened again at intervals."""
        try:
            await self._report(Trouble("forked", str(fork)), fork)
        except (DatabaseUnavailable, DatabaseError) as error:
            await self._lost(error)

    def drain(self) -> None:
        """Let `next` end once everything committed until now is sent."""
        self._draining = True
        self._sealed.set()

    async def _kept(self) -> Kept:
        """Return what is kept; wait to be removed if another process leads."""
        kept = await self._segments.kept()
        if kept is None:
            self._end()
            return await self._wait_for_removal()
        return kept

    def _other_sink(self, kept: Kept, sink_id: str) -> str:
        if kept.sink_id is None or sink_id == kept.sink_id:
            return ""
        met = f"this one is {sink_id}" if sink_id else "this one has no id"
        return f"the facts belong to sink {kept.sink_id}, and {met}"

    async def _fork_reason(
        self, kept: Kept, resume_after: int, batch_hash: bytes, events: int | None
    ) -> str:
        if resume_after >= kept.next_seq:
            return f"the sink has batch {resume_after}; the newest here is {kept.next_seq - 1}"
        if kept.first_seq is not None and resume_after + 1 < kept.first_seq:
            return f"the sink lacks batch {resume_after + 1}; kept from {kept.first_seq} on"
        if resume_after == 0 and events is not None and events > kept.acked_facts:
            return (
                f"the sink has {events} facts of lanes that this one succeeds;"
                f" {kept.acked_facts} are known here"
            )
        if resume_after > 0:
            found = await self._segments.batch_hashes(resume_after)
            if not found:
                return f"batch {resume_after} of the sink is not kept here to compare"
            if batch_hash not in found:
                return f"batch {resume_after} of the sink differs from the one here"
        return ""

    async def _report(self, trouble: Trouble, fork: ForkError) -> None:
        before, self.trouble = self.trouble, trouble
        await self._segments.report(trouble, fork)
        silent_s = self._monotonic_s() - self._logged_s
        gap_s = TROUBLE_LOGGED_S if before == trouble else TROUBLE_CHANGED_S
        if before is None or before.state != trouble.state or silent_s >= gap_s:
            self._logged_s = self._monotonic_s()
            if trouble.state == "forked":
                log.critical("lane_forked", producer=self.producer_id, reason=trouble.reason)
            else:
                log.critical("lane_fenced", producer=self.producer_id, reason=trouble.reason)

    def _end(self) -> None:
        if not self.ended:
            log.error("outbox_relay_fenced", epoch=self.epoch)
        self.ended = self.superseded = True

    async def _wait_for_removal(self) -> NoReturn:
        await asyncio.get_running_loop().create_future()
        raise AssertionError("the future is never resolved")

    async def _lost(self, error: Exception) -> NoReturn:
        """Wait to be removed: the connection is lost, and with it the right to lead."""
        if not self.ended:
            log.warning("outbox_relay_connection_lost", reason=str(error))
        self.ended = True
        await self._wait_for_removal()
