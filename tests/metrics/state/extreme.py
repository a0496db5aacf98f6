"""Events with extreme values, built from the descriptors of tracking.v1: a new field takes part
without a change here.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

from metrics_service.measure.sums import MAX_SUM
from metrics_service.state.queries.columns import MAX_DURATION_US
from metrics_service.state.record import MAX_TIME_US, MIN_TIME_US
from protos.tracking.v1 import event_pb2
from tests.metrics.state.log import MINUTE, NOW

ROWS = 3
"""Entries of every repeated field: columns agree in length."""

_BITS = {
    FieldDescriptor.TYPE_INT32: (-(1 << 31), (1 << 31) - 1),
    FieldDescriptor.TYPE_UINT32: (0, (1 << 32) - 1),
    FieldDescriptor.TYPE_INT64: (-(1 << 63), (1 << 63) - 1),
    FieldDescriptor.TYPE_SINT64: (-(1 << 63), (1 << 63) - 1),
    FieldDescriptor.TYPE_UINT64: (0, (1 << 64) - 1),
    FieldDescriptor.TYPE_FIXED64: (0, (1 << 64) - 1),
}
_WHOLE = (-1, 0, 1, MAX_DURATION_US, MAX_DURATION_US + 1, MAX_SUM, MAX_SUM + 1, 1 << 62)
_TIMES = (MIN_TIME_US - 1, MIN_TIME_US, NOW + 40 * MINUTE, MAX_TIME_US, MAX_TIME_US + 1)
# Positions in lists, and the identity of a booking, which would count it once.
_ZERO = frozenset({"query", "sqlstate", "index", "start_delta_us"})
_EMPTY = frozenset({"booking_id", "event_id"})
# Those of query timings, which agree in length, and what they point to.
_COLUMNS = frozenset(
    field.name
    for field in event_pb2.QueryTimings.DESCRIPTOR.fields
    if field.is_repeated and not field.message_type
)


def bodies() -> list[str]:
    """The names of all bodies of an event."""
    return [field.name for field in event_pb2.Event.DESCRIPTOR.oneofs_by_name["body"].fields]


def variants(body: str) -> Iterator[event_pb2.Event]:
    """Yield one plain event for each value of the body's first enum."""
    event = event_pb2.Event()
    _fill(event, body)
    kinds = [field for field in getattr(event, body).DESCRIPTOR.fields if field.enum_type]
    for number in [each.number for each in kinds[0].enum_type.values] if kinds else [None]:
        if number is not None:
            _set(getattr(event, body), kinds[0], number)
        copy = event_pb2.Event()
        copy.CopyFrom(event)
        yield copy


def fields(body: str) -> list[tuple[str, ...]]:
    """The paths of all fields with a number, of an event with this body."""
    descriptor = event_pb2.Event.DESCRIPTOR
    inner: Any = descriptor.fields_by_name[body].message_type
    return [("time_us",), *((body, *path) for path in _paths(inner))]


def with_extremes(event: event_pb2.Event, path: tuple[str, ...]) -> Iterator[event_pb2.Event]:
    """Yield copies of an event whose field at `path` has each extreme value that it can hold."""
    for value in values(_field(event_pb2.Event.DESCRIPTOR, path)):
        copy = event_pb2.Event()
        copy.CopyFrom(event)
        _put(copy, path, value)
        yield copy


def texts(body: str) -> list[tuple[str, ...]]:
    """The paths of all fields with text or bytes, of an event with this body."""
    inner: Any = event_pb2.Event.DESCRIPTOR.fields_by_name[body].message_type
    return [("session_id",), ("event_id",), *((body, *path) for path in _paths(inner, texts=True))]


def lists(body: str) -> list[tuple[str, ...]]:
    """The paths of all repeated fields of an event with this body."""
    inner: Any = event_pb2.Event.DESCRIPTOR.fields_by_name[body].message_type
    return [(body, *path) for path in _lists(inner)]


def with_text(event: event_pb2.Event, path: tuple[str, ...], text: str) -> event_pb2.Event:
    """Return a copy of an event whose field at `path` holds this text."""
    copy = event_pb2.Event()
    copy.CopyFrom(event)
    is_bytes = _field(event_pb2.Event.DESCRIPTOR, path).type == FieldDescriptor.TYPE_BYTES
    _put(copy, path, text.encode() if is_bytes else text)
    return copy


def with_length(event: event_pb2.Event, path: tuple[str, ...], length: int) -> event_pb2.Event:
    """Return a copy of an event whose repeated field at `path` has so many entries, as
    have all columns beside it.
    """
    copy = event_pb2.Event()
    copy.CopyFrom(event)
    owner: Any = copy
    for name in path[:-1]:
        owner = getattr(owner, name)
    for name in _COLUMNS if path[-1] in _COLUMNS else (path[-1],):
        entries = getattr(owner, name)
        first = entries[0]
        del entries[:]
        entries.extend([first] * length)
    return copy


def values(field: Any) -> list[int]:
    """Return the extreme values that a field can hold."""
    if field.enum_type:
        return [*(each.number for each in field.enum_type.values), -1, 99, (1 << 31) - 1]
    if field.type == FieldDescriptor.TYPE_BOOL:
        return [0, 1]
    low, high = _BITS[field.type]
    return [value for value in (low, *_WHOLE, *_TIMES, high) if low <= value <= high]


def _paths(descriptor: Any, *, texts: bool = False) -> Iterator[tuple[str, ...]]:
    for field in descriptor.fields:
        if field.message_type:
            yield from ((field.name, *path) for path in _paths(field.message_type, texts=texts))
        elif (field.type in (FieldDescriptor.TYPE_STRING, FieldDescriptor.TYPE_BYTES)) is texts:
            yield (field.name,)


def _lists(descriptor: Any) -> Iterator[tuple[str, ...]]:
    for field in descriptor.fields:
        if field.is_repeated:
            yield (field.name,)
        elif field.message_type:
            yield from ((field.name, *path) for path in _lists(field.message_type))


def _field(descriptor: Any, path: tuple[str, ...]) -> Any:
    field = descriptor.fields_by_name[path[0]]
    return field if len(path) == 1 else _field(field.message_type, path[1:])


def _fill(message: Message, *only: str) -> None:
    for field in message.DESCRIPTOR.fields:
        if field.containing_oneof and field.name not in only:
            continue
        if field.message_type and field.is_repeated:
            for _ in range(ROWS):
                _fill(getattr(message, field.name).add())
        elif field.message_type:
            getattr(message, field.name).SetInParent()
            _fill(getattr(message, field.name))
        elif field.name not in _EMPTY:
            _set(message, field, _plain(field))


def _plain(field: Any) -> Any:
    if field.type == FieldDescriptor.TYPE_STRING:
        return "EUR"
    if field.type == FieldDescriptor.TYPE_BYTES:
        return bytes(16)
    if field.name in _ZERO or field.type == FieldDescriptor.TYPE_BOOL:
        return 0
    return NOW if field.name.endswith("time_us") else 1


def _set(message: Message, field: Any, value: Any) -> None:
    if field.is_repeated:
        getattr(message, field.name)[:] = [value] * ROWS
    else:
        setattr(message, field.name, value)


def _put(message: Message, path: tuple[str, ...], value: Any) -> None:
    field = message.DESCRIPTOR.fields_by_name[path[0]]
    if len(path) == 1:
        _set(message, field, value)
        return
    inner = getattr(message, field.name)
    for each in inner if field.is_repeated else (inner,):
        _put(each, path[1:], value)
