"""A sink that lies: the lane of facts on a real database meets each lie with one line and pauses,
keeps its facts, and delivers them once the sink is honest.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

import asyncpg
import grpc
import pytest
from structlog.testing import capture_logs

from booking_service.delivery import fact_lane, fork
from booking_service.delivery.relay import OutboxRelay
from booking_service.storage.clock import SetClock
from booking_service.storage.database import Database
from metrics_service.client.stream import client as client_module
from metrics_service.client.stream import lane_sender
from metrics_service.client.stream.client import StreamClient
from protos.tracking.v1 import tracking_pb2
from tests.booking.delivery.lying_sink import CASES, HOME, LyingSink, welcome_of
from tests.booking.delivery.outbox_lane import append, facts_of, leading, seal_all
from tests.booking.seed import NOW
from tests.metrics.client.stream.scripted_server import GROWING, Pauses, read_kind
from tests.metrics.delivery_pair import BOUND_S, until

SEGMENTS: Final = 3
TRIES: Final = len(GROWING)

MISLED: Final = ("lane_forked", "lane_fenced", "lane_stalled", "stream_lost")


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
            async with asyncio.timeout(BOUND_S):
                while (lane := await fork.show(Database(booking_dsn))).acked_facts < SEGMENTS:
                    pass
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
