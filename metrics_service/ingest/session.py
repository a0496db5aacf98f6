"""One tracking stream at the server's end: it takes frames without waiting for the log, answers
them when the log has, and sends a client only once the reason why it must go back.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Coroutine
from functools import partial
from typing import Any, Final, TypeVar

import structlog

from metrics_service.eventlog.errors import FencedError
from metrics_service.eventlog.producer import ProducerKey, ResumePoint
from metrics_service.eventlog.producers import Appended
from metrics_service.ingest import frames as wire
from metrics_service.ingest.lane import ServerLane
from metrics_service.ingest.ports import Fold, Health, Log, Terms
from metrics_service.ingest.silence import Silence
from metrics_service.storage.errors import line_of
from protos.tracking.v1 import tracking_pb2
from servicekit.pauses import PauseDetector, pause_tolerant_timeout

log = structlog.get_logger()

SCHEMA: Final = 1
MAX_CONTROL_FRAMES: Final = 64

Write = Callable[[tracking_pb2.ServerFrame], Coroutine[Any, Any, None]]
MayOpen = Callable[[tracking_pb2.Hello], bool]

T = TypeVar("T")


class Session:
    """One stream: a reader that takes frames, and a sender, which alone calls write.

    It is known once the log has stored a batch of one of its producers.
    """

    def __init__(
        self,
        event_log: Log,
        fold: Fold,
        health: Health,
        terms: Terms,
        frames: AsyncIterator[tracking_pb2.ClientFrame],
        write: Write,
        may_open: MayOpen,
        on_welcome: Callable[[ProducerKey, Session], None],
        pauses: PauseDetector,
    ) -> None:
        self._log = event_log
        self._fold = fold
        self._health = health
        self._terms = terms
        self._on_welcome = on_welcome
        self._silence = Silence(pauses, terms.heartbeat_s)
        self._frames = frames
        self._write = write
        self._may_open = may_open
        self._lanes: dict[int, ServerLane] = {}
        self._instance = ""
        self._service = ""
        self._control: deque[tracking_pb2.ServerFrame] = deque()
        self._wake = asyncio.Event()
        self._room = asyncio.Event()
        self._pending = 0
        self._half_closed = False
        self.ending = False
        self.known = False
        self._closed = False

    async def run(self) -> None:
        self._silence.start()
        reader = asyncio.create_task(self._read_frames(), name="tracking stream reader")
        sender = asyncio.create_task(self._send_frames(), name="tracking stream sender")
        try:
            await asyncio.wait({reader, sender}, return_when=asyncio.FIRST_COMPLETED)
            self._half_closed = True
            self._wake.set()
            await asyncio.wait({sender})
        finally:
            self._closed = True
            overdue = self._silence.overdue
            self._silence.stop()
            if self._instance and not self.ending and not overdue:
                # The other end closed it, and it was not ended for missing heartbeats.
                self._health.on_closed(self._instance, self._service)
            reader.cancel()
            sender.cancel()
            await asyncio.gather(reader, sender, return_exceptions=True)
            for lane in self._lanes.values():
                self._release(lane)

    def send(self, frame: tracking_pb2.ServerFrame) -> None:
        """Queue a frame; the stream of a client that reads fewer answers than it asks for ends."""
        self._control.append(frame)
        if len(self._control) > MAX_CONTROL_FRAMES:
            self.ending = True
        self._wake.set()

    def end(self) -> None:
        """End the stream once the queued frames are sent."""
        self.ending = True
        self._wake.set()

    def send_away(self, within_s: float) -> None:
        """Ask the client to connect again, and end the stream in time if it does not."""
        self.send(wire.DRAIN)
        asyncio.get_running_loop().call_later(within_s, self.end)

    def fence(self, key: ProducerKey) -> None:
        """Refuse a producer that another stream has taken over, and end."""
        self.send(wire.fence_frame(key.lane, 0, self._log.sink_id))
        self.end()

    def on_folded(self, position: int) -> None:
        """Acknowledge the records up to a position as folded."""
        for lane in self._lanes.values():
            if lane.on_folded(position):
                self._wake.set()

    # Reading.

    async def _read_frames(self) -> None:
        async for frame in self._frames:
            self._silence.heard_s = asyncio.get_running_loop().time()
            match frame.WhichOneof("frame"):
                case "hello":
                    if not self._may_open(frame.hello):
                        return
                    self._on_hello(frame.hello)
                case "batch":
                    await self._on_batch(frame.batch)
                case "heartbeat" if self._instance:
                    facts = self._lanes.get(tracking_pb2.LANE_FACTS)
                    self._health.on_heartbeat(
                        self._instance,
                        self._service,
                        frame.heartbeat.signals,
                        facts.durable_seq if facts is not None else 0,
                    )
                case "goodbye":
                    self._on_goodbye()

    def _on_hello(self, hello: tracking_pb2.Hello) -> None:
        identity = wire.identity_of(hello)
        if identity is None:
            self._nack(hello.lane, 0, tracking_pb2.Nack.INVALID)
            return
        self._silence.on_hello()
        producer_id, self._service, self._instance = identity
        self._health.on_hello(self._instance, self._service)
        backfill = hello.mode == tracking_pb2.Hello.BACKFILL
        if hello.schema != SCHEMA or not self._terms.takes(backfill):
            self._nack(hello.lane, 0, tracking_pb2.Nack.UNSUPPORTED)
            return
        lane = ServerLane(ProducerKey(hello.lane, producer_id), hello.epoch)
        former = self._lanes.get(hello.lane)
        if former is not None and former.key != lane.key:
            self._release(former)
        self._lanes[hello.lane] = lane
        opened = self._log.open_producer(
            lane.key,
            epoch=lane.epoch,
            instance=self._instance,
            service=self._service,
            backfill=backfill,
            succeeds=tuple(hello.succeeds),
        )
        self._await(opened, partial(self._on_opened, lane))

    async def _on_batch(self, batch: tracking_pb2.Batch) -> None:
        lane = self._lanes.get(batch.lane)
        size = len(batch.payload)
        if lane is None or not lane.token or size > self._terms.max_batch_bytes:
            self._nack(batch.lane, batch.seq, tracking_pb2.Nack.INVALID)
            return
        while lane.outstanding_bytes and (lane.outstanding_bytes + size > self._terms.credit_bytes):
            self._room.clear()
            await self._room.wait()
        lane.outstanding_bytes += size
        appended = self._log.append(
            lane.key,
            token=lane.token,
            epoch=lane.epoch,
            seq=batch.seq,
            count=batch.count,
            payload=batch.payload,
        )
        self._await(appended, partial(self._on_appended, lane, batch.seq, size))

    def _on_goodbye(self) -> None:
        for lane in self._lanes.values():
            if lane.token:
                self._await(self._log.close_producer(lane.key, token=lane.token), _ignore)
        self._lanes.clear()
        if self._instance:
            self._health.on_goodbye(self._instance, self._service)
            self._instance = ""

    # Answers of the log.

    def _await(
        self, answer: asyncio.Future[T], handle: Callable[[asyncio.Future[T]], None]
    ) -> None:
        self._pending += 1

        def answered(answer: asyncio.Future[T]) -> None:
            self._pending -= 1
            handle(answer)
            self._wake.set()

        answer.add_done_callback(answered)

    def _on_opened(self, lane: ServerLane, answer: asyncio.Future[ResumePoint]) -> None:
        failure = answer.exception()
        if failure is not None:
            self._refuse(lane, 0, failure)
            return
        point = answer.result()
        lane.token = point.token
        if self._closed or self._lanes.get(lane.key.lane) is not lane:
            self._release(lane)
            return
        lane.on_opened(point, self._log.last_position)
        self.known = self.known or point.resume_after > 0
        self._on_welcome(lane.key, self)
        self.send(wire.welcome_frame(lane.key.lane, point, self._terms, self._log.sink_id))
        self.on_folded(self._fold.position)

    def _on_appended(
        self, lane: ServerLane, seq: int, size: int, answer: asyncio.Future[Appended]
    ) -> None:
        lane.outstanding_bytes -= size
        self._room.set()
        failure = answer.exception()
        if failure is not None:
            self._refuse(lane, seq, failure)
            return
        lane.on_appended(answer.result(), seq)
        self.known = True
        self.on_folded(self._fold.position)

    def _refuse(self, lane: ServerLane, seq: int, failure: BaseException) -> None:
        """Send the reason once: the batches that follow this one fail for the same reason."""
        if lane.refused or self._lanes.get(lane.key.lane) is not lane:
            return
        lane.refused = True
        self.send(wire.refusal_frame(lane.key.lane, seq, failure, self._log.sink_id))
        if isinstance(failure, FencedError) and lane.token:
            self.end()

    def _release(self, lane: ServerLane) -> None:
        if lane.token:
            self._log.release_producer(lane.key, token=lane.token)

    # Writing.

    async def _send_frames(self) -> None:
        loop = asyncio.get_running_loop()
        beat_s = loop.time()
        while True:
            self._wake.clear()
            finished = self.ending or (self._half_closed and not self._pending)
            for frame in self._take_frames():
                try:
                    await pause_tolerant_timeout(self._silence.limit_s, self._write(frame))
                except Exception as failure:
                    log.info("stream_broken", instance=self._instance, reason=line_of(failure))
                    return
            if finished:
                return
            now_s = loop.time()
            if now_s >= beat_s:
                if self._silence.too_long:
                    log.warning("stream_timed_out", instance=self._instance, service=self._service)
                    return
                beat_s = now_s + self._terms.heartbeat_s
                self._control.append(wire.HEARTBEAT)
                continue
            handle = loop.call_at(beat_s, self._wake.set)
            await self._wake.wait()
            handle.cancel()

    def _take_frames(self) -> list[tracking_pb2.ServerFrame]:
        frames = list(self._control)
        self._control.clear()
        acks = (lane.take_ack() for lane in self._lanes.values())
        return [*frames, *(ack for ack in acks if ack is not None)]

    def _nack(self, lane: int, seq: int, reason: tracking_pb2.Nack.Reason.ValueType) -> None:
        self.send(wire.nack_frame(lane, seq, reason))


def _ignore(answer: asyncio.Future[None]) -> None:
    answer.exception()
