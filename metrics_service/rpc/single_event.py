"""Checks the one event of a Track request, and makes of it what is stored."""

from __future__ import annotations

import hashlib
from typing import Final

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

from metrics_service.eventlog.single_events import SingleEvent
from metrics_service.ingest.frames import MAX_ID_CHARS
from metrics_service.state.batch import EVENT_ID_BYTES, UnusableBatchError, read_batch
from metrics_service.state.record import LogRecord
from metrics_service.state.truncate import MAX_PLAN_BYTES, MAX_TEXT_BYTES
from protos.tracking.v1 import event_pb2, tracking_pb2
from servicekit.errors import Violation, invalid

MAX_EVENT_BYTES: Final = 16 * 1024
MAX_NAME_BYTES: Final = 256

_ALLOWED: Final = frozenset(
    {
        "package_viewed",
        "flow_step",
        "rpc_refused",
        "rpc_tally",
        "query_timings",
        "query_definitions",
        "query_plan",
        "telemetry_loss",
    }
)
_MAX_BYTES: Final = {
    event_pb2.QueryDefinition.DESCRIPTOR.fields_by_name["text"].full_name: MAX_TEXT_BYTES,
    event_pb2.QueryPlan.DESCRIPTOR.fields_by_name["plan"].full_name: MAX_PLAN_BYTES,
}


def single_event(request: tracking_pb2.TrackRequest) -> SingleEvent:
    """Return what is stored of a request. Its id is one of its service and of this RPC alone, so
    that it is never taken for that of a fact. Raises ApiError.
    """
    instance = request.instance or request.service
    bad = [
        Violation(field, f"must have 1 to {MAX_ID_CHARS} characters, none of them NUL")
        for field, text in (("service", request.service), ("instance", instance))
        if not 0 < len(text) <= MAX_ID_CHARS or "\0" in text
    ]
    bad += _wrong(request.event)
    if bad:
        raise invalid(bad)
    named = request.service.encode() + b"\0" + request.event.event_id
    event_id = hashlib.sha256(named).digest()[:EVENT_ID_BYTES]
    stored = event_pb2.EventList(events=[request.event])
    stored.events[0].event_id = event_id
    return SingleEvent(event_id, request.service, instance, stored.SerializeToString())


def _wrong(event: event_pb2.Event) -> list[Violation]:
    if event.ByteSize() > MAX_EVENT_BYTES:
        return [Violation("event", f"must have at most {MAX_EVENT_BYTES} bytes")]
    bad: list[Violation] = []
    if len(event.event_id) != EVENT_ID_BYTES:
        bad.append(Violation("event.event_id", f"must have {EVENT_ID_BYTES} bytes"))
    body = event.WhichOneof("body")
    if body not in _ALLOWED:
        names = ", ".join(sorted(_ALLOWED))
        bad.append(Violation("event.body", f"must be one of {names}, not {body or 'none'}"))
        return bad
    bad += _long_texts(event, "event")
    payload = event_pb2.EventList(events=[event]).SerializeToString()
    try:
        read_batch(LogRecord(0, 0, "batch", payload=payload))
    except UnusableBatchError as reason:
        bad.append(Violation(f"event.{body}", str(reason)))
    return bad


def _long_texts(message: Message, path: str) -> list[Violation]:
    """Return the first text of each field that has more bytes than are kept."""
    bad: list[Violation] = []
    for field, found in message.ListFields():
        values = found if field.is_repeated else [found]
        where = f"{path}.{field.name}"
        if field.type == FieldDescriptor.TYPE_STRING:
            limit = _MAX_BYTES.get(field.full_name, MAX_NAME_BYTES)
            if any(len(value.encode()) > limit for value in values):
                bad.append(Violation(where, f"must have at most {limit} bytes"))
        elif field.type == FieldDescriptor.TYPE_MESSAGE:
            bad += next(filter(None, (_long_texts(value, where) for value in values)), [])
    return bad
