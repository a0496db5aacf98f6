"""Random and boundary values for every type of field, and what earlier answers made known."""

from __future__ import annotations

import math
from collections import defaultdict
from datetime import UTC, datetime
from random import Random
from typing import Any, Final
from uuid import UUID

from google.protobuf.descriptor import FieldDescriptor
from google.type.money_pb2 import Money

SHORT_TEXTS: Final = (
    *(
        "",
        " ",
        "x",
        "\0",
        "a\0b",
        "\x1b[2J\x07",
        "\r\n\t\x7f",
        "\u0085\u2028\u202e",
        "[/]",
        "\\",
        "%s",
    ),
    *("' OR 1=1 --", "null", "NaN", "-1", "9" * 30, "EUR", "JPY", "eur", "E\u00dcR", "XXX", "ana"),
    *("Europe/Lisbon", "../../etc/passwd", "2026-06-01", "stripe", "TIMEOUT", "hotel_room"),
    *("00000000-0000-0000-0000-000000000000", "{3F2504E0-4F89-11D3-9A0C-0305E82C3301}"),
    *("urn:uuid:3f2504e0-4f89-11d3-9a0c-0305e82c3301", "3f2504e04f8911d39a0c0305e82c3301"),
)
LONG_TEXTS: Final = (
    *("x" * 255, "x" * 256, "x" * 257, "\u00e9" * 128, "\u20ac" * 85, "\U0001f3e8" * 65),
    *("x" * 4001, "x" * 60_000),
)
DOUBLES: Final = (0.0, -0.0, 1.5, -1.0, math.nan, math.inf, -math.inf, 1e308, -1e308, 5e-324)
SMALL: Final = (-1, 0, 1, 2, 3, 7, 50, 99, 100, 101, 365, 366, 367, 1000, 1001, 10_001)

_RANGES: Final = {
    FieldDescriptor.CPPTYPE_INT32: (-(1 << 31), (1 << 31) - 1),
    FieldDescriptor.CPPTYPE_UINT32: (0, (1 << 32) - 1),
    FieldDescriptor.CPPTYPE_INT64: (-(1 << 63), (1 << 63) - 1),
    FieldDescriptor.CPPTYPE_UINT64: (0, (1 << 64) - 1),
}
# By what a field of an id is called: `id` is of the message's own kind.
_KINDS: Final = (
    *("package", "booking", "vendor", "user", "payment", "request", "refund", "session"),
    *("silence", "deployment"),
)
MAX_KNOWN: Final = 500
FIRST: Final = 12


class Known:
    """Ids, etags and page tokens of answers, at most MAX_KNOWN of a kind."""

    def __init__(self) -> None:
        self._found: dict[str, list[str]] = defaultdict(list)
        # By the id of a booking.
        self.prices: dict[str, Money] = {}

    def add(self, kind: str, value: str, random: Random) -> None:
        """Keep a value, in the place of another one where there are enough."""
        found = self._found[kind]
        if len(found) < MAX_KNOWN:
            found.append(value)
        elif value:
            found[random.randrange(MAX_KNOWN)] = value

    def one(self, kind: str, random: Random) -> str | None:
        """Return one value of a kind; None where none is known."""
        found = self._found.get(kind)
        if not found:
            return None
        # The first ones are good ones.
        return random.choice(found[:FIRST] if random.random() < 0.5 else found)


class Values:
    """Chooses values of fields."""

    def __init__(self, random: Random, known: Known) -> None:
        self.random = random
        self.known = known

    def of(self, field: Any) -> Any:
        """Return a value that the field's type can hold; nothing more is right about it."""
        random = self.random
        kind = field.cpp_type
        if kind == FieldDescriptor.CPPTYPE_STRING:
            text = self.text(field)
            if field.type == FieldDescriptor.TYPE_STRING:
                return text
            return random.randbytes(random.choice((0, 1, 16, 17, 300))) if text else b""
        if kind == FieldDescriptor.CPPTYPE_BOOL:
            return random.random() < 0.5
        if kind in (FieldDescriptor.CPPTYPE_DOUBLE, FieldDescriptor.CPPTYPE_FLOAT):
            return random.choice(DOUBLES)
        if kind == FieldDescriptor.CPPTYPE_ENUM:
            known = [each.number for each in field.enum_type.values]
            return random.choice((*known, *known, -1, 99, (1 << 31) - 1))
        return self._whole(field)

    def text(self, field: Any) -> str:
        """Return a text: of an id, mostly one that exists."""
        random = self.random
        draw = random.random()
        if field.name.endswith("time_zone") and draw < 0.5:
            return "Europe/Lisbon"
        if (good := self.good_text(field)) is not None and draw < 0.6:
            return good
        if draw < 0.93:
            return random.choice(SHORT_TEXTS)
        return random.choice(LONG_TEXTS)

    def good_text(self, field: Any) -> str | None:
        """Return a text that may be right for a field of an id; None for any other field."""
        random = self.random
        name = field.name.removesuffix("s")
        if name in ("etag", "page_token"):
            return self.known.one(name, random) or ""
        kind = name.removesuffix("_id") if name.endswith("_id") else ""
        if name == "id":
            kind = field.containing_type.name.removesuffix("Request").removeprefix("Get")
            kind = kind.removeprefix("Expire").removesuffix("Report")
            kind = (kind.removeprefix("Refund") or kind).lower()
        if kind == "user":
            return f"user {random.randrange(200)}"
        if field.name in ("payment_id", "refund_id"):
            # Of a provider, which is no id of ours.
            return f"{kind}-{random.randrange(5000)}"
        if kind not in _KINDS:
            return None
        # A request_id of its own, some of them no UUIDs, or one that was used.
        if kind == "request" and random.random() < 0.1:
            return f"request {random.randrange(200)}"
        if kind != "request" or random.random() < 0.2:
            found = self.known.one(kind, random)
            if found is not None:
                return found
        new = str(UUID(bytes=random.randbytes(16), version=4))
        if kind == "request":
            self.known.add(kind, new, random)
        return new

    def _whole(self, field: Any) -> int:
        random = self.random
        low, high = _RANGES[field.cpp_type]
        draw = random.random()
        if draw < 0.55:
            value = random.choice(SMALL)
        elif field.name.endswith("_us") and draw < 0.7:
            value = round(datetime.now(UTC).timestamp() * 1e6)
        else:
            value = random.choice(
                (low, high, low + 1, high - 1, 1 << 53, -(1 << 53), 253_402_300_800, 10**18)
            )
        return min(high, max(low, value))
