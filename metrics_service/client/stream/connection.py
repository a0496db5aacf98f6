"""Runs one connection of the tracking stream, and ends it when the server is silent for
MISSED_HEARTBEATS heartbeats.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable
from typing import Any, Final

import grpc
import structlog

from metrics_service.client.stream.lane_sender import LaneEnd, LaneSender
from metrics_service.client.stream.rules import (
    ProtocolError,
    check_credit,
    check_nack,
    check_welcome,
)
from metrics_service.client.stream.source import LaneSource, Speaker
from metrics_service.measure.thresholds import MISSED_HEARTBEATS
from protos.tracking.v1 import tracking_pb2
from servicekit.pauses import shift_by_pause

log = structlog.get_logger()

HEARTBEAT_S: Final = 1.0
"""The interval until the server sets another."""

MAX_OUT_FRAMES: Final = 16
DRAIN_TIMEOUT_S: Final = 5.0
CLOSE_TIMEOUT_S: Final = 1.0

Call = Any
"""A grpc.aio.StreamStreamCall of ClientFrame and ServerFrame."""


REFUSALS: Final = (grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.PERMISSION_DENIED)


class Connection:
    """Runs the lanes over one call. Reading, writing and waiting are separate tasks, since
    cancelling a read or a write of grpc.aio cancels the whole call.
    """

    def __init__(
        self,
        call: Call,
        *,
        speaker: Speaker,
        signals: Callable[[], tracking_pb2.Signals],
        on_lane_end: Callable[[LaneSource, LaneEnd], None],
    ) -> None:
        self.heard = False
        self.welcomed = False
        self.drained = False
        self.finished = False
        self.broke_rules = False
        self.refused = False
        self.progressed = False
        self._call = call
        self._speaker = speaker
        self._signals = signals
        self._on_lane_end = on_lane_end
        self._senders: dict[int, LaneSender] = {}
        self._lanes_opened: set[int] = set()
        self._tasks: dict[LaneSender, asyncio.Task[None]] = {}
        self._out: deque[tracking_pb2.ClientFrame] = deque()
        self._wake = asyncio.Event()
        self._space = asyncio.Event()
        self._beat_due = False
        self._closing = False
        self._draining = asyncio.Event()
        self._finishing = asyncio.Event()
        self._lane_ended = asyncio.Event()
        self._heartbeat_s = HEARTBEAT_S
        self._pace_changed = asyncio.Event()
        self._heard_s = asyncio.get_running_loop().time()

    def add(self, source: LaneSource) -> None:
        """Start a lane."""
        sender = LaneSender(source, self._send, self._speaker)
        former = self._senders.get(source.lane)
        if former is not None:
            self.remove(former.source)
        self._senders[source.lane] = sender
        self._lanes_opened.add(source.lane)
        self._tasks[sender] = asyncio.create_task(self._run_lane(sender), name="tracking lane")

    def remove(self, source: LaneSource) -> None:
        """End a lane at once."""
        sender = self._senders.get(source.lane)
        if sender is not None and sender.source is source:
            del self._senders[source.lane]
            # Of a connection that is ending, the task may have ended already.
            if (task := self._tasks.get(sender)) is not None:
                task.cancel()

    def beat(self) -> None:
        """Send a heartbeat before anything else."""
        self._beat_due = True
        self._wake.set()

    def finish(self) -> None:
        """Send Goodbye once every lane has ended."""
        self._finishing.set()
        self._lane_ended.set()

    async def run(self) -> str:
        """Run until the connection ends; return the reason in one line."""
        work = [
            asyncio.create_task(self._read(), name="tracking stream reader"),
            asyncio.create_task(self._write(), name="tracking stream writer"),
            asyncio.create_task(self._watch(), name="tracking stream heartbeats"),
        ]
        ends = [
            asyncio.create_task(self._drain(), name="tracking stream drain"),
            asyncio.create_task(self._send_goodbye(), name="tracking stream goodbye"),
        ]
        try:
            done, _ = await asyncio.wait(work, return_when=asyncio.FIRST_COMPLETED)
            ended = next(task for task in work if task in done)
            self.refused = _was_refused(ended)
            return _reason(ended)
        finally:
            self._call.cancel()
            tasks = [*work, *ends, *self._tasks.values()]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _run_lane(self, sender: LaneSender) -> None:
        try:
            end = await sender.run()
            if self._senders.get(sender.source.lane) is sender:
                del self._senders[sender.source.lane]
            self._on_lane_end(sender.source, end)
        except Exception as error:
            # Its source cannot go on, for example without its database: it adds the lane again.
            if self._senders.get(sender.source.lane) is sender:
                del self._senders[sender.source.lane]
            log.warning(
                "lane_failed", producer=sender.source.producer_id, error=type(error).__name__
            )
        finally:
            self._tasks.pop(sender, None)
            self._lane_ended.set()

    async def _send(self, frame: tracking_pb2.ClientFrame) -> None:
        while len(self._out) >= MAX_OUT_FRAMES:
            self._space.clear()
            await self._space.wait()
        self._out.append(frame)
        self._wake.set()

    async def _write(self) -> str:
        while True:
            self._wake.clear()
            while self._beat_due or self._out:
                if self._beat_due:
                    self._beat_due = False
                    await self._call.write(self._heartbeat())
                else:
                    frame = self._out.popleft()
                    self._space.set()
                    if frame.HasField("batch") and (sender := self._senders.get(frame.batch.lane)):
                        sender.on_sent(frame.batch.seq)
                    await self._call.write(frame)
            if self._closing:
                await self._call.done_writing()
                await asyncio.sleep(CLOSE_TIMEOUT_S)
                return "the server did not end the stream"
            await self._wake.wait()

    def _heartbeat(self) -> tracking_pb2.ClientFrame:
        try:
            signals = self._signals()
        except Exception:
            log.exception("signals_failed")
            signals = tracking_pb2.Signals()
        return tracking_pb2.ClientFrame(heartbeat=tracking_pb2.ClientHeartbeat(signals=signals))

    async def _read(self) -> str:
        while True:
            frame = await self._call.read()
            if frame is grpc.aio.EOF:
                return "the server ended the stream"
            self.heard = True
            self._heard_s = asyncio.get_running_loop().time()
            try:
                self._handle(frame)
            except ProtocolError as error:
                self.broke_rules = True
                return f"the server broke a rule: {error}"

    def _handle(self, frame: tracking_pb2.ServerFrame) -> None:
        match frame.WhichOneof("frame"):
            case "welcome":
                self._on_welcome(frame.welcome)
            case "ack":
                if (sender := self._sender_of(frame.ack.lane)) and sender.on_ack(
                    frame.ack.durable_seq
                ):
                    self.progressed = True
            case "nack":
                check_nack(frame.nack)
                if sender := self._sender_of(frame.nack.lane):
                    sender.on_nack(frame.nack)
            case "credit":
                check_credit(frame.credit.credit_bytes)
                for sender in self._senders.values():
                    sender.on_credit(frame.credit.credit_bytes)
            case "drain":
                self._draining.set()

    def _on_welcome(self, welcome: tracking_pb2.Welcome) -> None:
        sender = self._sender_of(welcome.lane)
        check_welcome(welcome)
        if not self.welcomed:
            self.welcomed = True
            log.info("stream_connected", instance=self._speaker.instance)
        heartbeat_s = welcome.heartbeat_ms / 1_000
        if heartbeat_s != self._heartbeat_s:
            self._heartbeat_s = heartbeat_s
            self._pace_changed.set()
        if sender is not None:
            sender.on_welcome(welcome)

    def _sender_of(self, lane: int) -> LaneSender | None:
        """Return the sender of a lane, None if it has ended meanwhile."""
        if lane not in self._lanes_opened:
            raise ProtocolError(f"lane {lane} was never opened")
        return self._senders.get(lane)

    async def _watch(self) -> str:
        """Send heartbeats, and end the connection when none comes back."""
        loop = asyncio.get_running_loop()
        while True:
            self.beat()
            self._pace_changed.clear()
            beat_s = loop.time() + self._heartbeat_s
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout_at(beat_s):
                    await self._pace_changed.wait()
            now_s = loop.time()
            # What arrived during a pause of this process is still to be read.
            self._heard_s = shift_by_pause(self._heard_s, beat_s, now_s)
            silent_s = now_s - self._heard_s
            if silent_s > MISSED_HEARTBEATS * self._heartbeat_s:
                return f"no frame received for {silent_s:.1f} s"

    async def _drain(self) -> None:
        """Stop sending when the server drains, and wait for what was sent to be acknowledged."""
        await self._draining.wait()
        self.drained = True
        senders = list(self._senders.values())
        for sender in senders:
            sender.halt()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(DRAIN_TIMEOUT_S):
                for sender in senders:
                    await sender.idle.wait()
        self._closing = True
        self._wake.set()

    async def _send_goodbye(self) -> None:
        await self._finishing.wait()
        while self._tasks:
            self._lane_ended.clear()
            await self._lane_ended.wait()
        await self._send(tracking_pb2.ClientFrame(goodbye=tracking_pb2.Goodbye()))
        self.finished = self._closing = True
        self._wake.set()


def _was_refused(task: asyncio.Task[str]) -> bool:
    """Return whether the server has refused the caller, which a person has to mend."""
    failure = None if task.cancelled() else task.exception()
    return isinstance(failure, grpc.aio.AioRpcError) and failure.code() in REFUSALS


def _reason(task: asyncio.Task[str]) -> str:
    if task.cancelled():
        return "the call was cancelled"
    failure = task.exception()
    if failure is None:
        return task.result()
    if isinstance(failure, grpc.aio.AioRpcError):
        return f"{failure.code().name}: {failure.details()}"
    return repr(failure)
