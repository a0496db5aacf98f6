"""Reads the fields of one request, and remembers everything that is wrong with them.

Nothing read here may be used before `refuse_bad` has passed: a bad field yields a stand-in, so
that one refusal can name every bad field at once.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from functools import cache
from typing import Protocol
from uuid import UUID
from zoneinfo import available_timezones

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp
from google.type.date_pb2 import Date
from google.type.money_pb2 import Money as MoneyMessage

from booking_service.domain.money import Money, exponent
from servicekit.errors import INVALID_ARGUMENT, ApiError, Violation

# Trailing metadata is refused by gRPC beyond 8 kB: what is over this many is only counted.
MAX_VIOLATIONS = 40
# Dates and amounts beyond these could not be computed with: local midnights in UTC, and
# amount x 100 units x 366 days in 64 bits.
FIRST_DATE = date(1900, 1, 1)
LAST_DATE = date(2999, 12, 31)
MAX_AMOUNT_MINOR = 10**14

_NIL = UUID(int=0)
_NANOS = 1_000_000_000
_ONE_DAY = timedelta(days=1)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_FIRST_DAY = (FIRST_DATE - _EPOCH.date()).days
_LAST_DAY = (LAST_DATE - _EPOCH.date()).days
_CODE = re.compile(r"[A-Z0-9_]+")
_CURRENCY = re.compile(r"[A-Z]{3}")


class Enum(Protocol):
    """An enum as generated from a .proto file."""

    def items(self) -> Sequence[tuple[str, int]]: ...


class Fields:
    """The readers answer the value, or a stand-in after noting a violation of `field`."""

    def __init__(self) -> None:
        self._violations: list[Violation] = []

    def refuse_bad(self) -> None:
        """Raises INVALID_ARGUMENT with a violation for each bad field, if there is one."""
        if not self._violations:
            return
        named, count = self._violations[:MAX_VIOLATIONS], len(self._violations)
        message = f"{named[0].field}: {named[0].description}"
        if count > 1:
            message += f" (and {count - 1} more)"
        if count > MAX_VIOLATIONS:
            named.append(Violation("...", f"and {count - MAX_VIOLATIONS} more"))
        raise ApiError(INVALID_ARGUMENT, message, violations=named)

    def bad(self, field: str, description: str) -> None:
        self._violations.append(Violation(field, description))

    def take(self, other: Fields, fields: Sequence[str]) -> None:
        """Takes over what another reading found bad of these fields, or inside of them."""
        self._violations += [
            each
            for each in other._violations
            if any(each.field == field or each.field.startswith(f"{field}.") for field in fields)
        ]

    def uuid(self, field: str, text: str) -> UUID:
        """Of a required UUID in canonical form: 36 characters, lower case."""
        if not text:
            self.bad(field, "is required")
            return _NIL
        return self.optional_uuid(field, text) or _NIL

    def optional_uuid(self, field: str, text: str) -> UUID | None:
        if not text:
            return None
        try:
            value = UUID(text)
        except ValueError:
            value = None
        if value is None or str(value) != text:
            self.bad(field, "must be a UUID in canonical form: 8-4-4-4-12 lower-case hex digits")
            return None
        return value

    def text(self, field: str, value: str, *, most: int, required: bool = True) -> str:
        """Of at most `most` characters (Unicode code points)."""
        if required and not value:
            self.bad(field, "is required")
        elif len(value) > most:
            self.bad(field, f"must be at most {most} characters, has {len(value)}")
        elif "\0" in value:
            self.bad(field, "must not contain U+0000")
        return value

    def number(self, field: str, value: int, *, low: int, high: int, zero: int = 0) -> int:
        """In [low, high]; an unset one (0) is read as `zero` where 0 is out of range."""
        if value == 0 and low > 0:
            return zero
        if not low <= value <= high:
            also = " (0 for the default)" if low > 0 else ""
            self.bad(field, f"must be {low} to {high}{also}, is {value}")
        return value

    def choice(self, field: str, number: int, enum: Enum, *, unset: str | None = None) -> str:
        """The name of an enum's value, whose unknown numbers proto3 lets through.

        0 is read as `unset`; without one, the field is required.
        """
        names = {value: name for name, value in enum.items() if value != 0}
        if number in names:
            return names[number]
        if number != 0:
            self.bad(field, f"must be one of {', '.join(names.values())}, is {number}")
        elif unset is None:
            self.bad(field, "is required")
        return unset or next(iter(names.values()))

    def time_zone(self, field: str, name: str) -> str:
        if not name:
            self.bad(field, "is required")
        elif name not in _time_zones():
            self.bad(field, 'must be an IANA time zone name, such as "Europe/Lisbon"')
        return name

    def day(self, field: str, message: Date, *, present: bool, required: bool) -> date | None:
        """A real calendar date between FIRST_DATE and LAST_DATE."""
        if not present:
            if required:
                self.bad(field, "is required")
            return None
        try:
            value = date(message.year, message.month, message.day)
        except (ValueError, OverflowError):
            shown = f"{message.year:04}-{message.month:02}-{message.day:02}"
            self.bad(field, f"{shown} is not a calendar date")
            return None
        if not FIRST_DATE <= value <= LAST_DATE:
            self.bad(field, f"must be {FIRST_DATE} to {LAST_DATE}, is {value}")
            return None
        return value

    def day_range(
        self, field: str, start: date | None, end: date | None, *, end_present: bool, most: int
    ) -> tuple[date, date]:
        """The half-open range from `start`; an unset end makes it one day long.

        `field` is that of the end; `most` bounds the number of days.
        """
        if start is None or (end is None and end_present):
            return FIRST_DATE, FIRST_DATE + _ONE_DAY
        if end is None:
            return start, start + _ONE_DAY
        if end <= start:
            self.bad(field, f"must be after the start {start}, is {end}")
        elif (end - start).days > most:
            self.bad(field, f"must be at most {most} days after the start {start}, is {end}")
        return start, end

    def instant(self, field: str, message: Timestamp, *, present: bool) -> datetime | None:
        """Of a required timestamp between FIRST_DATE and LAST_DATE, rounded up to a microsecond.

        So rounded, it has the same of our own instants before it and after it.
        """
        if not present:
            self.bad(field, "is required")
            return None
        seconds, nanos = message.seconds, message.nanos
        if not 0 <= nanos < _NANOS:
            self.bad(f"{field}.nanos", f"must be 0 to 999999999, is {nanos}")
            return None
        days, rest_s = divmod(seconds, 24 * 3600)
        if not _FIRST_DAY <= days <= _LAST_DAY:
            self.bad(field, f"must be {FIRST_DATE} to {LAST_DATE}, is {seconds} s after 1970")
            return None
        return _EPOCH + timedelta(days=days, seconds=rest_s, microseconds=-(-nanos // 1000))

    def instant_range(
        self, field: str, start: datetime | None, end: datetime | None, *, most_days: int
    ) -> tuple[datetime, datetime]:
        """The half-open range from `start`; `field` is that of the end."""
        if start is None or end is None:
            return _EPOCH, _EPOCH
        if not start < end <= start + timedelta(days=most_days):
            self.bad(field, f"must be after the start, and at most {most_days} days after it")
        return start, end

    def ids(self, field: str, texts: Sequence[str], *, most: int) -> list[UUID]:
        """Of 1 to `most` UUIDs, each once."""
        if not texts:
            self.bad(field, "is required")
        if len(texts) > most:
            self.bad(field, f"must be at most {most}, are {len(texts)}")
            return []
        values = [self.uuid(f"{field}[{n}]", text) for n, text in enumerate(texts)]
        first_at: dict[str, int] = {}
        for n, text in enumerate(texts):
            if text and first_at.setdefault(text, n) != n:
                self.bad(f"{field}[{n}]", f"is {field}[{first_at[text]}] again")
        return values

    def code(self, field: str, value: str, *, most: int) -> str:
        """Of upper-case letters, digits and underscores, 1 to `most` of them."""
        self.text(field, value, most=most)
        if value and "\0" not in value and len(value) <= most and not _CODE.fullmatch(value):
            self.bad(field, "must be upper-case letters, digits and underscores")
        return value

    def money(self, field: str, message: MoneyMessage, *, present: bool, low: int = 0) -> Money:
        """At least `low` minor units, exact in the minor unit of its currency."""
        stand_in = Money(0, "EUR")
        if not present:
            self.bad(field, "is required")
            return stand_in
        units, nanos, currency = message.units, message.nanos, message.currency_code
        digits = self._currency_digits(f"{field}.currency_code", currency)
        if abs(nanos) >= _NANOS:
            self.bad(f"{field}.nanos", f"must be within 999999999 of 0, is {nanos}")
            return stand_in
        if units * nanos < 0:
            self.bad(f"{field}.nanos", "must have the sign of units")
            return stand_in
        if digits is None:
            return stand_in
        step = 10 ** (9 - digits)
        if nanos % step:
            what = f"{digits} decimal digits" if digits else "no decimal digits"
            self.bad(f"{field}.nanos", f"{currency} has {what}: must be a multiple of {step}")
            return stand_in
        minor = units * 10**digits + nanos // step
        if not low <= minor <= MAX_AMOUNT_MINOR:
            self.bad(field, f"must be {low} to {MAX_AMOUNT_MINOR} minor units, is {minor}")
            return stand_in
        return Money(minor, currency)

    def seconds(self, field: str, message: Duration, *, low: int, high: int) -> int:
        """Of a duration of whole seconds in [low, high]."""
        seconds, nanos = message.seconds, message.nanos
        if nanos:
            self.bad(f"{field}.nanos", f"must be 0: whole seconds, is {nanos}")
        elif not low <= seconds <= high:
            self.bad(field, f"must be {low} to {high} s, is {seconds} s")
        return seconds

    def _currency_digits(self, field: str, currency: str) -> int | None:
        if not currency:
            self.bad(field, "is required")
        elif not _CURRENCY.fullmatch(currency):
            self.bad(field, "must be three upper-case letters of ISO 4217")
        elif (digits := exponent(currency)) is None:
            self.bad(field, f"{currency} is not a currency of ISO 4217")
        else:
            return digits
        return None


@cache
def _time_zones() -> frozenset[str]:
    # These three name the machine's own setting or none at all.
    return frozenset(available_timezones() - {"localtime", "posixrules", "Factory"})
