"""Converts protobuf messages to plain JSON values: numbers stay numbers, an absent field is null,
times are RFC 3339, and durations are seconds with the unit in the name.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeAlias

from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp

from servicekit.background import TimeSlice
from servicekit.http.answers import Json as Json

if TYPE_CHECKING:
    from google._upb import _message
    from google.protobuf import descriptor

    FieldDescriptor: TypeAlias = descriptor.FieldDescriptor | _message.FieldDescriptor


_ENCODER: Final = json.JSONEncoder(separators=(",", ":"), allow_nan=False)
_DURATION: Final = Duration.DESCRIPTOR.full_name
_TIMESTAMP: Final = Timestamp.DESCRIPTOR.full_name


class _Field(NamedTuple):
    """How a field is converted: `convert` is None for one that has messages of its own."""

    name: str
    key: str
    has_presence: bool
    is_repeated: bool
    is_map: bool
    convert: Callable[[Any], Json] | None


class _Kind(NamedTuple):
    """How a message is converted; a flat one has no messages of its own."""

    fields: tuple[_Field, ...]
    is_flat: bool


_kinds: Final[dict[str, _Kind]] = {}
"""By the full name of the message; there are as many as the contract has messages."""


def to_json(message: Message) -> dict[str, Json]:
    """Return every field of a message by its proto name, in the order of the .proto file.

    64-bit integers are numbers, unlike in protobuf's own JSON form. Duration fields get the ending
    `_s`. An enum is its name.
    """
    return {field.key: _json(field, message) for field in _kind_of(message).fields}


def dumps(value: Json) -> str:
    """Return JSON text in ASCII, without spaces and line ends. ValueError for NaN and infinity."""
    return _ENCODER.encode(value)


async def encode(message: Message) -> bytes:
    """Return the text of `to_json`; of a large message others run meanwhile."""
    parts: list[str] = []
    await TimeSlice().run(_write(message, parts))
    return "".join(parts).encode()


def _json(field: _Field, message: Message) -> Json:
    if field.has_presence and not message.HasField(field.name):
        return None
    value = getattr(message, field.name)
    if field.is_map:
        return dict(sorted(value.items()))
    convert = field.convert or to_json
    return [convert(each) for each in value] if field.is_repeated else convert(value)


def _write(message: Message, parts: list[str]) -> Iterator[None]:
    """Append the text of a message; a step is at most a message without messages of its own."""
    kind = _kind_of(message)
    if kind.is_flat:
        parts.append(dumps(to_json(message)))
        return
    mark = "{"
    for field in kind.fields:
        parts.append(f'{mark}"{field.key}":')
        mark = ","
        if field.is_map or field.convert is not None:
            parts.append(dumps(_json(field, message)))
        elif field.is_repeated:
            between = "["
            for each in getattr(message, field.name):
                parts.append(between)
                yield from _write(each, parts)
                yield
                between = ","
            parts.append("[]" if between == "[" else "]")
        elif message.HasField(field.name):
            yield from _write(getattr(message, field.name), parts)
        else:
            parts.append("null")
    parts.append("}")


def _kind_of(message: Message) -> _Kind:
    descriptor = message.DESCRIPTOR
    known = _kinds.get(descriptor.full_name)
    if known is None:
        fields = tuple(_field(each) for each in descriptor.fields)
        is_flat = all(each.convert or each.is_map for each in fields)
        known = _kinds[descriptor.full_name] = _Kind(fields, is_flat)
    return known


def _field(field: FieldDescriptor) -> _Field:
    inner = field.message_type
    is_map = inner is not None and inner.GetOptions().map_entry
    convert: Callable[[Any], Json] | None = None
    if inner is None:
        convert = _plain(field)
    elif inner.full_name == _TIMESTAMP:
        convert = _time
    elif inner.full_name == _DURATION:
        convert = _seconds
    key = f"{field.name}_s" if convert is _seconds else field.name
    return _Field(field.name, key, field.has_presence, field.is_repeated, is_map, convert)


def _plain(field: FieldDescriptor) -> Callable[[Any], Json]:
    if field.enum_type is not None:
        names = {each.number: each.name for each in field.enum_type.values}
        # One of a later version is its number.
        return lambda value: names.get(value, value)
    if field.type == field.TYPE_BYTES:
        raise TypeError(f"{field.full_name} has no JSON form")
    return _same


def _same(value: Any) -> Json:
    plain: Json = value
    return plain


def _time(value: Timestamp) -> str:
    return value.ToJsonString()


def _seconds(value: Duration) -> float:
    return value.ToMicroseconds() / 1_000_000
