"""A sink that lies: the lane of facts on a real database meets each lie with one line and pauses,
keeps its facts, and delivers them once the sink is honest.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final

import asyncpg
import grpc
import pytest
from structlog.testing import capture_logs

from booking_service.delivery import fact_lane, fork
from booking_service.delivery.relay import OutboxRelay
from booking_service.storage.clock import SetClock
from booking_service.storage.database import Database
from metrics_service.client.host import OutBatch
from metrics_service.client.stream import client as client_module
from metrics_service.client.stream import lane_sender
from metrics_service.client.stream.client import StreamClient
from protos.tracking.v1 import tracking_pb2
from protos.tracking.v1.tracking_pb2 import Nack
from tests.booking.delivery.outbox_lane import append, facts_of, leading, seal_all
from tests.booking.seed import NOW
from tests.metrics.client.stream.scripted_server import (
    ScriptedServer,
    ack_frame,
    read_kind,
    welcome_frame,
)
from tests.metrics.client.stream.test_rogue_server import GROWING, Pauses, nack_frame
from tests.metrics.delivery_pair import FACTS, until

HOME: Final = "0a0a0a0a-0000-4000-8000-000000000001"
OTHER: Final = "0b0b0b0b-0000-4000-8000-000000000002"
SEGMENTS: Final = 3
TRIES: Final = len(GROWING)
FORK_RETRY: Final = [lane_sender.FORK_RETRY_S] * TRIES

Lie = Callable[[Any, Any], Awaitable[None]]
MISLED: Final = ("lane_forked", "lane_fenced", "lane_stalled", "stream_lost")


class LyingSink(ScriptedServer):
    """Lies on each connection until it is `honest`; then stores what comes and acknowledges it."""

    def __init__(self, lie: Lie) -> None:
        super().__init__(self._serve)
        self.honest = False
        self.stored: list[OutBatch] = []
        self._lie = lie
        self._lying: set[asyncio.Task[None]] = set()

    def repent(self) -> None:
        """Be honest from now on; who is being lied to is sent away."""
        self.honest = True
        for task in self._lying:
            task.cancel()

    async def _serve(self, read: Any, write: Any) -> None:
        if not self.honest:
            task = asyncio.ensure_future(self._lie(read, write))
            self._lying.add(task)
            # It may end with its client.
            await asyncio.gather(task, return_exceptions=True)
            self._lying.discard(task)
            return
        while (frame := await read()) is not grpc.aio.EOF:
            if frame.HasField("hello"):
                last = self.stored[-1].payload if self.stored else None
                batch_hash = hashlib.sha256(last).digest() if last is not None else b""
                await write(welcome_of(resume_after=len(self.stored), batch_hash=batch_hash))
            elif frame.HasField("batch"):
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
        (lane_sender.MIN_RETRY_S,),
    ),
}


@pytest.fixture(autouse=True)
async def filled(booking_dsn: str) -> AsyncIterator[asyncpg.Connection]:
    """A database with three segments that its sink has not stored."""
    rows = await asyncpg.connect(booking_dsn)
    await rows.execute(f"UPDATE relay SET sink_id = '{HOME}'")
    async with leading(Database(booking_dsn, clock=SetClock(NOW))) as segments:
        for number in range(SEGMENTS):
            await append(rows, ("a", number + 1))
            await seal_all(segments)
    yield rows
    await rows.close()


@asynccontextmanager
async def delivering(dsn: str, target: str) -> AsyncIterator[OutboxRelay]:
    stream = StreamClient(target, service="booking_service", instance="i-1")
    relay = OutboxRelay(Database(dsn, clock=SetClock(NOW)), stream)
    await stream.start()
    relay.start()
    try:
        yield relay
    finally:
        await relay.stop()
        await stream.stop(0)


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> tuple[Pauses, Pauses]:
    """Of the connection and of the lane; both are noted and take no time."""
    of_connection, of_lane = Pauses(), Pauses()
    monkeypatch.setattr(client_module, "random", of_connection)
    monkeypatch.setattr(lane_sender, "random", of_lane)
    monkeypatch.setattr(fact_lane, "FENCED_RETRY_S", 0.0)
    return of_connection, of_lane


@pytest.mark.parametrize("name", CASES)
async def test_a_lie_is_one_line_and_pauses_and_costs_no_fact(
    name: str,
    booking_dsn: str,
    pauses: tuple[Pauses, Pauses],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    case = CASES[name]
    if case.said == "lane_stalled":
        monkeypatch.setattr(lane_sender, "STALLED_S", 0.05)
    noted = pauses[case.of_lane]
    expected = (case.pauses * TRIES)[:TRIES]
    with capture_logs() as lines:

        def said() -> list[str]:
            found = [str(line["event"]) for line in lines]
            return [event for event in found if event in MISLED]

        async with LyingSink(case.lie) as sink, delivering(booking_dsn, sink.target):
            await until(lambda: len(noted.limits_s) >= TRIES and said(), name)
            assert said() == [case.said]
            assert tuple(noted.limits_s[:TRIES]) == expected
            # Every connection and every opening of the lane is followed by a pause.
            assert sink.streams <= len(pauses[0].limits_s) + 1
            sink.repent()
            await until(lambda: len(sink.stored) == SEGMENTS, f"the facts after {name}")
            lane = await fork.show(Database(booking_dsn))
            while lane.pending:
                lane = await fork.show(Database(booking_dsn))
    assert facts_of(sink.stored) == [("a", number + 1) for number in range(SEGMENTS)]
    assert (lane.fork, str(lane.sink_id), lane.acked_facts) == (None, HOME, SEGMENTS)


async def test_a_sink_that_never_acknowledges_gets_no_more_than_its_credit(
    booking_dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor does it get anything twice, while the stream stands."""
    got: list[int] = []
    monkeypatch.setattr(lane_sender, "STALLED_S", 0.05)

    async def lie(read: Any, write: Any) -> None:
        await read_kind(read, "hello")
        await write(welcome_of(credit_bytes=1, heartbeat_ms=20))
        while (frame := await read()) is not grpc.aio.EOF:
            await write(tracking_pb2.ServerFrame(heartbeat=tracking_pb2.ServerHeartbeat()))
            got.append(frame.batch.seq if frame.HasField("batch") else 0)

    with capture_logs() as lines:
        async with LyingSink(lie) as sink, delivering(booking_dsn, sink.target):
            # It beats 100 times, long after the lane has stalled.
            await until(lambda: got.count(0) >= 100)
            assert [seq for seq in got if seq] == [1]
            assert sink.streams == 1
            assert [line["event"] for line in lines].count("lane_stalled") == 1
            sink.repent()
            await until(lambda: len(sink.stored) == SEGMENTS)
