"""A sink of facts that lies when it is told to, and its lies."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Final

import grpc

from metrics_service.client.host import OutBatch
from metrics_service.client.stream.lane_sender import MIN_RETRY_S
from protos.tracking.v1 import tracking_pb2
from protos.tracking.v1.tracking_pb2 import Nack
from tests.metrics.client.stream.scripted_server import (
    GROWING,
    ScriptedServer,
    ack_frame,
    nack_frame,
    read_kind,
    welcome_frame,
)
from tests.metrics.delivery_pair import FACTS

HOME: Final = "0a0a0a0a-0000-4000-8000-000000000001"
OTHER: Final = "0b0b0b0b-0000-4000-8000-000000000002"

Lie = Callable[[Any, Any], Awaitable[None]]


class LyingSink(ScriptedServer):
    """Stores and acknowledges the facts that it gets, or tells a lie, on each connection; always
    honest to telemetry. `lies` counts what was lied to: connections and Hellos.
    """

    def __init__(self, lie: Lie | None = None) -> None:
        super().__init__(self._serve)
        self.stored: list[OutBatch] = []
        self.openings = 0
        self.lies = 0
        self._lie = lie
        self._serving: set[asyncio.Task[None]] = set()

    def lie(self, lie: Lie) -> None:
        """Lie from now on."""
        self._lie, self.lies = lie, 0
        self._send_away()

    def repent(self) -> None:
        """Be honest from now on."""
        self._lie = None
        self._send_away()

    def _send_away(self) -> None:
        for task in self._serving:
            task.cancel()

    async def _serve(self, read: Any, write: Any) -> None:
        facts: asyncio.Queue[Any] = asyncio.Queue()
        writing = asyncio.Lock()

        async def write_one(frame: tracking_pb2.ServerFrame) -> None:
            async with writing:
                await write(frame)

        async def write_frame(frame: tracking_pb2.ServerFrame) -> None:
            # gRPC cannot end a stream while a message is being written, so none is cut off.
            await asyncio.shield(write_one(frame))

        self._opened()
        tasks = [
            asyncio.ensure_future(self._sort(read, facts, write_frame)),
            asyncio.ensure_future((self._lie or self._store)(facts.get, write_frame)),
        ]
        self._serving.update(tasks)
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in tasks:
            task.cancel()
        # They may have failed as their client went away.
        await asyncio.gather(*tasks, return_exceptions=True)
        async with writing:
            pass
        self._serving.difference_update(tasks)

    def _opened(self) -> None:
        self.openings += 1
        self.lies += self._lie is not None

    async def _sort(self, read: Any, facts: asyncio.Queue[Any], write: Any) -> None:
        """Pass on what is of the lane of facts, and answer what is of telemetry."""
        while (frame := await read()) is not grpc.aio.EOF:
            kind = frame.WhichOneof("frame")
            of = getattr(getattr(frame, kind), "lane", FACTS)
            if of == FACTS:
                if kind == "hello":
                    self._opened()
                facts.put_nowait(frame)
            elif kind == "hello":
                await write(welcome_frame(lane=of))
            elif kind == "batch":
                await write(ack_frame(frame.batch.seq, lane=of))

    async def _store(self, read: Any, write: Any) -> None:
        while True:
            frame = await read()
            if frame.HasField("hello"):
                last = self.stored[-1].payload if self.stored else None
                batch_hash = hashlib.sha256(last).digest() if last is not None else b""
                await write(welcome_of(resume_after=len(self.stored), batch_hash=batch_hash))
            elif frame.HasField("batch") and frame.batch.seq == len(self.stored) + 1:
                batch = frame.batch
                self.stored.append(OutBatch(batch.seq, batch.count, batch.payload))
                await write(ack_frame(batch.seq))


def welcome_of(sink_id: str = HOME, **fields: Any) -> tracking_pb2.ServerFrame:
    return welcome_frame(sink_id=sink_id, **fields)


def each_hello(*frames: tracking_pb2.ServerFrame) -> Lie:
    """Answer every Hello with the frames."""

    async def lie(read: Any, write: Any) -> None:
        while True:
            await read_kind(read, "hello")
            for frame in frames:
                await write(frame)

    return lie


def after_batches(count: int, *frames: tracking_pb2.ServerFrame) -> Lie:
    """Welcome, and answer so many batches with the frames, again for each Hello."""

    async def lie(read: Any, write: Any) -> None:
        while True:
            await read_kind(read, "hello")
            await write(welcome_of())
            for _ in range(count):
                await read_kind(read, "batch")
            for frame in frames:
                await write(frame)

    return lie


async def close_at_once(read: Any, write: Any) -> None:
    del read, write


async def welcome_and_close(read: Any, write: Any) -> None:
    await read_kind(read, "hello")
    await write(welcome_of())


@dataclass(frozen=True)
class Case:
    """A lie, the one line that is logged of it, and the longest pauses that follow it: those of the
    connection or of the lane.
    """

    lie: Lie
    said: str
    of_lane: bool = False
    pauses: tuple[float, ...] = tuple(GROWING)


BROKEN = "stream_lost"
CASES = {
    "an ack beyond what was sent": Case(after_batches(1, ack_frame(2**62)), BROKEN),
    "an ack of all that there could be": Case(after_batches(3, ack_frame(2**63 - 1)), BROKEN),
    "acks that go back": Case(after_batches(2, ack_frame(2), ack_frame(1)), BROKEN),
    "an ack below nothing": Case(after_batches(1, ack_frame(-1)), BROKEN),
    "an ack of the other lane": Case(
        after_batches(1, ack_frame(1, lane=tracking_pb2.LANE_TELEMETRY)), BROKEN
    ),
    "a Welcome of 1 MB": Case(each_hello(welcome_of(batch_hash=b"x" * 1_000_000)), BROKEN),
    "a hash that is none": Case(each_hello(welcome_of(batch_hash=b"x" * 31)), BROKEN),
    "a sink id that is none": Case(each_hello(welcome_of(sink_id="mine")), BROKEN),
    "a position before the first": Case(each_hello(welcome_of(resume_after=-1)), BROKEN),
    "a number of facts below nothing": Case(each_hello(welcome_of(events=-1)), BROKEN),
    "an epoch below nothing": Case(
        each_hello(nack_frame(FACTS, reason=Nack.FENCED, epoch=-1)), BROKEN
    ),
    "no answer but the end": Case(close_at_once, BROKEN),
    "a Welcome and the end": Case(welcome_and_close, BROKEN),
    "another sink": Case(each_hello(welcome_of(sink_id=OTHER)), "lane_forked", True, (5.0,)),
    "a sink without a name": Case(each_hello(welcome_of(sink_id="")), "lane_forked", True, (5.0,)),
    "a position in the future": Case(
        each_hello(welcome_of(resume_after=2**62, batch_hash=b"x" * 32)),
        "lane_forked",
        True,
        (5.0,),
    ),
    "facts that were never sent": Case(
        each_hello(welcome_of(events=2**62)), "lane_forked", True, (5.0,)
    ),
    "a forked lane": Case(
        each_hello(nack_frame(FACTS, reason=Nack.FORKED, sink_id=HOME, events=7)),
        "lane_forked",
        True,
        (5.0,),
    ),
    "an epoch that nobody begins": Case(
        each_hello(nack_frame(FACTS, reason=Nack.FENCED, sink_id=HOME, epoch=2**63 - 1)),
        "lane_forked",
        True,
        (5.0,),
    ),
    "an epoch that is refused": Case(
        each_hello(nack_frame(FACTS, reason=Nack.EPOCH_REFUSED, sink_id=HOME)),
        "lane_forked",
        True,
        (5.0,),
    ),
    "a fence for each Hello": Case(
        each_hello(nack_frame(FACTS, reason=Nack.FENCED, sink_id=HOME, epoch=2**40)),
        "lane_fenced",
        True,
    ),
    "a gap for each batch": Case(
        after_batches(1, nack_frame(FACTS, seq=1, reason=Nack.GAP)), "lane_stalled", True
    ),
    "a log that is never available": Case(
        each_hello(nack_frame(FACTS, reason=Nack.UNAVAILABLE, retry_after_ms=-1)),
        "lane_stalled",
        True,
        (MIN_RETRY_S,),
    ),
}
