"""Converts between the tables of the event log and the types of the log and the fold: a record just
written equals the record that is read back.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, Final, NamedTuple

from metrics_service.eventlog.producer import Producer, ProducerKey
from metrics_service.eventlog.producers import Plan
from metrics_service.eventlog.row import Row
from metrics_service.state.batch import fact_ids
from metrics_service.state.record import LogRecord
from protos.tracking.v1 import tracking_pb2

EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)

COLUMNS: Final = (
    "position",
    "received_at",
    "kind",
    "lane",
    "producer_id",
    "epoch",
    "seq",
    "instance",
    "service",
    "backfill",
    "event_count",
    "payload",
    "repeats",
)


class FactId(NamedTuple):
    """The id and time of a fact, the row of the plan that it is in, and where in that."""

    id: bytes
    row: int
    at: int
    time_us: int


async def facts_of(plan: Plan) -> list[FactId]:
    """Return the facts of a plan in their order."""
    found: list[FactId] = []
    for number, row in enumerate(plan.rows):
        if row.key.lane == tracking_pb2.LANE_FACTS:
            found += [FactId(id, number, at, time_us) for at, id, time_us in fact_ids(row.payload)]
            # A group may hold megabytes of facts, and the streams go on meanwhile.
            await asyncio.sleep(0)
    return found


def microseconds(instant: datetime) -> int:
    """Convert an instant to microseconds since the epoch."""
    return (instant - EPOCH) // _MICROSECOND


def mark_repeats(plan: Plan, facts: list[FactId], new: set[bytes]) -> None:
    """Note in the rows which of their facts are not new, or are new in an earlier place."""
    repeats: dict[int, list[int]] = {}
    for fact in facts:
        if fact.id in new:
            new.discard(fact.id)
        else:
            repeats.setdefault(fact.row, []).append(fact.at)
    for number, indexes in repeats.items():
        plan.rows[number] = replace(plan.rows[number], repeats=tuple(indexes))


def moved_columns(
    moved: list[tuple[ProducerKey, Producer, Producer]], stamp: datetime
) -> tuple[Any, ...]:
    rows = [(*key, *_fields(new), old.epoch, old.next_seq) for key, new, old in moved]
    return (stamp, *map(list, zip(*rows, strict=True)))


def key_columns(keys: list[ProducerKey]) -> tuple[Any, ...]:
    return tuple(map(list, zip(*keys, strict=True)))


def producer_row(key: ProducerKey, producer: Producer, stamp: datetime) -> tuple[Any, ...]:
    """Return the columns of a new row, in the order of the table."""
    *earlier, events, pinned = _fields(producer)
    return (*key, *earlier, stamp, events, pinned)


def _fields(producer: Producer) -> tuple[Any, ...]:
    return (
        producer.epoch,
        producer.next_seq,
        producer.last_hash,
        producer.instance,
        producer.service,
        producer.backfill,
        producer.open,
        producer.events,
        producer.pinned,
    )


def log_row(row: Row, position: int, received_at: datetime) -> tuple[Any, ...]:
    return (
        position,
        received_at,
        row.kind,
        *row.key,
        row.epoch,
        row.seq,
        row.instance,
        row.service,
        row.backfill,
        row.count,
        row.payload,
        list(row.repeats) or None,
    )


def producer_of(row: Mapping[str, Any]) -> tuple[ProducerKey, Producer]:
    """Convert a row of producers.list."""
    key = ProducerKey(row["lane"], row["id"])
    return key, Producer(
        row["epoch"],
        row["next_seq"],
        row["last_hash"],
        row["instance"],
        row["service"],
        row["backfill"],
        row["open"],
        row["events"],
        row["pinned"],
    )


def stored_record(row: Mapping[str, Any]) -> LogRecord:
    """Convert a row of log.read."""
    return LogRecord(
        position=row["position"],
        received_at_us=microseconds(row["received_at"]),
        kind=row["kind"],
        producer_id=row["producer_id"],
        epoch=row["epoch"],
        seq=row["seq"],
        lane=row["lane"],
        instance=row["instance"],
        service=row["service"],
        backfill=row["backfill"],
        payload=row["payload"],
        count=row["event_count"],
        repeats=tuple(row["repeats"] or ()),
    )


def written_record(row: Row, position: int, received_at: datetime) -> LogRecord:
    """Convert a row that was just written to the record that reading it gives."""
    return LogRecord(
        position=position,
        received_at_us=microseconds(received_at),
        kind=row.kind,
        producer_id=row.key.id,
        epoch=row.epoch,
        seq=row.seq,
        lane=row.key.lane,
        instance=row.instance,
        service=row.service,
        backfill=row.backfill,
        payload=row.payload,
        count=row.count,
        repeats=row.repeats,
    )
