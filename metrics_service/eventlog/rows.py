"""Converts between the tables of the event log and the types of the log and the fold: a record just
written equals the record that is read back.
"""

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
    )


def stored_record(row: Mapping[str, Any]) -> LogRecord:
    """Convert a row of log.read."""
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


def written_record(row: Row, position: int, received_at: datetime) -> LogRecord:
    """Convert a row that was just written to the record that reading it gives."""
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
