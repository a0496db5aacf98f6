"""A record of the log before it is written."""

from __future__ import annotations

from dataclasses import dataclass

from metrics_service.eventlog.producer import ProducerKey
from metrics_service.state.record import Kind


@dataclass(frozen=True, slots=True)
class Row:
    """A record to write, without its position and time."""

    kind: Kind
    key: ProducerKey
    epoch: int
    seq: int
    instance: str
    service: str
    backfill: bool
    count: int
    payload: bytes
    repeats: tuple[int, ...] = ()


def tick_row(*, backfill: bool) -> Row:
    """Return a tick; one of a log of history alone does not advance the time of the state."""
    return Row("tick", ProducerKey(0, ""), 0, 0, "", "", backfill, 0, b"")
