"""The records of the log: the only input of the fold, in the order of their positions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

# The times that are believed: the years 2000 to 2199.
MIN_TIME_US: Final = 946_684_800 * 1_000_000
MAX_TIME_US: Final = 7_258_118_400 * 1_000_000 - 1

MAX_EVENTS: Final = 5_000
MAX_ITEMS: Final = 5_000
"""Of a batch: events, and timings, tallied RPCs and definitions in them. Producers send a tenth of
them; to count so many takes a quarter of a second.
"""

# tick: time passed without a batch; unclean_end: a producer ended without a Goodbye.
Kind = Literal["batch", "tick", "unclean_end"]


@dataclass(slots=True, frozen=True)
class LogRecord:
    """One record of the log; a tick has only the first three fields.

    `position` grows; `received_at_us` (UTC, set on append) never decreases. `lane` is the number of
    tracking.v1.Lane, `payload` a serialised tracking.v1.EventList, `count` the number of its events
    according to the producer. `backfill`: the times of its events are trusted. `repeats`: which of
    its events are facts that the log has already, by their index; they have no effect.
    """

    position: int
    received_at_us: int
    kind: Kind
    producer_id: str = ""
    epoch: int = 0
    seq: int = 0
    lane: int = 0
    instance: str = ""
    service: str = ""
    backfill: bool = False
    payload: bytes = b""
    count: int = 0
    repeats: tuple[int, ...] = ()
