"""A record of the log before it is written."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

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


TICK_ROW: Final = Row("tick", ProducerKey(0, ""), 0, 0, "", "", False, 0, b"")
