"""The lane of facts on the tracking stream: sealed segments in order, from the sink's resume point.

A segment is sent again unchanged until it is acknowledged; if the sink has stored anything else,
the lane stops with a ForkError.
"""

from __future__ import annotations

import asyncio
from collections import deque
from contextlib import suppress
from typing import Final, NoReturn

import structlog

from booking_service.delivery.segments import Epoch, Segments
from booking_service.storage.driver_errors import DatabaseError, DatabaseUnavailable
from metrics_service.client.host import ForkError, LaneDrained, OutBatch
from protos.tracking.v1 import tracking_pb2

MAX_READ_AHEAD: Final = 8
"""Segments that are read at once."""

log = structlog.get_logger()


class FactLane:
    """A LaneSource over the segments of one epoch.

    `ended` is set when the connection is lost, or when the database or the sink knows a newer
    epoch; the lane then sends nothing until the relay removes it.
    """

    def __init__(self, segments: Segments, epoch: Epoch) -> None:
        self.ended = False
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

    async def seal_all(self) -> None:
        """Seal what is in the outbox now."""
        more = True
        while more and not self.ended:
            sealed = await self._segments.seal()
            if not sealed.leading:
                log.error("outbox_relay_fenced", by="database", epoch=self.epoch)
                self.ended = True
            if sealed.seq is not None:
                self._sealed.set()
            more = sealed.more

    async def open(self, resume_after: int, batch_hash: bytes) -> None:
        """Continue after the sink's last stored batch.

        Raises ForkError if that batch differs from the segment here, if it is not kept to be
        compared, or if segments that the sink lacks are no longer kept.
        """
        try:
            await self._compare(resume_after, batch_hash)
        except (DatabaseUnavailable, DatabaseError) as error:
            await self._lost(error)
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

    async def fenced(self) -> None:
        """End the lane, since the sink knows a newer epoch."""
        log.error("outbox_relay_fenced", by="sink", epoch=self.epoch)
        self.ended = True

    def drain(self) -> None:
        """Let `next` end once everything committed until now is sent."""
        self._draining = True
        self._sealed.set()

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
        """Wait to be removed: the connection is lost, and with it the right to lead."""
        if not self.ended:
            log.warning("outbox_relay_connection_lost", reason=str(error))
        self.ended = True
        await asyncio.get_running_loop().create_future()
        raise AssertionError("the future is never resolved")
