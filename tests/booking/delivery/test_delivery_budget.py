"""Facts that wait take no more than their budget: then new ones stay in the audit trail alone."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import pytest

from booking_service.delivery.segments import ADVISORY_LOCK, Segments, Weight
from booking_service.storage.database import Database
from booking_service.storage.sql import QueryGroup
from tests.booking.delivery.outbox_lane import Relay, Rows, Sink, event_list, leading, seal_all
from tests.booking.seed import NOW, eventually

BUDGET = 20_000
DAY = timedelta(hours=24)
SIZE = "SELECT coalesce(sum(octet_length(batch)), 0) FROM segment"
OUTBOX = QueryGroup("outbox")


pytestmark = pytest.mark.usefixtures("no_long_waits")


async def commit(rows: Rows, facts: int, first: int = 1) -> None:
    """Commit one transaction with so many facts, as a group of commands does."""
    row = event_list(*(("a", first + number) for number in range(facts)))
    await rows.execute(str(OUTBOX.append), facts, row, NOW + timedelta(seconds=first))


async def fill(rows: Rows, segments: Segments, facts: int) -> int:
    """Commit until facts are withheld, and return how many transactions that took."""
    for number in range(1_000):
        await commit(rows, facts, number * facts)
        await seal_all(segments)
        if (await segments.keep_within(BUDGET)).withholding:
            return number + 1
    raise AssertionError("nothing was withheld")


@pytest.mark.parametrize("facts", [1, 100], ids=["many rows", "large rows"])
async def test_what_waits_stays_within_the_budget_and_the_rest_is_counted(
    database: Database, rows: Rows, facts: int
) -> None:
    async with leading(database) as segments:
        await fill(rows, segments, facts)
        stored = await rows.fetchval(SIZE)
        for number in range(30):
            await commit(rows, facts, 10_000 + number)
            await seal_all(segments)
            weight = await segments.keep_within(BUDGET)
        assert weight == Weight(stored, True, 30 * facts, NOW + timedelta(seconds=10_000))
        assert await rows.fetchval(SIZE) == stored <= BUDGET + 200 * facts
        assert await rows.fetchval("SELECT count(*) FROM outbox") == 0
        # Counted in one row.
        assert await rows.fetchval("SELECT count(*) FROM withheld") == 0
        await segments.acknowledge(await rows.fetchval("SELECT max(seq) FROM segment"))
        weight = await segments.keep_within(BUDGET)
        assert (weight.bytes, weight.withholding, weight.withheld) == (0, False, 30 * facts)
        await commit(rows, facts)
        assert await rows.fetchval("SELECT sum(count) FROM outbox") == facts
        assert (await segments.keep_within(BUDGET)).withheld == 30 * facts


async def test_it_ends_once_half_of_the_budget_is_free(database: Database, rows: Rows) -> None:
    async with leading(database) as segments:
        count = await fill(rows, segments, 10)
        for seq in range(1, count + 1):
            await segments.acknowledge(seq)
            left = await rows.fetchval(f"{SIZE} WHERE seq > {seq}")
            assert (await segments.keep_within(BUDGET)).withholding == (left > BUDGET // 2)


async def test_segments_that_metrics_have_go_first(database: Database, rows: Rows) -> None:
    async with leading(database) as segments:
        for number in range(10):
            await commit(rows, 40, number * 40)
            await seal_all(segments)
            await segments.acknowledge(number + 1)
            await segments.drop_acknowledged(DAY, BUDGET)
            assert not (await segments.keep_within(BUDGET)).withholding
        kept, oldest = (
            await rows.fetchval(SIZE),
            await rows.fetchval("SELECT min(seq) FROM segment"),
        )
        assert oldest > 1
        assert BUDGET // 2 < kept <= BUDGET
        assert await rows.fetchval("SELECT (kept_bytes, unacked_bytes) FROM relay") == (kept, 0)
        # Those that wait push the others out, all but the one that is compared.
        await commit(rows, 100, 1_000)
        await seal_all(segments)
        await segments.drop_acknowledged(DAY, BUDGET)
        assert await rows.fetchval("SELECT array_agg(seq ORDER BY seq) FROM segment") == [10, 11]


async def test_the_sums_are_those_of_the_segments_after_a_new_start(
    database: Database, rows: Rows
) -> None:
    async with leading(database) as segments:
        for number in range(4):
            await commit(rows, 5, number)
            await seal_all(segments)
        await segments.acknowledge(1)
    await rows.execute("UPDATE relay SET kept_bytes = 7, unacked_bytes = 7")
    async with leading(database):
        kept, unacked = await rows.fetchval("SELECT (kept_bytes, unacked_bytes) FROM relay")
    assert kept == await rows.fetchval(SIZE)
    assert unacked == await rows.fetchval(f"{SIZE} WHERE seq > 1")


async def test_an_outbox_that_nobody_seals_is_bounded_too(
    booking_dsn: str, database: Database, rows: Rows
) -> None:
    assert await rows.fetchval("SELECT pg_try_advisory_lock($1)", ADVISORY_LOCK)
    copy = Relay(booking_dsn, Sink(), max_bytes=BUDGET)
    copy.relay.start()
    await commit(rows, 200)
    await until(rows, "SELECT withholding FROM relay")
    for number in range(20):
        await commit(rows, 5, number)
    assert await rows.fetchval("SELECT count(*) FROM outbox") == 1
    assert copy.relay.facts_withheld is None
    await rows.execute("SELECT pg_advisory_unlock($1)", ADVISORY_LOCK)
    await until(rows, "SELECT withheld_facts = 100 AND NOT withholding FROM relay")
    await eventually_true(lambda: copy.relay.facts_withheld == 100)
    await copy.relay.stop()
    assert copy.relay.facts_withheld is None


async def test_the_relay_says_what_is_withheld_until_it_was_sent(
    booking_dsn: str, database: Database, rows: Rows
) -> None:
    sink = Sink()
    sink.acknowledges = False
    copy = Relay(booking_dsn, sink, max_bytes=BUDGET)
    copy.relay.start()
    await until(rows, "SELECT epoch > 0 FROM relay")
    await commit(rows, 200)
    await until(rows, "SELECT withholding FROM relay")
    await commit(rows, 3)
    await eventually_true(lambda: copy.relay.facts_withheld == 3)
    assert copy.relay.shortage is not None
    assert copy.relay.shortage.state == "withheld"
    assert copy.relay.shortage.reason == (
        "3 facts since 2026-03-01T12:00:01Z are withheld: `lane refill` sends them once"
        " metrics_service has taken those that wait"
    )
    await sink.lanes[-1].acked(sink.resume_after)
    await eventually_true(
        lambda: copy.relay.shortage is not None and copy.relay.shortage.reason.endswith("now")
    )
    # As a refill does at its end.
    await rows.execute("UPDATE relay SET withheld_facts = 0, withheld_from = NULL")
    await eventually_true(lambda: copy.relay.shortage is None)
    await copy.relay.stop()


async def until(rows: Rows, condition: str) -> None:
    await eventually(lambda: rows.fetchval(condition))


async def eventually_true(condition: Callable[[], bool]) -> None:
    async def holds() -> bool:
        return condition()

    await eventually(holds)
