"""The largest content that each field of a request can be given, from its descriptor."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

TEXT_BYTES: Final = 200_000


def fills(message: Any, path: str = "") -> Iterator[tuple[str, str, Any]]:
    """Every text and list of a message and of those in it, with a function that fills it in a
    request and returns whether the request has its owner.
    """
    for field in message.fields:
        assert not (field.message_type and field.message_type.GetOptions().map_entry), field
        name = f"{path}{field.name}"
        if field.is_repeated:
            yield name, "many", _in_owner(path, _many(field))
        if field.type in (FieldDescriptor.TYPE_STRING, FieldDescriptor.TYPE_BYTES):
            if field.is_repeated:
                yield f"{name}[0]", "long", _in_owner(path, _one_long(field))
            else:
                yield name, "long", _in_owner(path, _long(field, "x"))
                yield name, "long and wide", _in_owner(path, _long(field, "\U0001f3e8"))
        elif field.message_type and not _is_scalar(field.message_type):
            inner = f"{name}[0]." if field.is_repeated else f"{name}."
            yield from fills(field.message_type, inner)


def _is_scalar(message: Any) -> bool:
    return message.full_name in ("google.protobuf.Timestamp", "google.protobuf.Duration")


def _in_owner(path: str, fill: Any) -> Any:
    """Apply `fill` to the message at `path`; return whether the request has it."""

    def filled(request: Message) -> bool:
        owner: Any = request
        for part in path.split(".")[:-1]:
            name, _, index = part.partition("[")
            if not index and not owner.HasField(name):
                return False
            owner = getattr(owner, name)
            if index and not owner:
                return False
            owner = owner[0] if index else owner
        fill(owner)
        return True

    return filled


def _many(field: FieldDescriptor) -> Any:
    """Fill a repeated field with the smallest elements; a packed number takes one byte."""

    def fill(owner: Any) -> None:
        values = getattr(owner, field.name)
        if field.message_type:
            del values[:]
            empty = GetMessageClass(field.message_type)()
            values.MergeFrom([empty] * (TEXT_BYTES // 2))
        elif field.type == FieldDescriptor.TYPE_STRING:
            values[:] = [""] * (TEXT_BYTES // 2)
        else:
            values[:] = [1] * TEXT_BYTES

    return fill


def _one_long(field: FieldDescriptor) -> Any:
    return lambda owner: getattr(owner, field.name).__setitem__(slice(None), ["x" * TEXT_BYTES])


def _long(field: FieldDescriptor, character: str) -> Any:
    text = character * (TEXT_BYTES // len(character.encode()))
    return lambda owner: setattr(owner, field.name, text)
