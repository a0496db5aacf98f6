"""One tracking stream at the server's end: frames are taken without waiting for the log, answered
when it has answered, and a client is told once why it must go back.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Coroutine
from functools import partial
from typing import Any, Final, TypeVar

import structlog

from metrics_service.eventlog.errors import FencedError, GapError
from metrics_service.eventlog.producers import Appended, ProducerKey, ResumePoint
from metrics_service.ingest.ports import (
    HEARTBEAT,
    Fold,
    Health,
    Log,
    ServerLane,
    Terms,
    ack_frame,
    nack_frame,
    welcome_frame,
)
from metrics_service.storage.errors import line_of
from protos.tracking.v1 import tracking_pb2
from servicekit.patience import within

log = structlog.get_logger()

SCHEMA: Final = 1
MISSED_HEARTBEATS: Final = 3
ID_MAX_CHARS: Final = 128
OVERDUE_HEARTBEATS: Final = 2
CONTROL_FRAMES_MAX: Final = 64

Write = Callable[[tracking_pb2.ServerFrame], Coroutine[Any, Any, None]]

T = TypeVar("T")


class Session:
    """One stream. The reader takes frames without waiting for the log; the sender owns write."""

    def __init__(
        self,
        event_log: Log,
        fold: Fold,
        health: Health,
        terms: Terms,
        frames: AsyncIterator[tracking_pb2.ClientFrame],
        write: Write,
        on_welcome: Callable[[ProducerKey, Session], None],
    ) -> None:
        self._log = event_log
        self._fold = fold
        self._health = health
        self._terms = terms
        self._on_welcome = on_welcome
        self._frames = frames
        self._write = write
        self._lanes: dict[int, ServerLane] = {}
        self._instance = ""
        self._service = ""
        self._control: deque[tracking_pb2.ServerFrame] = deque()
        self._wake = asyncio.Event()
        self._room = asyncio.Event()
        self._pending = 0
        self._half_closed = False
        self._ending = False
        self._closed = False
        self._heard_s = asyncio.get_running_loop().time()

    async def run(self) -> None:
        reader = asyncio.create_task(self._read(), name="tracking stream reader")
        sender = asyncio.create_task(self._send(), name="tracking stream sender")
        try:
            await asyncio.wait({reader, sender}, return_when=asyncio.FIRST_COMPLETED)
            self._half_closed = True
            self._wake.set()
            await asyncio.wait({sender})
        finally:
            self._closed = True
            silent_s = asyncio.get_running_loop().time() - self._heard_s
            overdue = silent_s > OVERDUE_HEARTBEATS * self._terms.heartbeat_s
            if self._instance and not self._ending and not overdue:
                # Not by this end, and not for being silent.
                self._health.on_closed(self._instance)
            reader.cancel()
            sender.cancel()
            await asyncio.gather(reader, sender, return_exceptions=True)
            for lane in self._lanes.values():
                self._release(lane)

    def tell(self, frame: tracking_pb2.ServerFrame) -> None:
        """Send a frame soon; a client that asks for more than it reads is ended."""
        self._control.append(frame)
        if len(self._control) > CONTROL_FRAMES_MAX:
            self._ending = True
        self._wake.set()

    def end(self) -> None:
        """End the stream after what is to be said."""
        self._ending = True
        self._wake.set()

    def fence(self, key: ProducerKey) -> None:
        """Another stream speaks for a producer of this one."""
        self._nack(key.lane, 0, tracking_pb2.Nack.FENCED)
        self.end()

    def folded(self, position: int) -> None:
        """Records up to a position are folded in."""
        for lane in self._lanes.values():
            while lane.applying and lane.applying[0][0] <= position:
                lane.applied_seq = lane.applying.popleft()[1]
                self._wake.set()

    # Reading.

    async def _read(self) -> None:
        async for frame in self._frames:
            self._heard_s = asyncio.get_running_loop().time()
            match frame.WhichOneof("frame"):
                case "hello":
                    self._hello(frame.hello)
                case "batch":
                    await self._batch(frame.batch)
                case "heartbeat" if self._instance:
                    self._health.on_heartbeat(
                        self._instance, self._service, frame.heartbeat.signals
                    )
                case "goodbye":
                    self._goodbye()

    def _hello(self, hello: tracking_pb2.Hello) -> None:
        ids = (hello.producer_id, hello.service, hello.instance or hello.producer_id)
        valid = all(0 < len(text) <= ID_MAX_CHARS and "\0" not in text for text in ids)
        if not valid or hello.lane not in _LANES:
            self._nack(hello.lane, 0, tracking_pb2.Nack.INVALID)
            return
        producer_id, self._service, self._instance = ids
        self._health.on_hello(self._instance, self._service)
        backfill = hello.mode == tracking_pb2.Hello.BACKFILL
        if hello.schema != SCHEMA or (backfill and not self._terms.allow_backfill):
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
        )
        self._await(opened, partial(self._opened, lane))

    async def _batch(self, batch: tracking_pb2.Batch) -> None:
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
        self._await(appended, partial(self._appended, lane, batch.seq, size))

    def _goodbye(self) -> None:
        for lane in self._lanes.values():
            if lane.token:
                self._await(self._log.close_producer(lane.key, token=lane.token), _ignore)
        self._lanes.clear()
        if self._instance:
            self._health.on_goodbye(self._instance)
            self._instance = ""

    # What the log answers.

    def _await(
        self, answer: asyncio.Future[T], handle: Callable[[asyncio.Future[T]], None]
    ) -> None:
        self._pending += 1

        def answered(answer: asyncio.Future[T]) -> None:
            self._pending -= 1
            handle(answer)
            self._wake.set()

        answer.add_done_callback(answered)

    def _opened(self, lane: ServerLane, answer: asyncio.Future[ResumePoint]) -> None:
        failure = answer.exception()
        if failure is not None:
            self._refuse(lane, 0, failure)
            return
        point = answer.result()
        lane.token = point.token
        if self._closed or self._lanes.get(lane.key.lane) is not lane:
            self._release(lane)
            return
        lane.durable_seq = point.resume_after
        lane.stored(self._log.last_position, point.resume_after)
        self._on_welcome(lane.key, self)
        self.tell(welcome_frame(lane, point, self._terms))
        self.folded(self._fold.position)

    def _appended(
        self, lane: ServerLane, seq: int, size: int, answer: asyncio.Future[Appended]
    ) -> None:
        lane.outstanding_bytes -= size
        self._room.set()
        failure = answer.exception()
        if failure is not None:
            self._refuse(lane, seq, failure)
            return
        appended = answer.result()
        lane.refused = False
        lane.durable_seq = max(lane.durable_seq, appended.durable_seq)
        if appended.position is not None:
            lane.stored(appended.position, seq)
            self.folded(self._fold.position)

    def _refuse(self, lane: ServerLane, seq: int, failure: BaseException) -> None:
        """Tell the client once why it must go back; what it had under way fails the same way."""
        if lane.refused or self._lanes.get(lane.key.lane) is not lane:
            return
        lane.refused = True
        match failure:
            case GapError():
                self._nack(lane.key.lane, failure.next_seq, tracking_pb2.Nack.GAP)
            case FencedError():
                self._nack(lane.key.lane, seq, tracking_pb2.Nack.FENCED)
                if lane.token:
                    self.end()
            case _:
                self._nack(lane.key.lane, seq, tracking_pb2.Nack.UNAVAILABLE)

    def _release(self, lane: ServerLane) -> None:
        if lane.token:
            self._log.release_producer(lane.key, token=lane.token)

    # Writing.

    async def _send(self) -> None:
        loop = asyncio.get_running_loop()
        heartbeat_s = self._terms.heartbeat_s
        silence_s = MISSED_HEARTBEATS * heartbeat_s
        beat_s = loop.time()
        while True:
            self._wake.clear()
            finished = self._ending or (self._half_closed and not self._pending)
            for frame in self._due():
                try:
                    await within(silence_s, self._write(frame))
                except Exception as failure:
                    log.info("stream.broken", instance=self._instance, reason=line_of(failure))
                    return
            if finished:
                return
            now_s = loop.time()
            if now_s - self._heard_s > silence_s:
                log.warning("stream.silent", instance=self._instance, service=self._service)
                return
            if now_s >= beat_s:
                beat_s = now_s + heartbeat_s
                self._control.append(HEARTBEAT)
                continue
            handle = loop.call_at(beat_s, self._wake.set)
            await self._wake.wait()
            handle.cancel()
            if (late_s := loop.time() - beat_s) > 0:
                # This process stood still for so long: what was said meanwhile is yet to be read.
                self._heard_s = min(beat_s, self._heard_s) + late_s

    def _due(self) -> list[tracking_pb2.ServerFrame]:
        frames = list(self._control)
        self._control.clear()
        for lane in self._lanes.values():
            reached = (lane.durable_seq, lane.applied_seq)
            if lane.token and reached != lane.acked:
                lane.acked = reached
                frames.append(ack_frame(lane))
        return frames

    def _nack(self, lane: int, seq: int, reason: tracking_pb2.Nack.Reason.ValueType) -> None:
        self.tell(nack_frame(lane, seq, reason))


_LANES: Final = (tracking_pb2.LANE_FACTS, tracking_pb2.LANE_TELEMETRY)


def _ignore(answer: asyncio.Future[None]) -> None:
    answer.exception()
