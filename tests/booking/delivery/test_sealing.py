"""Sealing skips nothing that was committed, numbers densely, and obeys the newest epoch."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator
from functools import partial

import asyncpg
import pytest

from booking_service.delivery import segments as module
from booking_service.delivery.segments import LowWater, Segments
from booking_service.storage.database import Database
from tests.booking.delivery.outbox_lane import Rows, append, facts_of, leading, seal_all
from tests.booking.seed import NOW, eventually


@pytest.fixture
async def other(booking_dsn: str) -> AsyncIterator[Rows]:
    connection = await asyncpg.connect(booking_dsn)
    yield connection
    await connection.close()


async def stored(segments: Segments) -> list[tuple[str, int]]:
    return facts_of(await segments.read(0, 10_000))


async def test_rows_become_one_batch_that_parses(database: Database, rows: Rows) -> None:
    await append(rows, ("a", 1), ("b", 1))
    await append(rows, ("a", 2))
    async with leading(database) as segments:
        assert (await segments.seal()).seq == 1
        assert (await segments.seal()).seq is None
        [batch] = await segments.read(0, 10)
        assert (batch.seq, batch.count) == (1, 3)
        assert facts_of([batch]) == [("a", 1), ("b", 1), ("a", 2)]
        assert await segments.batch_hashes(1) == [hashlib.sha256(batch.payload).digest()]
        assert await segments.batch_hashes(2) == []
    assert await rows.fetchval("SELECT count(*) FROM outbox") == 0
    assert await rows.fetchval("SELECT seal_time FROM segment") == NOW


async def test_batches_stay_below_their_size_and_lose_nothing(
    database: Database, rows: Rows, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_BATCH_BYTES", 2_000)
    monkeypatch.setattr(module, "MAX_SEAL_ROWS", 50)
    expected = []
    for n in range(200):
        expected += [(f"b{n}", 1), (f"b{n}", 2)]
        await append(rows, *expected[-2:])
    async with leading(database) as segments:
        sealed = await seal_all(segments)
        batches = await segments.read(0, 10_000)
    assert sealed == len(batches) > 200 * 2 * 100 // 2_000
    assert [batch.seq for batch in batches] == list(range(1, sealed + 1))
    assert max(len(batch.payload) for batch in batches) <= 2_000
    assert facts_of(batches) == expected


async def test_row_larger_than_a_batch_is_sealed_alone(
    database: Database, rows: Rows, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_BATCH_BYTES", 500)
    await append(rows, ("small", 1))
    await append(rows, *[("large", version) for version in range(1, 9)])
    await append(rows, ("small", 2))
    async with leading(database) as segments:
        assert await seal_all(segments) == 3
        assert [batch.count for batch in await segments.read(0, 10)] == [1, 8, 1]


async def test_late_committer_is_not_skipped(database: Database, rows: Rows, other: Rows) -> None:
    late = other.transaction()
    await late.start()
    await append(other, ("late", 1))
    async with leading(database) as segments:
        for n in range(5):
            await append(rows, ("early", n))
            await segments.seal()
        assert ("late", 1) not in await stored(segments)
        await late.commit()
        await append(rows, ("early", 5))
        await seal_all(segments)
        assert await stored(segments) == [
            *(("early", n) for n in range(5)),
            ("late", 1),
            ("early", 5),
        ]


async def test_many_late_committers_in_any_order_are_all_sealed(
    database: Database, rows: Rows, booking_dsn: str
) -> None:
    async with leading(database) as segments:
        writers = [await asyncpg.connect(booking_dsn) for _ in range(8)]
        for round_ in range(6):
            open_ = []
            for n, writer in enumerate(writers):
                transaction = writer.transaction()
                await transaction.start()
                await append(writer, (f"w{n}", round_ + 1))
                open_.append(transaction)
            # Each time another order, one rolled back, and seals in between.
            for n in range(8):
                at = (n * 5 + round_) % 8
                await (open_[at].rollback() if at == round_ else open_[at].commit())
                await segments.seal()
        await seal_all(segments)
        expected = {(f"w{n}", r + 1) for n in range(8) for r in range(6) if n != r}
        found = await stored(segments)
        assert len(found) == len(expected)
        assert set(found) == expected
        assert await rows.fetchval("SELECT count(*) FROM outbox") == 0
    for writer in writers:
        await writer.close()


async def test_open_transaction_does_not_stop_sealing(
    database: Database, rows: Rows, other: Rows
) -> None:
    # It has written, and it reads an old snapshot.
    async with other.transaction(isolation="repeatable_read"):
        await append(other, ("open", 1))
        await other.fetch("SELECT count(*) FROM outbox")
        async with leading(database) as segments:
            for n in range(50):
                await append(rows, ("other", n + 1))
                assert (await segments.seal()).seq == n + 1
            assert len(await stored(segments)) == 50


async def test_low_water_mark_rises_past_an_old_snapshot_and_waits_for_a_writer(
    database: Database, rows: Rows, other: Rows
) -> None:
    mark = "SELECT low_water_id FROM relay"

    async def rises_above(id: int) -> bool:
        """Seal once more and check the mark; any writer, even autovacuum, delays it."""
        last = await append(rows, ("a", 1))
        await segments.seal()
        return id < int(await rows.fetchval(mark)) < last

    async with leading(database) as segments:
        async with other.transaction(isolation="repeatable_read"):
            await other.fetch("SELECT count(*) FROM outbox")
            await eventually(partial(rises_above, 0))
        async with other.transaction():
            held = await append(other, ("late", 1))
            for n in range(4):
                await append(rows, ("b", n + 1))
                await segments.seal()
            assert await rows.fetchval(mark) < held
        await eventually(partial(rises_above, held))
        assert ("late", 1) in await stored(segments)


async def test_facts_of_one_booking_come_in_version_order(
    database: Database, rows: Rows, booking_dsn: str
) -> None:
    await rows.execute("CREATE TABLE locks (id int PRIMARY KEY, version int)")
    await rows.execute("INSERT INTO locks SELECT n, 0 FROM generate_series(1, 3) n")
    done = asyncio.Event()

    async def write(seed: int) -> None:
        writer = await asyncpg.connect(booking_dsn)
        for n in range(40):
            # Two of three bookings, locked in order, as the packages of a group are.
            wanted = [id for id in (1, 2, 3) if id != (n + seed) % 3 + 1]
            async with writer.transaction():
                locked = await writer.fetch(
                    "SELECT id, version FROM locks WHERE id = ANY($1) ORDER BY id FOR UPDATE",
                    wanted,
                )
                await append(writer, *[(str(row["id"]), row["version"] + 1) for row in locked])
                await writer.execute(
                    "UPDATE locks SET version = version + 1 WHERE id = ANY($1)", wanted
                )
        await writer.close()

    async def seal(segments: Segments) -> None:
        while not done.is_set():
            await segments.seal()
        await seal_all(segments)

    async with leading(database) as segments:
        sealing = asyncio.create_task(seal(segments))
        await asyncio.gather(*(write(seed) for seed in range(4)))
        done.set()
        await sealing
        found = await stored(segments)
    for id in ("1", "2", "3"):
        versions = [version for booking_id, version in found if booking_id == id]
        assert versions == list(range(1, len(versions) + 1))
    assert len(found) == 4 * 40 * 2


async def test_two_relays_at_once_give_dense_numbers_and_each_fact_once(
    database: Database, rows: Rows
) -> None:
    async with leading(database) as first, Segments.connected(database) as second:
        # Not a second leader: the same epoch twice, as a copy of a process would have it.
        second._epoch = first._epoch

        async def seal(segments: Segments) -> None:
            while not done.is_set() or (await segments.seal()).seq is not None:
                await segments.seal()

        done = asyncio.Event()
        racing = [asyncio.create_task(seal(segments)) for segments in (first, second)]
        for n in range(300):
            await append(rows, ("a", n + 1))
        done.set()
        await asyncio.gather(*racing)
        batches = await first.read(0, 10_000)
    assert [batch.seq for batch in batches] == list(range(1, len(batches) + 1))
    assert sorted(facts_of(batches)) == [("a", n + 1) for n in range(300)]
    assert await rows.fetchval("SELECT next_seq FROM relay") == len(batches) + 1


async def test_a_fenced_relay_seals_nothing_and_reports_it(database: Database, rows: Rows) -> None:
    async with leading(database) as old:
        await append(rows, ("a", 1))
        assert (await old.seal()).seq == 1
        async with leading(database) as new:
            await append(rows, ("a", 2))
            fenced = await old.seal()
            assert (fenced.leading, fenced.seq) == (False, None)
            assert await rows.fetchval("SELECT count(*) FROM outbox") == 1
            await old.acknowledge(1)
            assert await rows.fetchval("SELECT acked_seq FROM relay") == 0
            assert (await new.seal()).seq == 2


async def test_relay_fenced_while_it_waits_for_its_turn_seals_nothing(
    database: Database, rows: Rows, other: Rows
) -> None:
    async with leading(database) as old:
        await append(rows, ("a", 1))
        async with other.transaction():
            await other.execute("UPDATE relay SET epoch = epoch + 1")
            sealing = asyncio.create_task(old.seal())
            waiting = "SELECT count(*) FROM pg_locks WHERE NOT granted"
            await eventually(lambda: rows.fetchval(waiting))
        assert (await sealing).seq is None
    assert await rows.fetchval("SELECT count(*) FROM outbox") == 1
    assert await rows.fetchval("SELECT next_seq FROM relay") == 1


async def test_idle_poll_writes_nothing(database: Database, rows: Rows) -> None:
    async with leading(database) as segments:
        await append(rows, ("a", 1))
        await seal_all(segments)
        written = "SELECT pg_current_xact_id_if_assigned()::text"
        async with segments._connection.transaction():
            for _ in range(5):
                assert (await segments.seal()).leading
            assert await segments._connection.fetchval(written) is None
            # What does write is seen.
            await append(rows, ("a", 2))
            assert (await segments.seal()).seq == 2
            assert await segments._connection.fetchval(written) is not None


async def test_pending_counts_facts_not_acknowledged(database: Database, rows: Rows) -> None:
    async with leading(database) as segments:
        assert await segments.pending() == 0
        await append(rows, ("a", 1), ("a", 2))
        await seal_all(segments)
        await append(rows, ("a", 3))
        assert await segments.pending() == 3
        await segments.acknowledge(1)
        assert await segments.pending() == 1
        await seal_all(segments)
        await segments.acknowledge(2)
        assert await segments.pending() == 0


def test_low_water_mark_waits_for_the_horizon_and_for_a_seal_that_reaches_it() -> None:
    mark = LowWater(10)
    mark.learn(highest_id=20, drained=True, oldest_running=5, next_to_run=8)
    assert mark.id == 10
    # Somebody who ran then still runs.
    mark.learn(highest_id=25, drained=True, oldest_running=7, next_to_run=9)
    assert mark.id == 10
    # All are over, but this seal did not get to the mark.
    mark.learn(highest_id=15, drained=False, oldest_running=8, next_to_run=9)
    assert mark.id == 10
    mark.learn(highest_id=None, drained=True, oldest_running=8, next_to_run=9)
    assert mark.id == 20
