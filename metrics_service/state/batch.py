"""Reads a batch of the log as a whole: a batch that cannot be applied changes only the counters of
quarantined batches.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from google.protobuf.message import DecodeError

from metrics_service.state.queries.columns import Columns, InconsistentColumnsError, read_columns
from metrics_service.state.ranges import OutOfRangeError, check_event, check_trusted_times
from metrics_service.state.record import MAX_EVENTS, MAX_ITEMS, LogRecord
from protos.tracking.v1 import event_pb2
from protos.tracking.v1.tracking_pb2 import LANE_FACTS

FACTS: Final = frozenset({"booking", "payment"})
OF_FACTS_LANE: Final = FACTS | {"facts_gap", "facts_refill"}
EVENT_ID_BYTES: Final = 16
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

    Raises UnusableBatchError for a batch that does not parse, that is too large, whose columns
    contradict each other, in which a value is out of range, or with a fact that is on another lane
    than that of facts.
    """
    try:
        events = event_pb2.EventList.FromString(record.payload).events
    except DecodeError:
        # The number is the producer's word.
        count = min(max(record.count, 0), len(record.payload))
        raise UnusableBatchError("not a list of events", count) from None
    if len(events) > MAX_EVENTS:
        raise UnusableBatchError("too many events", len(events))
    items = []
    counted = 0
    in_facts = record.lane == LANE_FACTS
    for event in events:
        body = event.WhichOneof("body") or ""
        columns = None
        try:
            if not in_facts and body in OF_FACTS_LANE:
                raise OutOfRangeError(f"{body} belongs on the lane of facts")
            counted += _counted(event, body)
            if counted > MAX_ITEMS:
                raise OutOfRangeError("too many timings, RPCs or definitions")
            if body == _TIMINGS:
                columns = read_columns(event.query_timings)
            check_event(event, body)
            if record.backfill:
                check_trusted_times(event, columns)
        except (InconsistentColumnsError, OutOfRangeError) as reason:
            raise UnusableBatchError(str(reason), len(events)) from None
        items.append(Item(event, body, columns))
    return items


def fact_ids(payload: bytes) -> list[tuple[int, bytes, int]]:
    """Return (index, id, time_us) of each fact of a batch; none for one that cannot be applied."""
    try:
        items = read_batch(LogRecord(0, 0, "batch", lane=LANE_FACTS, payload=payload))
    except UnusableBatchError:
        return []
    return [
        (index, event.event_id, event.time_us)
        for index, (event, body, _) in enumerate(items)
        if body in FACTS and len(event.event_id) == EVENT_ID_BYTES
    ]


def _counted(event: event_pb2.Event, body: str) -> int:
    """Return how many things an event counts or defines, without a look at them."""
    if body == _TIMINGS:
        timings = event.query_timings
        return max(len(timings.query), len(timings.traces), len(timings.captures))
    if body == "rpc_tally":
        return len(event.rpc_tally.entries)
    if body == "query_definitions":
        return len(event.query_definitions.definitions)
    return 0


def newest_us(items: list[Item]) -> int | None:
    """Return the newest time of a batch whose times are trusted; None for an empty batch."""
    times = [
        max(item.columns.start_us, default=item.event.time_us)
        if item.columns is not None
        else item.event.time_us
        for item in items
    ]
    return max(times, default=None)
