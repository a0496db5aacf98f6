"""Sends one lane of a tracking stream: batches go out in order within the credit, and after a
refusal again from the server's resume point.
"""

from __future__ import annotations

import asyncio
import random
from collections import deque
from collections.abc import Awaitable, Callable
from enum import Enum
from typing import Any, Final

import structlog

from metrics_service.client.stream.rules import ProtocolError
from metrics_service.client.stream.source import (
    ForkError,
    LaneDrained,
    LaneSource,
    NewEpoch,
    Speaker,
)
from protos.tracking.v1 import tracking_pb2

log = structlog.get_logger()

SCHEMA: Final = 1
REFUSED_RETRY_S: Final = 30.0
MIN_RETRY_S: Final = 0.1
"""The pause after a refusal that asks for a shorter one."""

MAX_SOURCE_RETRY_S: Final = 5.0
FORK_RETRY_S: Final = 5.0
"""How soon a forked lane is opened again, since the server may be the right one again."""

STALLED_S: Final = 10.0
"""After so long without a batch acknowledged, although there are some, people are told."""

Send = Callable[[tracking_pb2.ClientFrame], Awaitable[None]]


class LaneEnd(Enum):
    """Why a lane has ended for every stream."""

    DRAINED = "drained"
    FENCED = "fenced"


