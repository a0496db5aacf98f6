"""A sink that replaces the tracking stream, and outbox rows without bookings."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg

from booking_service.delivery.fact_lane import FactLane
from booking_service.delivery.relay import MAX_BYTES, OutboxRelay
from booking_service.delivery.segments import Segments
from booking_service.storage.clock import SetClock
from booking_service.storage.database import Database
from metrics_service.client.stream.source import LaneSource, OutBatch
from protos.tracking.v1.event_pb2 import BookingFact, Event, EventList
from tests.booking.seed import NOW

Rows = asyncpg.Connection


def event_list(*facts: tuple[str, int]) -> bytes:
    """Facts (booking id, version) as an outbox row holds them."""
    return EventList(
        events=[
            Event(event_id=f"{booking_id}/{version}".encode(), booking=_fact(booking_id, version))
            for booking_id, version in facts
        ]
    ).SerializeToString()


def facts_of(batches: list[OutBatch]) -> list[tuple[str, int]]:
    """The facts (booking id, version) of batches, in order, as a sink would parse them."""
    found = []
    for batch in batches:
        events = EventList.FromString(batch.payload).events
        assert len(events) == batch.count
        found += [(event.booking.booking_id, event.booking.version) for event in events]
    return found


async def append(rows: Rows, *facts: tuple[str, int]) -> int:
    """Insert one outbox row, as a transaction does, and return its id."""
    return int(
        await rows.fetchval(
            "INSERT INTO outbox (count, events) VALUES ($1, $2) RETURNING id",
            len(facts),
            event_list(*facts),
        )
    )


class Sink:
    """Takes lanes as the stream client does, stores what they send, and acknowledges it."""

    def __init__(self) -> None:
        self.batches: list[OutBatch] = []
        self.lanes: list[FactLane] = []
        self.acknowledges = True
        self._tasks: dict[LaneSource, asyncio.Task[None]] = {}
        self._grew = asyncio.Condition()

    @property
    def resume_after(self) -> int:
        return self.batches[-1].seq if self.batches else 0

    @property
    def batch_hash(self) -> bytes:
        return hashlib.sha256(self.batches[-1].payload).digest() if self.batches else b""

    def add_lane(self, source: LaneSource) -> None:
        assert isinstance(source, FactLane)
        self.lanes.append(source)
        self._tasks[source] = asyncio.create_task(self._take(source))

    def remove_lane(self, source: LaneSource) -> None:
        self._tasks.pop(source).cancel()

    async def has(self, facts: int) -> None:
        """Waits until that many facts are stored."""
        async with asyncio.timeout(10), self._grew:
            await self._grew.wait_for(lambda: sum(batch.count for batch in self.batches) >= facts)

    async def _take(self, source: LaneSource) -> None:
        await source.open(self.resume_after, self.batch_hash)
        while True:
            batch = await source.next()
            async with self._grew:
                self.batches.append(batch)
                self._grew.notify_all()
            if self.acknowledges:
                await source.acked(batch.seq)


class Relay:
    """One copy of the service: its database, its relay, and the sink that it streams to."""

    def __init__(
        self, dsn: str, sink: Sink, clock: SetClock | None = None, *, max_bytes: int = MAX_BYTES
    ) -> None:
        self.database = Database(dsn, clock=clock or SetClock(NOW))
        self.sink = sink
        self.relay = OutboxRelay(self.database, sink, max_bytes=max_bytes)


@asynccontextmanager
async def leading(database: Database) -> AsyncIterator[Segments]:
    """The relay's statements under a new epoch, without the relay."""
    async with Segments.connected(database) as segments:
        await segments.raise_epoch()
        yield segments


async def seal_all(segments: Segments) -> int:
    """Seal until nothing is left, and return the number of segments."""
    sealed = 0
    while (await segments.seal()).seq is not None:
        sealed += 1
    return sealed


def _fact(booking_id: str, version: int) -> BookingFact:
    return BookingFact(
        transition=BookingFact.STARTED, booking_id=booking_id, version=version, user_id="u" * 100
    )
