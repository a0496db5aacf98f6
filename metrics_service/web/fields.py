"""Reads a request message from the parameters of a query: each is a field by its proto name, with
dots for one of an inner message, and is repeated for a list.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final, TypeVar

from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message

from servicekit.errors import Violation, invalid

if TYPE_CHECKING:
    from metrics_service.web.encode import FieldDescriptor

MAX_PARAMETERS: Final = 64
MAX_NAME_CHARS: Final = 100
"""Of a parameter, as a refusal quotes it."""

_UNITS_NS: Final = {
    "": 1_000_000_000,
    "ms": 1_000_000,
    "s": 1_000_000_000,
    "m": 60_000_000_000,
    "h": 3_600_000_000_000,
    "d": 86_400_000_000_000,
}
_DURATION: Final = re.compile(r"([0-9]{1,12}(?:\.[0-9]{1,9})?)(|ms|s|m|h|d)", re.ASCII)
_INTEGER: Final = re.compile(r"-?[0-9]{1,19}", re.ASCII)
_BOOLEANS: Final = {"true": True, "false": False}

M = TypeVar("M", bound=Message)


class _BadValueError(ValueError):
    """The text says what a value must be."""


def read(kind: type[M], parameters: Iterable[tuple[str, str]]) -> M:
    """Return the message; a duration is a number with ms, s, m, h or d, or of seconds, and an enum
    its name. Raises ApiError that names every bad parameter.
    """
    message = kind()
    bad: list[Violation] = []
    seen: set[str] = set()
    for count, (name, text) in enumerate(parameters, start=1):
        if count > MAX_PARAMETERS:
            bad.append(Violation("", f"must have at most {MAX_PARAMETERS} parameters"))
            break
        try:
            _put(message, name, text, again=name in seen)
        except _BadValueError as error:
            bad.append(Violation(name[:MAX_NAME_CHARS], str(error)))
        seen.add(name)
    if bad:
        raise invalid(bad)
    return message


def _put(message: Message, path: str, text: str, *, again: bool) -> None:
    """Set a field, or append to it."""
    *outer, last = path.split(".")
    for name in outer:
        field = _field(message, name)
        if field.is_repeated or field.message_type is None or _is_duration(field):
            raise _BadValueError("is no field of this request")
        message = getattr(message, name)
    field = _field(message, last)
    if field.is_repeated and field.message_type is None:
        getattr(message, last).append(_value(field, text))
        return
    if again:
        raise _BadValueError("must be given once")
    choice = field.containing_oneof
    chosen = choice and message.WhichOneof(choice.name)
    if chosen:
        raise _BadValueError(f"must not be given with {chosen}")
    if _is_duration(field):
        getattr(message, last).CopyFrom(_duration(text))
    elif field.message_type is not None:
        raise _BadValueError(f"has fields of its own: {', '.join(_names(field.message_type))}")
    else:
        setattr(message, last, _value(field, text))


def _field(message: Message, name: str) -> FieldDescriptor:
    field = message.DESCRIPTOR.fields_by_name.get(name)
    if field is None:
        names = ", ".join(_names(message.DESCRIPTOR)) or "none"
        raise _BadValueError(f"is no field of this request; fields are {names}")
    return field


def _names(kind: Any) -> list[str]:
    return [field.name for field in kind.fields]


def _value(field: FieldDescriptor, text: str) -> bool | int | str:
    if field.type == field.TYPE_STRING:
        return text
    if field.type == field.TYPE_BOOL:
        if text not in _BOOLEANS:
            raise _BadValueError("must be true or false")
        return _BOOLEANS[text]
    if field.enum_type is not None:
        value = field.enum_type.values_by_name.get(text)
        if value is None:
            names = ", ".join(each.name for each in field.enum_type.values if each.number)
            raise _BadValueError(f"must be one of {names}")
        number: int = value.number
        return number
    bits = {field.TYPE_INT32: 31, field.TYPE_INT64: 63}.get(field.type)
    if bits is None:
        raise _BadValueError("cannot be given in a query")
    if not _INTEGER.fullmatch(text) or not -(1 << bits) <= int(text) < 1 << bits:
        raise _BadValueError(f"must be a whole number of {bits + 1} bits")
    return int(text)


def _is_duration(field: FieldDescriptor) -> bool:
    kind = field.message_type
    return kind is not None and kind.full_name == Duration.DESCRIPTOR.full_name


def _duration(text: str) -> Duration:
    found = _DURATION.fullmatch(text)
    nanoseconds = Decimal(found[1]) * _UNITS_NS[found[2]] if found else Decimal("NaN")
    if not found or nanoseconds % 1:
        raise _BadValueError("must be a number with ms, s, m, h or d, such as 15m, or of seconds")
    seconds, rest = divmod(int(nanoseconds), 1_000_000_000)
    return Duration(seconds=seconds, nanos=rest)
