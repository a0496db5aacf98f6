"""Requests of every method: good ones with fields changed, and bytes made from the descriptor."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from random import Random
from typing import Any, Final

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from google.protobuf.timestamp_pb2 import Timestamp

from tests.attacks.fuzz.deep import deep
from tests.attacks.fuzz.values import Values
from tests.attacks.town import in_days
from tests.booking.rpc.large_requests import GOOD

MAX_DEPTH: Final = 4
LENGTHS: Final = (0, 1, 2, 3, 10, 11, 50, 51, 100, 101, 500, 501, 3660, 3661)
"""Of repeated fields: around the maxima of the contract."""

_TEMPLATES: Final = {request.DESCRIPTOR.full_name: request for request in GOOD}
_WIRE: Final = {
    FieldDescriptor.TYPE_DOUBLE: 1,
    FieldDescriptor.TYPE_FIXED64: 1,
    FieldDescriptor.TYPE_SFIXED64: 1,
    FieldDescriptor.TYPE_FLOAT: 5,
    FieldDescriptor.TYPE_FIXED32: 5,
    FieldDescriptor.TYPE_SFIXED32: 5,
    FieldDescriptor.TYPE_STRING: 2,
    FieldDescriptor.TYPE_BYTES: 2,
    FieldDescriptor.TYPE_MESSAGE: 2,
}
# What is compared with the stored figures.
_SELDOM_RIGHT: Final = ("quote", "expected_refund", "etag", "page_token")
# An id that a caller may choose for what is made.
_CHOSEN: Final = {
    "StartBookingRequest": "booking_id",
    "CreatePackageRequest": "package_id",
    "CreateVendorRequest": "vendor_id",
}
# Some of what Track takes.
_TRACKED: Final = ("package_viewed", "flow_step", "rpc_refused", "query_plan", "telemetry_loss")
BAD_UTF8: Final = (b"\xff", b"\xc0\x80", b"\xed\xa0\x80", b"ok\xf0\x28", b"\x80" * 256)


def request(descriptor: Any, values: Values) -> bytes:
    """Return one request of a type: mostly a good one with none to three fields changed."""
    random = values.random
    draw = random.random()
    if draw < 0.12:
        return wire(descriptor, values, MAX_DEPTH)
    message = good(descriptor, values)
    for _ in range(random.choice((0, 0, 1, 1, 1, 2, 3))):
        change(message, values)
    data = message.SerializeToString()
    return spoilt(data, random) if draw > 0.95 else data


def good(descriptor: Any, values: Values) -> Any:
    """Return a request with ids that exist, days to come, and amounts that are right."""
    if (made := deep(descriptor.full_name, values.random)) is not None:
        return made
    message: Any = GetMessageClass(descriptor)()
    template = _TEMPLATES.get(descriptor.full_name)
    if template is not None:
        message.CopyFrom(template)
    _make_good(message, values)
    names = descriptor.fields_by_name
    if values.random.random() < 0.9:
        for name in (*_SELDOM_RIGHT, _CHOSEN.get(descriptor.name, "etag")):
            if name in names:
                message.ClearField(name)
    if descriptor.name == "TrackRequest":
        message.service = "fuzz"
        message.event.event_id = values.random.randbytes(16)
        getattr(message.event, values.random.choice(_TRACKED)).SetInParent()
    if {"booking_id", "amount", "payment_id"} <= set(names):
        _pay(message, values)
    return message


def change(message: Any, values: Values) -> None:
    """Give one field of a message, or of a message in it, another value."""
    random = values.random
    owners = list(_owners(message))
    owner = random.choice(owners)
    if not owner.DESCRIPTOR.fields:
        return
    field = random.choice(owner.DESCRIPTOR.fields)
    if random.random() < 0.1:
        owner.ClearField(field.name)
    elif field.is_repeated:
        _change_list(owner, field, values)
    elif field.message_type:
        inner = getattr(owner, field.name)
        inner.SetInParent()
        change(inner, values)
    else:
        setattr(owner, field.name, values.of(field))


def wire(descriptor: Any, values: Values, depth: int) -> bytes:
    """Return bytes for a message type, which need not be a message of it."""
    random = values.random
    parts: list[bytes] = []
    for field in descriptor.fields:
        if random.random() < 0.4:
            parts += _wire_field(field, values, depth)
    if random.random() < 0.05:
        parts.append(_key(random.randrange(1, 1 << 29), 0) + varint(random.getrandbits(64)))
    return b"".join(parts)


def spoilt(data: bytes, random: Random) -> bytes:
    """Return data cut, changed in some bytes, or with bytes after it."""
    match random.randrange(4):
        case 0:
            return data[: random.randrange(len(data) + 1)]
        case 1:
            changed = bytearray(data or b"\0")
            for _ in range(random.randrange(1, 8)):
                changed[random.randrange(len(changed))] = random.randrange(256)
            return bytes(changed)
        case 2:
            return data + random.randbytes(random.randrange(1, 64))
        case _:
            return random.randbytes(random.randrange(200))


def varint(value: int) -> bytes:
    """Encode a number from 0 to 2**64 - 1."""
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _pay(message: Any, values: Values) -> None:
    """Make a payment one of the booking's price, and its id one of the booking's own."""
    random = values.random
    price = values.known.prices.get(message.booking_id)
    if price is not None:
        message.amount.CopyFrom(price)
    if random.random() < 0.8:
        message.payment_id = f"of {message.booking_id[:8]}"
    if "kind" in message.DESCRIPTOR.fields_by_name:
        message.kind = random.randrange(1, 5)


def _make_good(message: Any, values: Values) -> None:
    random = values.random
    for field, value in message.ListFields():
        if field.message_type:
            for each in value if field.is_repeated else (value,):
                if isinstance(each, Timestamp):
                    each.GetCurrentTime()
                elif isinstance(each, Message) and field.message_type.name != "Date":
                    _make_good(each, values)
    for field in message.DESCRIPTOR.fields:
        if field.type != FieldDescriptor.TYPE_STRING:
            continue
        text = values.good_text(field)
        if text is None or field.name == "etag" or random.random() < 0.1:
            continue
        if field.is_repeated:
            getattr(message, field.name)[:] = [text]
        else:
            setattr(message, field.name, text)
    _make_dates_good(message, values)


def _make_dates_good(message: Any, values: Values) -> None:
    if {"start_date", "end_date"} <= set(message.DESCRIPTOR.fields_by_name):
        first = 1 + values.random.randrange(20)
        if message.HasField("start_date"):
            message.start_date.CopyFrom(in_days(first))
        if message.HasField("end_date"):
            message.end_date.CopyFrom(in_days(first + values.random.randrange(1, 4)))
    if {"start_time", "end_time"} <= set(message.DESCRIPTOR.fields_by_name):
        message.end_time.seconds += 86_400


def _change_list(owner: Any, field: Any, values: Values) -> None:
    random = values.random
    length = random.choice(LENGTHS[:6] if random.random() < 0.8 else LENGTHS)
    found = getattr(owner, field.name)
    if not field.message_type:
        one = [values.of(field) for _ in range(3)]
        if max(len(str(each)) for each in one) > 1000:
            length = min(length, 2)
        found[:] = [random.choice(one) for _ in range(length)]
        return
    if field.message_type.GetOptions().map_entry:
        return
    first = found[0] if len(found) else GetMessageClass(field.message_type)()
    copy = type(first)()
    copy.CopyFrom(first)
    change(copy, values)
    del found[:]
    found.extend([copy] * length)


def _owners(message: Any) -> Iterator[Any]:
    yield message
    for field, value in message.ListFields():
        if field.message_type and not field.message_type.GetOptions().map_entry:
            for each in value if field.is_repeated else (value,):
                yield from _owners(each)


def _wire_field(field: Any, values: Values, depth: int) -> Iterator[bytes]:
    random = values.random
    count = random.choice((0, 1, 2, 3, 40)) if field.is_repeated else 1
    wire_type = _WIRE.get(field.type, 0)
    if random.random() < 0.03:
        wire_type = random.choice((0, 1, 2, 5))
    for _ in range(count):
        key = _key(field.number, wire_type)
        if wire_type == 0:
            yield key + varint(random.choice((0, 1, 2, 99, (1 << 31) - 1, 1 << 63, (1 << 64) - 1)))
        elif wire_type == 1:
            yield key + struct.pack("<d", values.random.choice((0.0, 1.0, float("nan"), -1e308)))
        elif wire_type == 5:
            yield key + random.randbytes(4)
        else:
            content = _wire_content(field, values, depth)
            yield key + varint(len(content)) + content


def _wire_content(field: Any, values: Values, depth: int) -> bytes:
    random = values.random
    if field.message_type:
        return wire(field.message_type, values, depth - 1) if depth else b""
    if random.random() < 0.1:
        return random.choice(BAD_UTF8)
    if field.type in (FieldDescriptor.TYPE_STRING, FieldDescriptor.TYPE_BYTES):
        value = values.of(field)
        return value if isinstance(value, bytes) else str(value).encode()
    return random.randbytes(random.randrange(12))


def _key(number: int, wire_type: int) -> bytes:
    return varint(number << 3 | wire_type)
