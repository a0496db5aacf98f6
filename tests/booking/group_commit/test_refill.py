"""Facts are sent again from the audit trail: all of them, in order, also after a stop."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta

import asyncpg
import pytest

from booking_service.cli import refill as refill_module
from booking_service.cli.refill import LaneTroubleError, Progress, Refill
from protos.tracking.v1 import event_pb2
from tests.booking.delivery.outbox_lane import Relay, Sink
from tests.booking.group_commit.harness import Harness
from tests.booking.group_commit.test_audit_trail import live_through_everything


def events_of(sink: Sink) -> list[event_pb2.Event]:
    """The facts that were sent."""
    return [event for event in everything(sink) if not event.HasField("facts_refill")]


def refills_of(sink: Sink) -> list[event_pb2.FactsRefill]:
    """What was said of them."""
    return [event.facts_refill for event in everything(sink) if event.HasField("facts_refill")]


def everything(sink: Sink) -> list[event_pb2.Event]:
    return [
        event
        for batch in sink.batches
        for event in event_pb2.EventList.FromString(batch.payload).events
    ]


@asynccontextmanager
async def delivering(harness: Harness) -> AsyncIterator[Sink]:
    """A relay that streams to a sink."""
    sink = Sink()
    relay = Relay(harness.dsn, sink, harness.clock)
    relay.relay.start()
    try:
        yield sink
    finally:
        await relay.relay.stop()


async def forget_what_was_sent(harness: Harness, sql: str = "") -> list[event_pb2.Event]:
    """Empty the outbox as if all had been sent, and return the facts of it."""
    sent = await harness.facts()
    connection = await asyncpg.connect(harness.dsn)
    try:
        await connection.execute(f"DELETE FROM outbox; {sql}")
    finally:
        await connection.close()
    return sent


def refill(harness: Harness, lines: list[str] | None = None, step_rows: int = 3) -> Refill:
    say = (lines if lines is not None else []).append
    return Refill(harness.database, say, step_rows=step_rows)


def as_bytes(events: list[event_pb2.Event]) -> list[bytes]:
    return sorted(event.SerializeToString() for event in events)


async def test_every_fact_is_sent_again_as_it_was_in_order_of_versions(harness: Harness) -> None:
    await live_through_everything(harness)
    sent = await forget_what_was_sent(harness)
    async with delivering(harness) as sink:
        done = await refill(harness).run(None, rebuild=False)
        again = events_of(sink)
    assert as_bytes(again) == as_bytes(sent)
    refills = refills_of(sink)
    assert sum(batch.count for batch in sink.batches) == len(everything(sink))
    # Its end names the lane, and nothing is lacking.
    assert [refill.producer_id != "" for refill in refills] == [*[False] * (len(refills) - 1), True]
    assert refills[-1].not_kept == 0
    assert sum(refill.facts for refill in refills) == len(sent)
    # One payment event had no effect.
    assert done == Progress("done", len(sent) + 1, len(sent), 0, 0)
    versions: dict[str, list[int]] = {}
    for event in again:
        if event.HasField("booking"):
            versions.setdefault(event.booking.booking_id, []).append(event.booking.version)
    assert all(found == list(range(1, len(found) + 1)) for found in versions.values())


async def test_an_interrupted_refill_goes_on_where_it_was(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    await live_through_everything(harness)
    sent = await forget_what_was_sent(harness)
    lines: list[str] = []
    async with delivering(harness) as sink:
        # No room for a second step, until facts are acknowledged, which they are not yet.
        sink.acknowledges = False
        monkeypatch.setattr(refill_module, "MAX_PENDING_FACTS", 0)
        running = asyncio.create_task(refill(harness).run(None, rebuild=False))
        await sink.has(1)
        running.cancel()
        await asyncio.wait([running])
        assert sum(batch.count for batch in sink.batches) == 1 + 3
    monkeypatch.undo()
    async with delivering(harness) as sink:
        done = await refill(harness, lines).run(None, rebuild=False)
        again = events_of(sink)
    assert lines[0].startswith("goes on with the refill of 2026-03-01")
    assert as_bytes(again) == as_bytes(sent)
    assert done.sent == len(sent)


async def test_a_refill_from_a_time_leaves_out_what_was_before(harness: Harness) -> None:
    package_id = await harness.package(capacity=9)
    await harness.start(package_id)
    harness.clock.advance(timedelta(hours=1))
    later = await harness.start(package_id)
    await forget_what_was_sent(harness)
    async with delivering(harness) as sink:
        done = await refill(harness).run(harness.clock.time, rebuild=False)
        assert [event.booking.booking_id for event in events_of(sink)] == [str(later.id)]
        # Nothing is known of what was before.
        assert [(refill.facts, refill.producer_id) for refill in refills_of(sink)] == [(1, "")]
    assert (done.seen, done.sent) == (1, 1)


async def test_a_lane_that_waits_for_a_person_is_not_filled(harness: Harness) -> None:
    await forget_what_was_sent(
        harness,
        "INSERT INTO lane_trouble (state, reason, since) VALUES ('forked', 'another sink', now())",
    )
    with pytest.raises(LaneTroubleError, match="the lane is forked, see lane show: another sink"):
        await refill(harness).run(None, rebuild=False)
    assert await harness.facts() == []


FORGET_FACTS = """
ALTER TABLE booking_events DISABLE TRIGGER ALL;
UPDATE booking_events SET fact = NULL;
UPDATE payment_events SET fact = NULL;
"""


async def test_facts_that_were_not_kept_are_counted_and_made_anew_if_asked(
    harness: Harness,
) -> None:
    await live_through_everything(harness)
    sent = await forget_what_was_sent(harness, FORGET_FACTS)
    async with delivering(harness) as sink:
        done = await refill(harness).run(None, rebuild=False)
        # Whether a payment event had an effect is not known either.
        assert done == Progress("done", len(sent) + 1, 0, 0, len(sent) + 1)
        assert [refill.not_kept for refill in refills_of(sink)] == [len(sent) + 1]
        done = await refill(harness).run(None, rebuild=True)
        made = {event.event_id: event for event in events_of(sink)}
    assert done == Progress("done", len(sent) + 1, len(sent) + 1, len(sent) + 1, 0)
    assert all(event.rebuilt for event in made.values())
    differing = set()
    for fact in sent:
        again = made[fact.event_id]
        again.rebuilt = False
        if again != fact:
            body = fact.WhichOneof("body")
            assert body == "booking"
            differing |= {
                field.name
                for field in fact.booking.DESCRIPTOR.fields
                if getattr(fact.booking, field.name) != getattr(again.booking, field.name)
            }
    # The price of a stay that was moved is that of today, but for its confirmation.
    assert differing <= {"amount_minor"}
