"""Messages whose every field has a hostile value, made from the descriptors."""

from __future__ import annotations

import math
from typing import Any, Final

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

HOSTILE_TEXTS: Final = (
    "[/]",
    "[red]",
    "[/red][link=file:///etc/passwd]x",
    "[bold",
    "\\[",
    ":smile:",
    "\x1b]0;owned\x07",
    "\x1b[2J\x1b[H",
    "\x9b2J",
    "\x07\x08\x0b\x0c\x0e\x0f\x7f",
    "one\r\ntwo\nthree\ttab",
    "\u202egnp.exe\u202c\u2066x\u2069",
    "\u200b\ufeff\u2028\u2029\u00ad",
    "Z\u0351\u036b\u0343" * 50,
    "\U000e0001\ue000\U0010ffff",
    "数据库" * 40,
    "x" * 60_000,
    "a b " * 10_000,
    "",
)
HOSTILE_INTS: Final = (0, -1, 7, 99, 2**31 - 1, -(2**31))
HOSTILE_WIDE_INTS: Final = (0, -1, 2**63 - 1, -(2**63))
HOSTILE_FLOATS: Final = (0.0, -1.0, math.nan, math.inf, -math.inf, 1e308, 5e-324)
REPEATED: Final = 15

_INTS: Final = {
    FieldDescriptor.CPPTYPE_INT32: HOSTILE_INTS,
    FieldDescriptor.CPPTYPE_INT64: HOSTILE_WIDE_INTS,
    FieldDescriptor.CPPTYPE_UINT32: [value for value in HOSTILE_INTS if value >= 0],
    FieldDescriptor.CPPTYPE_UINT64: [value for value in HOSTILE_WIDE_INTS if value >= 0],
    FieldDescriptor.CPPTYPE_ENUM: [0, 1, 2, 3, 4, 99, 2**31 - 1],
    FieldDescriptor.CPPTYPE_DOUBLE: HOSTILE_FLOATS,
    FieldDescriptor.CPPTYPE_FLOAT: HOSTILE_FLOATS,
    FieldDescriptor.CPPTYPE_BOOL: [True, False],
}


def fill(message: Any, text: str, turn: int) -> int:
    """Set every field: texts to `text`, numbers to a hostile one by turn; returns the texts set."""
    texts = 0
    for field in message.DESCRIPTOR.fields:
        repeated = field.is_repeated
        if field.message_type and field.message_type.GetOptions().map_entry:
            getattr(message, field.name)[text] = _scalar(
                field.message_type.fields_by_name["value"], text, turn
            )
            texts += 1
        elif field.message_type:
            inner = getattr(message, field.name)
            for _ in range(REPEATED if repeated else 1):
                each = inner.add() if repeated else inner
                _set_in_parent(each)
                texts += fill(each, text, turn)
        else:
            value = _scalar(field, text, turn)
            texts += isinstance(value, str)
            if repeated:
                getattr(message, field.name).extend([value] * REPEATED)
            else:
                setattr(message, field.name, value)
    return texts


def _set_in_parent(message: Message) -> None:
    message.SetInParent()


def _scalar(field: FieldDescriptor, text: str, turn: int) -> Any:
    if field.cpp_type == FieldDescriptor.CPPTYPE_STRING:
        return text.encode() if field.type == FieldDescriptor.TYPE_BYTES else text
    values = _INTS[field.cpp_type]
    return values[(turn + field.number) % len(values)]
