"""Reads a batch of the log as a whole: a batch that cannot be applied changes only the counters of
quarantined batches.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from google.protobuf.message import DecodeError

from metrics_service.state.queries.columns import Columns, InconsistentColumnsError, read_columns
from metrics_service.state.record import MAX_TIME_US, MIN_TIME_US, LogRecord
from protos.tracking.v1 import event_pb2

FACTS: Final = frozenset({"booking", "payment"})
_TIMINGS: Final = "query_timings"


class UnusableBatchError(ValueError):
    """A batch cannot be applied; `events` is the number of its events, as far as it is known."""

    def __init__(self, reason: str, events: int) -> None:
        super().__init__(reason)
        self.events = events


class Item(NamedTuple):
    """An event, the name of its body ("" for one of a newer schema), and its query timings."""

    event: event_pb2.Event
    body: str
    columns: Columns | None


def read_batch(record: LogRecord) -> list[Item]:
    """Return the events of a batch in their order.

    Raises UnusableBatchError for a batch that does not parse, whose columns contradict each other,
    or in which a time that is trusted is outside of the years 1 to 9999.
    """
    try:
        events = event_pb2.EventList.FromString(record.payload).events
    except DecodeError:
        raise UnusableBatchError("not a list of events", record.count) from None
    items = []
    for event in events:
        body = event.WhichOneof("body") or ""
        columns = None
        if body == _TIMINGS:
            try:
                columns = read_columns(event.query_timings)
            except InconsistentColumnsError as reason:
                raise UnusableBatchError(str(reason), len(events)) from None
        if (record.backfill or body in FACTS) and not _exists(event, columns):
            raise UnusableBatchError("a time that does not exist", len(events))
        items.append(Item(event, body, columns))
    return items


def newest_us(items: list[Item]) -> int | None:
    """Return the newest time of a batch whose times are trusted; None for an empty batch."""
    times = [
        max(item.columns.start_us, default=item.event.time_us)
        if item.columns is not None
        else item.event.time_us
        for item in items
    ]
    return max(times, default=None)


def _exists(event: event_pb2.Event, columns: Columns | None) -> bool:
    times = columns.start_us if columns is not None and columns.start_us else [event.time_us]
    return min(times) >= MIN_TIME_US and max(times) <= MAX_TIME_US
