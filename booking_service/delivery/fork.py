"""Shows the lane of facts, and begins it anew after a fork: the gap is stated in numbers."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import datetime
from typing import Final
from uuid import UUID, uuid4

from booking_service.domain.instants import microseconds
from booking_service.storage.connection import OwnConnection
from booking_service.storage.database import Database
from booking_service.storage.driver_errors import translate_driver_errors
from booking_service.storage.sql import QueryGroup
from protos.tracking.v1.event_pb2 import Event, EventList, FactsGap

MAX_SUCCEEDED: Final = 64
"""So many producers are named to the sink, the newest ones."""

ANSWER_S: Final = 30.0
"""How long to wait for what a sink says of a lane that succeeds another one."""

POLL_S: Final = 0.2

_LANE: Final = QueryGroup("lane")
_OUTBOX: Final = QueryGroup("outbox")


class NoForkError(Exception):
    """The lane cannot begin anew; one line."""


@dataclass(frozen=True, slots=True)
class Fork:
    """Why no fact is sent, since when, and what the sink said of itself, None where it did not."""

    state: str
    reason: str
    since: datetime
    sink_id: UUID | None
    resume_after: int | None
    facts: int | None


@dataclass(frozen=True, slots=True)
class Lane:
    """The lane of facts as the database has it; `fork` is None while all is well."""

    producer_id: UUID
    epoch: int
    next_seq: int
    acked_seq: int
    acked_facts: int
    pending: int
    kept_from: int | None
    sink_id: UUID | None
    withheld: int
    fork: Fork | None


@dataclass(frozen=True, slots=True)
class Gap:
    """Facts that the sink lacks and are not kept here; facts of the sink that are not here, some of
    which may be among those sent again; and facts that are sent again or for the first time.
    """

    lacking: int
    beyond: int
    sent: int


async def show(database: Database) -> Lane:
    """Read the lane. Raises what Database raises."""
    connection = await database.connect("lane")
    try:
        with translate_driver_errors():
            return await _read(connection)
    finally:
        connection.terminate()


async def gap(database: Database) -> Gap:
    """Return the gap that a new beginning would state now. Raises NoForkError."""
    connection = await database.connect("lane")
    try:
        with translate_driver_errors():
            return (await _plan(connection)).gap
    finally:
        connection.terminate()


async def succeed(database: Database, producer_id: UUID, *, answer_s: float = ANSWER_S) -> None:
    """Have the lane of a new booking database take the place of the producer of one that is lost,
    and wait until the sink, which refused it as a stranger, has said what it has. No fact is sent
    before that is accepted. Raises NoForkError.
    """
    connection = await database.connect("lane")
    try:
        with translate_driver_errors():
            async with connection.transaction():
                await connection.execute(_LANE.lock)
                lane = await _read(connection)
                has_met_none = lane.sink_id is None and lane.fork is None
                if _is_stranger(lane) or has_met_none:
                    await connection.execute(_LANE.succeed, producer_id, MAX_SUCCEEDED)
                    await connection.execute(_LANE.end_trouble)
                elif producer_id not in await connection.fetchval(_LANE.succeeds):
                    raise NoForkError("the sink knows this lane: it need not succeed another one")
            lane = await _answered(connection, answer_s)
    finally:
        connection.terminate()
    if _is_stranger(lane):
        raise NoForkError(f"the facts of the sink are not those of producer {producer_id}")


async def accept(database: Database) -> Gap:
    """Begin the lane anew in one transaction: a new producer numbers what is kept and unsent from 1
    on, after the gap. A relay that runs takes it up by itself. Raises NoForkError.
    """
    connection = await database.connect("lane")
    try:
        with translate_driver_errors():
            async with connection.transaction():
                await connection.execute(_LANE.lock)
                plan = await _plan(connection)
                await _begin_anew(connection, plan, await database.clock.now(connection))
        return plan.gap
    finally:
        connection.terminate()


@dataclass(frozen=True, slots=True)
class _Plan:
    lane: Lane
    fork: Fork
    gap: Gap
    sink_facts: int
    stored_seq: int


async def _read(connection: OwnConnection) -> Lane:
    [row] = await connection.fetch(_LANE.show)
    pending = await connection.fetchval(_OUTBOX.pending)
    fork = None
    if row["state"] is not None:
        sink = row["trouble_sink_id"]
        told = (row["resume_after"], row["facts"])
        fork = Fork(row["state"], row["reason"], row["since"], sink, *told)
    numbers = (row["epoch"], row["next_seq"], row["acked_seq"], row["acked_facts"], pending)
    kept = (row["kept_from"], row["sink_id"], row["withheld_facts"])
    return Lane(row["producer_id"], *numbers, *kept, fork)


def _is_stranger(lane: Lane) -> bool:
    """Whether the sink has the facts of another producer, and tells this one nothing."""
    fork = lane.fork
    return (
        fork is not None
        and fork.state == "forked"
        and fork.sink_id is None
        and fork.resume_after is None
    )


async def _answered(connection: OwnConnection, answer_s: float) -> Lane:
    """Return the lane once it has met the sink again. Raises NoForkError after answer_s."""
    try:
        async with asyncio.timeout(answer_s):
            while True:
                lane = await _read(connection)
                if lane.fork is not None or lane.sink_id is not None:
                    return lane
                await asyncio.sleep(POLL_S)
    except TimeoutError:
        raise NoForkError(
            f"the sink has not answered within {answer_s:.0f} s: run the same again while"
            " booking_service and metrics_service run"
        ) from None


async def _plan(connection: OwnConnection) -> _Plan:
    lane = await _read(connection)
    fork = lane.fork
    if fork is None:
        raise NoForkError("the lane is not forked: nothing to accept")
    if _is_stranger(lane):
        raise NoForkError(
            "the sink takes the facts of another booking database and would refuse a new lane too:"
            " set BOOKING_METRICS_TARGET to the sink of this one, or, if that database is lost,"
            " name its producer with --succeeds"
        )
    # A sink that only fences does not say what it has: it has what it acknowledged.
    sink_facts = lane.acked_facts if fork.facts is None else fork.facts
    stored = await connection.fetchrow(_LANE.stored, sink_facts)
    seq, facts = lane.acked_seq, lane.acked_facts
    if stored is not None and stored["seq"] is not None:
        seq, facts = stored["seq"], int(stored["facts"])
    lacking, beyond = max(0, facts - sink_facts), max(0, sink_facts - lane.acked_facts)
    sent = lane.acked_facts - facts + lane.pending
    return _Plan(lane, fork, Gap(lacking, beyond, sent), sink_facts, seq)


async def _begin_anew(connection: OwnConnection, plan: _Plan, now: datetime) -> None:
    lane, producer_id = plan.lane, uuid4()
    former = await connection.fetchval(_LANE.succeeds)
    succeeds = [lane.producer_id, *former][:MAX_SUCCEEDED]
    await connection.execute(_LANE.drop_segments, plan.stored_seq)
    await connection.execute(_LANE.free_numbers)
    await connection.execute(_LANE.renumber, plan.stored_seq)
    epoch = await connection.fetchval(
        _LANE.begin_anew,
        producer_id,
        succeeds,
        plan.stored_seq,
        plan.sink_facts,
        plan.fork.sink_id,
    )
    event = Event(
        event_id=producer_id.bytes,
        time_us=microseconds(now),
        facts_gap=FactsGap(
            succeeds=str(lane.producer_id),
            lacking=plan.gap.lacking,
            beyond=plan.gap.beyond,
            resent=plan.gap.sent if plan.gap.beyond else 0,
        ),
    )
    events = EventList(events=[event]).SerializeToString()
    await connection.execute(_LANE.put_gap, epoch, events, now)
    await connection.execute(_LANE.restart_refill)
    await connection.execute(_LANE.end_trouble)