class LaneSender:
    """Sends the batches of a source into a stream, which passes it the answers of the server."""

    def __init__(self, source: LaneSource, send: Send, speaker: Speaker) -> None:
        self.source = source
        self.idle = asyncio.Event()
        self.idle.set()
        self._send = send
        self._speaker = speaker
        self._answer: asyncio.Future[tracking_pb2.Welcome | tracking_pb2.Nack] | None = None
        self._nacked: asyncio.Future[tracking_pb2.Nack] | None = None
        self._in_flight: deque[tuple[int, int]] = deque()
        self._outstanding_bytes = 0
        self._credit_bytes = 0
        self._halted = False
        self._room = asyncio.Event()
        self._sent_seq = 0
        self._acked_seq = 0
        self._ack = asyncio.Event()
        self._futile = 0
        """How often the lane was opened again since a batch was acknowledged."""
        self._told = False
        """Whether people know why none is acknowledged."""

    async def run(self) -> LaneEnd:
        """Send until the source ends or is fenced for good; retry after every other failure."""
        acker = asyncio.create_task(self._acknowledge_source(), name="tracking lane acks")
        failures = 0
        try:
            while True:
                await self._pause_if_futile()
                try:
                    end = await self._run_once()
                    failures = 0
                except NewEpoch:
                    self._futile += 1
                    continue
                except ForkError as fork:
                    self._told = True
                    await self.source.forked(fork)
                    await asyncio.sleep(random.uniform(FORK_RETRY_S / 2, FORK_RETRY_S))  # noqa: S311 - jitter
                    continue
                except Exception:
                    failures += 1
                    log.exception("lane_source_failed", producer=self.source.producer_id)
                    limit_s = min(MAX_SOURCE_RETRY_S, 0.1 * 2 ** min(failures, 10))
                    await asyncio.sleep(random.uniform(0, limit_s))  # noqa: S311 - jitter
                    continue
                if end is not None:
                    return end
        finally:
            acker.cancel()
            await asyncio.gather(acker, return_exceptions=True)

    def halt(self) -> None:
        """Send no further batch; idle is set when all sent batches are acknowledged."""
        self._halted = True

    def on_welcome(self, welcome: tracking_pb2.Welcome) -> None:
        """Take the server's Welcome: it has stored batches up to resume_after."""
        if self._answer is not None and not self._answer.done():
            self._answer.set_result(welcome)

    def on_nack(self, nack: tracking_pb2.Nack) -> None:
        """Take the server's refusal of the lane, or of a batch of it."""
        if self._nacked is not None and not self._nacked.done():
            self._nacked.set_result(nack)
        elif self._answer is not None and not self._answer.done() and nack.seq == 0:
            self._answer.set_result(nack)

    def on_sent(self, seq: int) -> None:
        """Note that a batch goes out now, so that it may be acknowledged."""
        self._sent_seq = max(self._sent_seq, seq)

    def on_ack(self, seq: int) -> bool:
        """Take the server's acknowledgement, and return whether it covers a further batch: those up
        to seq are durable. Raises ProtocolError when one of them was never sent, or was
        acknowledged and is no more.
        """
        if self._nacked is None:
            # From before the last Hello; its Welcome will repeat it.
            return False
        if seq > self._sent_seq:
            raise ProtocolError(f"batch {seq} is acknowledged, and {self._sent_seq} was the last")
        if seq < self._acked_seq:
            raise ProtocolError(f"acknowledgements go back from {self._acked_seq} to {seq}")
        while self._in_flight and self._in_flight[0][0] <= seq:
            self._outstanding_bytes -= self._in_flight.popleft()[1]
        further = seq > self._acked_seq
        if further:
            self._acked_seq = seq
            self._futile = 0
            self._told = False
            self._ack.set()
        if not self._in_flight:
            self.idle.set()
        self._room.set()
        return further

    def on_credit(self, credit_bytes: int) -> None:
        """Take a new limit of unacknowledged bytes."""
        self._credit_bytes = credit_bytes
        self._room.set()

    async def _run_once(self) -> LaneEnd | None:
        """Open the lane and send until it ends or must be opened again."""
        loop = asyncio.get_running_loop()
        self._nacked = None
        self._answer = loop.create_future()
        self._in_flight.clear()
        self._outstanding_bytes = 0
        self.idle.set()
        self._ack.clear()
        await self._send(tracking_pb2.ClientFrame(hello=self._hello()))
        answer = await self._answer
        if isinstance(answer, tracking_pb2.Nack):
            return await self._refused(answer)
        self._credit_bytes = answer.credit_bytes
        self._sent_seq = self._acked_seq = answer.resume_after
        self._nacked = loop.create_future()
        await self.source.open(
            answer.resume_after,
            answer.batch_hash,
            sink_id=answer.sink_id,
            events=answer.events if answer.HasField("events") else None,
        )
        if self._acked_seq:
            self._ack.set()
        sending = asyncio.create_task(self._send_batches(), name="tracking lane batches")
        try:
            either: set[asyncio.Future[Any]] = {sending, self._nacked}
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
            if self._nacked.done():
                return await self._refused(self._nacked.result())
            return await sending
        finally:
            sending.cancel()
            await asyncio.gather(sending, return_exceptions=True)

    async def _pause_if_futile(self) -> None:
        """Wait ever longer before the lane opens again and again without a batch acknowledged: a
        server that answers every Hello wrongly must not keep this process busy.
        """
        if self._futile > 1:
            limit_s = min(MAX_SOURCE_RETRY_S, MIN_RETRY_S * 2 ** min(self._futile - 2, 10))
            await asyncio.sleep(random.uniform(limit_s / 2, limit_s))  # noqa: S311 - jitter

    def _hello(self) -> tracking_pb2.Hello:
        return tracking_pb2.Hello(
            lane=self.source.lane,
            producer_id=self.source.producer_id,
            epoch=self.source.epoch,
            schema=SCHEMA,
            mode=self._speaker.mode,
            service=self._speaker.service,
            instance=self._speaker.instance,
            succeeds=self.source.succeeds,
        )

    async def _send_batches(self) -> LaneEnd:
        while True:
            try:
                batch = await self.source.next()
            except LaneDrained:
                await self.idle.wait()
                return LaneEnd.DRAINED
            size = len(batch.payload)
            while self._halted or (
                self._in_flight and self._outstanding_bytes + size > self._credit_bytes
            ):
                self._room.clear()
                await self._room.wait()
            self._in_flight.append((batch.seq, size))
            self._outstanding_bytes += size
            self.idle.clear()
            await self._send(
                tracking_pb2.ClientFrame(
                    batch=tracking_pb2.Batch(
                        lane=self.source.lane,
                        seq=batch.seq,
                        count=batch.count,
                        payload=batch.payload,
                    )
                )
            )

    async def _refused(self, nack: tracking_pb2.Nack) -> LaneEnd | None:
        """Wait as the refusal requires; return an end if the lane must not be opened again."""
        match nack.reason:
            case tracking_pb2.Nack.FENCED:
                self._told = True
                if not await self.source.fenced(nack.epoch, nack.sink_id):
                    return LaneEnd.FENCED
                self._futile += 1
            case tracking_pb2.Nack.FORKED | tracking_pb2.Nack.EPOCH_REFUSED if self._sends_facts:
                raise ForkError(
                    self._fork_reason(nack),
                    sink_id=nack.sink_id or None,
                    events=nack.events if nack.HasField("events") else None,
                )
            case tracking_pb2.Nack.GAP:
                self._futile += 1
            case tracking_pb2.Nack.UNAVAILABLE:
                wait_s = min(max(nack.retry_after_ms / 1_000, MIN_RETRY_S), REFUSED_RETRY_S)
                await asyncio.sleep(random.uniform(wait_s / 2, wait_s))  # noqa: S311 - jitter
            case reason:
                self._told = True
                log.error(
                    "lane_refused",
                    producer=self.source.producer_id,
                    seq=nack.seq,
                    reason=tracking_pb2.Nack.Reason.Name(reason),
                )
                await asyncio.sleep(REFUSED_RETRY_S)
        return None

    def _tell_if_stalled(self) -> None:
        """Log once, until a batch is acknowledged, that none is: the server refuses the lane again
        and again, or says nothing.
        """
        waiting = self._nacked is None or self._in_flight or self._futile > 1
        if waiting and not self._told:
            self._told = True
            log.warning("lane_stalled", producer=self.source.producer_id)

    @property
    def _sends_facts(self) -> bool:
        return self.source.lane == tracking_pb2.LANE_FACTS

    def _fork_reason(self, nack: tracking_pb2.Nack) -> str:
        if nack.reason == tracking_pb2.Nack.EPOCH_REFUSED:
            return f"the sink knows epoch {nack.epoch} and refuses epoch {self.source.epoch}"
        if nack.sink_id:
            return f"at sink {nack.sink_id} another lane has taken the place of this one"
        return "the sink takes the facts of another booking database"

    async def _acknowledge_source(self) -> None:
        """Pass acknowledgements to the source, only the newest if several have arrived."""
        while True:
            try:
                async with asyncio.timeout(STALLED_S):
                    await self._ack.wait()
            except TimeoutError:
                self._tell_if_stalled()
                continue
            self._ack.clear()
            try:
                await self.source.acked(self._acked_seq)
            except Exception:
                log.exception("lane_source_failed", producer=self.source.producer_id)
