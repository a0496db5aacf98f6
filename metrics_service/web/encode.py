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


_fields: Final[dict[str, tuple[_Field, ...]]] = {}
"""By the full name of the message; there are as many as the contract has messages."""


def to_json(message: Message) -> dict[str, Json]:
    """Return every field of a message by its proto name, in the order of the .proto file.

    64-bit integers are numbers, unlike in protobuf's own JSON form. Duration fields get the ending
    `_s`. An enum is its name.
    """
    out: dict[str, Json] = {}
    for _ in _fill(message, out):
        pass
    return out


def dumps(value: Json) -> str:
    """Return JSON text in ASCII, without spaces and line ends. ValueError for NaN and infinity."""
    return json.dumps(value, separators=(",", ":"), allow_nan=False)


async def encode(message: Message) -> bytes:
    """Return the text of `to_json`; of a large message others run meanwhile."""
    turn = TimeSlice()
    out: dict[str, Json] = {}
    await turn.run(_fill(message, out))
    parts: list[str] = []
    await turn.run(_write(out, parts))
    return "".join(parts).encode()


def _fill(message: Message, out: dict[str, Json]) -> Iterator[None]:
    """Put the fields of a message in a dictionary; a step is at most one message of a list."""
    for name, key, has_presence, is_repeated, is_map, convert in _fields_of(message):
        if has_presence and not message.HasField(name):
            out[key] = None
            continue
        value = getattr(message, name)
        if is_map:
            out[key] = dict(sorted(value.items()))
        elif convert is not None:
            out[key] = [convert(each) for each in value] if is_repeated else convert(value)
        elif is_repeated:
            items: list[Json] = []
            out[key] = items
            for each in value:
                item: dict[str, Json] = {}
                items.append(item)
                yield from _fill(each, item)
                yield
        else:
            inner: dict[str, Json] = {}
            out[key] = inner
            yield from _fill(value, inner)


def _write(value: Json, parts: list[str]) -> Iterator[None]:
    """Append the text of a value; a step is at most one value that holds no list of its own."""
    if isinstance(value, list) and value:
        mark = "["
        for item in value:
            parts.append(mark)
            yield from _write(item, parts)
            yield
            mark = ","
        parts.append("]")
    elif isinstance(value, dict) and any(isinstance(each, list | dict) for each in value.values()):
        mark = "{"
        for key, item in value.items():
            parts.append(f"{mark}{dumps(key)}:")
            yield from _write(item, parts)
            mark = ","
        parts.append("}")
    else:
        parts.append(dumps(value))


def _fields_of(message: Message) -> tuple[_Field, ...]:
    kind = message.DESCRIPTOR
    known = _fields.get(kind.full_name)
    if known is None:
        known = _fields[kind.full_name] = tuple(_field(each) for each in kind.fields)
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
