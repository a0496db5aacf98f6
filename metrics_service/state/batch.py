"""Reads a batch of the log whole or not at all, so that one that cannot be applied changes nothing
but the counters of what was quarantined.
"""

from __future__ import annotations

from typing import NamedTuple

from google.protobuf.message import DecodeError

from metrics_service.state.queries.columns import Columns, InconsistentColumnsError, read_columns
from metrics_service.state.record import MAX_TIME_US, MIN_TIME_US, LogRecord
from protos.tracking.v1 import event_pb2

FACTS = frozenset({"booking", "payment"})
_TIMINGS = "query_timings"


class UnusableBatchError(ValueError):
    """A batch cannot be applied; `events` is how many it holds, as far as can be known."""

    def __init__(self, reason: str, events: int) -> None:
        super().__init__(reason)
        self.events = events


class Item(NamedTuple):
    """An event, the name of its body ("" for one of a newer schema), and its query timings."""

    event: event_pb2.Event
    body: str
    columns: Columns | None


def read_batch(record: LogRecord) -> list[Item]:
    """The events of a batch in their order. UnusableBatchError for one that does not parse, whose
    columns contradict each other, or whose times, where they are taken as given, do not exist.
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
    """The newest time of a batch whose times are taken as given; None for an empty one."""
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
