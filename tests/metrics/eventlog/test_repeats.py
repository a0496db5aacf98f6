"""A fact that arrives again, however late and by whichever producer, has one effect."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from uuid import UUID

import asyncpg
import pytest

from booking_service.group_commit.facts import booking_fact_id
from metrics_service.state import tables
from metrics_service.state.fold import State
from metrics_service.state.record import LogRecord
from protos.tracking.v1 import event_pb2
from tests.metrics.eventlog.test_event_log import NOON_US, attach, everything, opened

BOOKING = UUID(int=7)
Fact = event_pb2.BookingFact
NEVER_US = 1 << 60


def fact(version: int, transition: Fact.Transition.ValueType, **fields: int) -> event_pb2.Event:
    event_id = booking_fact_id(BOOKING, version, Fact.Transition.Name(transition))
    made = event_pb2.Event(event_id=event_id, time_us=NOON_US)
    made.booking.CopyFrom(
        Fact(
            transition=transition,
            booking_id=str(BOOKING),
            version=version,
            amount_minor=100,
            currency="EUR",
            confirm_time_us=NOON_US if transition == Fact.CONFIRMED else 0,
            **fields,  # type: ignore[arg-type]  # numbers of the fact
        )
    )
    return made


STARTED = fact(1, Fact.STARTED)
COMPLETED = fact(2, Fact.COMPLETED)
CONFIRMED = fact(3, Fact.CONFIRMED)


def batch(*events: event_pb2.Event) -> bytes:
    return event_pb2.EventList(events=events).SerializeToString()


def apply_all(state: State, records: Iterable[LogRecord]) -> None:
    for record in records:
        state.apply(record)


@pytest.fixture(autouse=True)
def _a_fold_that_remembers_one_event(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that what the fold remembers for a while is not what is tested."""
    monkeypatch.setattr(tables, "MAX_SEEN_EVENTS", 1)


async def test_facts_sent_again_by_another_producer_have_no_second_effect(
    metrics_dsn: str,
) -> None:
    live = State()
    async with opened(metrics_dsn) as log:
        log.subscribe(lambda records: apply_all(live, records))
        append = await attach(log, "relay")
        await append(1, batch(STARTED, COMPLETED))
    # Another process, which has nothing in memory.
    async with opened(metrics_dsn) as log:
        log.subscribe(lambda records: apply_all(live, records))
        again = await attach(log, "anew", succeeds=("relay",))
        await again(1, batch(STARTED, COMPLETED, CONFIRMED))
        await again(2, batch(CONFIRMED))
        records = await everything(log)
    assert [record.repeats for record in records] == [(), (0, 1), (0,)]
    refolded = State()
    apply_all(refolded, records)
    assert list(refolded.dump()) == list(live.dump())
    business = refolded.metrics().business
    assert business.confirmed == 1
    assert [(each.currency, each.gross_minor) for each in business.revenue] == [("EUR", 100)]
    quality = refolded.metrics().quality
    assert (quality.facts, quality.duplicates) == (3, 3)


async def test_a_fact_that_is_twice_in_one_commit_counts_where_it_is_first(
    metrics_dsn: str,
) -> None:
    async with opened(metrics_dsn) as log:
        append = await attach(log)
        await asyncio.gather(
            append(1, batch(STARTED, STARTED, COMPLETED)), append(2, batch(COMPLETED, CONFIRMED))
        )
        assert [record.repeats for record in await everything(log)] == [(1,), (0,)]


async def test_a_batch_that_cannot_be_applied_leaves_its_facts_to_be_sent_again(
    metrics_dsn: str,
) -> None:
    bad = fact(4, Fact.CANCELLED)
    bad.time_us = NEVER_US
    async with opened(metrics_dsn) as log:
        append = await attach(log)
        await append(1, batch(STARTED, bad))
        await append(2, batch(STARTED))
        assert [record.repeats for record in await everything(log)] == [(), ()]
    connection = await asyncpg.connect(metrics_dsn)
    try:
        assert await connection.fetchval("SELECT array_agg(id) FROM fact") == [STARTED.event_id]
    finally:
        await connection.close()
