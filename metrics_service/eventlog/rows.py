"""The event log's statements, and what they carry to and from the tables; every column is named."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from metrics_service.eventlog.producers import Producer, ProducerKey, Row
from metrics_service.state.record import LogRecord

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
)

LEAD: Final = """
UPDATE event_log_head SET writer_epoch = writer_epoch + 1
RETURNING writer_epoch, next_position, received_at
"""

PRODUCERS: Final = """
SELECT lane, id, epoch, next_seq, last_hash, instance, service, backfill, open FROM producer
"""

ADVANCE: Final = """
UPDATE event_log_head
SET next_position = next_position + $1, received_at = greatest(received_at, $2)
WHERE writer_epoch = $3
RETURNING next_position - $1 AS first, received_at
"""

MOVE_PRODUCERS: Final = """
UPDATE producer AS p
SET epoch = new.epoch, next_seq = new.next_seq, last_hash = new.last_hash,
    instance = new.instance, service = new.service, backfill = new.backfill, open = new.open,
    updated_at = $1
FROM unnest(
    $2::integer[], $3::text[], $4::bigint[], $5::bigint[], $6::bytea[], $7::text[], $8::text[],
    $9::boolean[], $10::boolean[], $11::bigint[], $12::bigint[]
) AS new (lane, id, epoch, next_seq, last_hash, instance, service, backfill, open,
          old_epoch, old_next_seq)
WHERE p.lane = new.lane AND p.id = new.id
    AND p.epoch = new.old_epoch AND p.next_seq = new.old_next_seq
"""

FORGET_PRODUCERS: Final = """
DELETE FROM producer WHERE lane = 2 AND NOT open AND updated_at < $1
"""

READ: Final = """
SELECT position, received_at, kind, lane, producer_id, epoch, seq, instance, service, backfill,
    event_count, payload
FROM (
    SELECT *, sum(length(payload)) OVER (ORDER BY position) AS bytes
    FROM (SELECT * FROM event_log WHERE position > $1 ORDER BY position LIMIT $2) AS page
) AS sized
WHERE bytes - length(payload) < $3
ORDER BY position
"""


def moved_columns(
    moved: list[tuple[ProducerKey, Producer, Producer]], stamp: datetime
) -> tuple[Any, ...]:
    rows = [(*key, *_fields(new), old.epoch, old.next_seq) for key, new, old in moved]
    return (stamp, *map(list, zip(*rows, strict=True)))


def producer_row(key: ProducerKey, producer: Producer, stamp: datetime) -> tuple[Any, ...]:
    return (*key, *_fields(producer), stamp)


def _fields(producer: Producer) -> tuple[Any, ...]:
    return (
        producer.epoch,
        producer.next_seq,
        producer.last_hash,
        producer.instance,
        producer.service,
        producer.backfill,
        producer.open,
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
    )


def producer_of(row: Mapping[str, Any]) -> tuple[ProducerKey, Producer]:
    """A row of PRODUCERS."""
    key = ProducerKey(row["lane"], row["id"])
    return key, Producer(
        row["epoch"],
        row["next_seq"],
        row["last_hash"],
        row["instance"],
        row["service"],
        row["backfill"],
        row["open"],
    )


def record_of_stored(row: Mapping[str, Any]) -> LogRecord:
    """A row of READ, as the fold takes it."""
    return LogRecord(
        position=row["position"],
        received_at_us=(row["received_at"] - EPOCH) // _MICROSECOND,
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
    )


def record_of(row: Row, position: int, received_at: datetime) -> LogRecord:
    """A row that was just written, the same as reading it would give."""
    return LogRecord(
        position=position,
        received_at_us=(received_at - EPOCH) // _MICROSECOND,
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
    )
