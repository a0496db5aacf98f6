"""Converts protobuf messages to plain JSON values: numbers stay numbers, an absent field is null,
times are RFC 3339, and durations are seconds with the unit in the name.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp

if TYPE_CHECKING:
    from google._upb import _message
    from google.protobuf import descriptor

    FieldDescriptor: TypeAlias = descriptor.FieldDescriptor | _message.FieldDescriptor

Json: TypeAlias = "bool | int | float | str | list[Json] | dict[str, Json] | None"


def to_json(message: Message) -> dict[str, Json]:
    """Return every field of a message by its proto name, in the order of the .proto file.

    64-bit integers are numbers, unlike in protobuf's own JSON form. Duration fields get the ending
    `_s`. An enum is its name.
    """
    out: dict[str, Json] = {}
    for field in message.DESCRIPTOR.fields:
        name = f"{field.name}_s" if _is(field, Duration) else field.name
        out[name] = _field(message, field)
    return out


def _field(message: Message, field: FieldDescriptor) -> Json:
    if field.has_presence and not message.HasField(field.name):
        return None
    value = getattr(message, field.name)
    if _is_map(field):
        return dict(sorted(value.items()))
    if field.is_repeated:
        return [_value(item, field) for item in value]
    return _value(value, field)


def _value(value: object, field: FieldDescriptor) -> Json:
    if isinstance(value, Timestamp):
        return value.ToJsonString()
    if isinstance(value, Duration):
        return value.ToMicroseconds() / 1_000_000
    if isinstance(value, Message):
        return to_json(value)
    if field.enum_type is not None and isinstance(value, int):
        return field.enum_type.values_by_number[value].name
    if isinstance(value, bool | int | float | str):
        return value
    raise TypeError(f"{field.full_name} has no JSON form")


def _is(field: FieldDescriptor, kind: type[Message]) -> bool:
    return field.message_type is not None and (
        field.message_type.full_name == kind.DESCRIPTOR.full_name
    )


def _is_map(field: FieldDescriptor) -> bool:
    return field.message_type is not None and field.message_type.GetOptions().map_entry
