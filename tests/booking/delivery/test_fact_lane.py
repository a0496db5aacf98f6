"""The lane of facts continues at a resume point, repeats segments unchanged, and refuses forks."""

from __future__ import annotations

import asyncio
import hashlib
from datetime import timedelta

import pytest

from booking_service.delivery.fact_lane import FactLane
from booking_service.delivery.relay import MAX_BYTES
from booking_service.storage.clock import SetClock
from booking_service.storage.database import Database
from metrics_service.client.stream.source import ForkError, LaneDrained
from tests.booking.delivery.outbox_lane import Rows, append, facts_of, leading, seal_all
from tests.booking.seed import NOW


async def test_segments_that_were_sent_but_not_stored_are_sent_again(
    database: Database, rows: Rows
) -> None:
    async with leading(database) as segments:
        for n in range(3):
            await append(rows, ("a", n + 1))
            await seal_all(segments)
        lane = FactLane(segments, await segments.raise_epoch())
        await lane.open(0, b"")
        first = await lane.next()
        assert [(await lane.next()).seq, (await lane.next()).seq] == [2, 3]
        await lane.open(1, hashlib.sha256(first.payload).digest())
        assert facts_of([await lane.next(), await lane.next()]) == [("a", 2), ("a", 3)]


async def test_cancelled_next_loses_nothing(database: Database, rows: Rows) -> None:
    async with leading(database) as segments:
        lane = FactLane(segments, await segments.raise_epoch())
        await lane.open(0, b"")
        for _ in range(20):
            waiting = asyncio.create_task(lane.next())
            await asyncio.sleep(0)
            waiting.cancel()
            await asyncio.gather(waiting, return_exceptions=True)
        await append(rows, ("a", 1))
        await lane.seal_all()
        await lane.open(0, b"")
        assert facts_of([await lane.next()]) == [("a", 1)]


async def test_drained_lane_sends_what_was_committed_and_ends(
    database: Database, rows: Rows
) -> None:
    async with leading(database) as segments:
        lane = FactLane(segments, await segments.raise_epoch())
        await lane.open(0, b"")
        waiting = asyncio.create_task(lane.next())
        await append(rows, ("a", 1))
        lane.drain()
        assert facts_of([await waiting]) == [("a", 1)]
        with pytest.raises(LaneDrained):
            await lane.next()


@pytest.mark.parametrize("seq", [2, 3, 4, 2**62])
async def test_what_was_not_sent_is_not_acknowledged(
    database: Database, rows: Rows, seq: int
) -> None:
    async with leading(database) as segments:
        for n in range(3):
            await append(rows, ("a", n + 1))
            await seal_all(segments)
        lane = FactLane(segments, await segments.raise_epoch())
        await lane.open(0, b"")
        assert (await lane.next()).seq == 1
        await lane.acked(seq)
        assert await segments.pending() == 3
        await lane.acked(1)
        assert await segments.pending() == 2


@pytest.mark.parametrize("seq", [2, 2**62])
async def test_an_acknowledgement_beyond_the_sealed_segments_changes_nothing(
    database: Database, rows: Rows, seq: int
) -> None:
    async with leading(database) as segments:
        await append(rows, ("a", 1))
        await seal_all(segments)
        await append(rows, ("a", 2))
        await segments.acknowledge(seq)
        assert await rows.fetchval("SELECT acked_seq FROM relay") == 0
        assert await segments.pending() == 2


@pytest.mark.parametrize(
    ("resume_after", "content", "said"),
    [
        (1, b"another", "differs"),
        (2, b"another", "differs"),
        (3, b"", "the newest here is 2"),
        (900, b"", "the newest here is 2"),
    ],
)
async def test_fork_is_refused(
    database: Database, rows: Rows, resume_after: int, content: bytes, said: str
) -> None:
    async with leading(database) as segments:
        for n in range(2):
            await append(rows, ("a", n + 1))
            await seal_all(segments)
        lane = FactLane(segments, await segments.raise_epoch())
        with pytest.raises(ForkError, match=said):
            await lane.open(resume_after, hashlib.sha256(content).digest())


async def test_database_restored_from_an_older_copy_is_a_fork(
    database: Database, rows: Rows
) -> None:
    async with leading(database) as segments:
        await append(rows, ("a", 1))
        await seal_all(segments)
        await rows.execute("CREATE TABLE backup AS TABLE segment")
        await append(rows, ("a", 2))
        await seal_all(segments)
        [lost] = await segments.batch_hashes(2)
        # Back to the copy, and on with another booking.
        await rows.execute("DELETE FROM segment WHERE seq = 2")
        await rows.execute("UPDATE relay SET next_seq = 2")
        await append(rows, ("b", 1))
        await seal_all(segments)
        lane = FactLane(segments, await segments.raise_epoch())
        assert lost is not None
        with pytest.raises(ForkError):
            await lane.open(2, lost)


async def test_segments_are_kept_for_their_time_after_the_ack_and_the_newest_for_ever(
    booking_dsn: str, rows: Rows
) -> None:
    clock = SetClock(NOW)
    database = Database(booking_dsn, clock=clock)
    day = timedelta(hours=24)
    kept = "SELECT array_agg(seq ORDER BY seq) FROM segment"
    async with leading(database) as segments:
        for n in range(4):
            await append(rows, ("a", n + 1))
            await seal_all(segments)
        # Sealed long ago, acknowledged only now.
        clock.advance(day * 3)
        await segments.acknowledge(2)
        await segments.drop_acknowledged(day, MAX_BYTES)
        assert await rows.fetchval(kept) == [1, 2, 3, 4]
        clock.advance(day)
        await segments.acknowledge(3)
        await segments.drop_acknowledged(day, MAX_BYTES)
        assert await rows.fetchval(kept) == [1, 2, 3, 4]
        clock.advance(timedelta(microseconds=1))
        await segments.drop_acknowledged(day, MAX_BYTES)
        assert await rows.fetchval(kept) == [3, 4]
        clock.advance(day * 30)
        await segments.drop_acknowledged(day, MAX_BYTES)
        assert await rows.fetchval(kept) == [3, 4]

        lane = FactLane(segments, await segments.raise_epoch())
        [newest] = await segments.batch_hashes(3)
        await lane.open(3, newest)
        assert (await lane.next()).seq == 4
        with pytest.raises(ForkError, match="the sink lacks batch 1; kept from 3 on"):
            await lane.open(0, b"")
