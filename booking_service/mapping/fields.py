"""Reads the fields of one request and collects everything that is wrong with them.

No value read here may be used before `refuse_bad` has passed: a bad field gives a placeholder, so
that one refusal can name every bad field.
"""

from __future__ import annotations

import re
from collections.abc import Sequence, Sized
from datetime import UTC, date, datetime, timedelta
from typing import Final
from uuid import UUID

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp
from google.type.date_pb2 import Date
from google.type.money_pb2 import Money as MoneyMessage

from booking_service.domain.money import Money, exponent
from booking_service.mapping.bounds import (
    BYTES_PER_CHAR,
    MAX_CHOICES,
    MAX_SHOWN_CHARS,
    MAX_TEXT_BYTES,
)
from booking_service.mapping.known_names import Enum, names_of, time_zones
from servicekit.errors import INVALID_ARGUMENT, ApiError, Violation

# gRPC refuses trailing metadata beyond 8 kB: further violations are only counted.
MAX_VIOLATIONS: Final = 40
# Within these, a local midnight has a UTC instant, and amount x 100 units x 366 days fits 64 bits.
FIRST_DATE: Final = date(1900, 1, 1)
LAST_DATE: Final = date(2999, 12, 31)
MAX_AMOUNT_MINOR: Final = 10**14

_NIL: Final = UUID(int=0)
_UUID_LENGTH: Final = 36
_NANOS: Final = 1_000_000_000
_ONE_DAY: Final = timedelta(days=1)
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_FIRST_DAY: Final = (FIRST_DATE - _EPOCH.date()).days
_LAST_DAY: Final = (LAST_DATE - _EPOCH.date()).days
_CODE: Final = re.compile(r"[A-Z0-9_]+")
_CURRENCY: Final = re.compile(r"[A-Z]{3}")


class Fields:
    """Each reader returns the value, or a placeholder after adding a violation of `field`."""

    def __init__(self) -> None:
        self._violations: list[Violation] = []
        self._unnamed = 0

    def refuse_bad(self) -> None:
        """Raise INVALID_ARGUMENT with a violation for each bad field, if there are any."""
        if not self._violations:
            return
        named = list(self._violations)
        count = len(named) + self._unnamed
        message = f"{named[0].field}: {named[0].description}"
        if count > 1:
            message += f" (and {count - 1} more)"
        if self._unnamed:
            named.append(Violation("...", f"and {self._unnamed} more"))
        raise ApiError(INVALID_ARGUMENT, message, violations=named)

    def bad(self, field: str, description: str) -> None:
        if len(self._violations) < MAX_VIOLATIONS:
            self._violations.append(Violation(field, description))
        else:
            self._unnamed += 1

    def take(self, other: Fields, fields: Sequence[str]) -> None:
        """Take over the violations that another reader found in these fields or inside of them."""
        for each in other._violations:
            if any(each.field == field or each.field.startswith(f"{field}.") for field in fields):
                self.bad(each.field, each.description)

    def fits(self, field: str, elements: Sized, *, most: int, required: bool = False) -> bool:
        """Check the number of elements of a repeated field; to be called before they are read."""
        if len(elements) > most:
            self.bad(field, f"must be at most {most}, are {len(elements)}")
            return False
        if required and not elements:
            self.bad(field, "is required")
        return True

    def uuid(self, field: str, text: str) -> UUID:
        """Read a required UUID in canonical form: 36 characters, lower case."""
        if not text:
            self.bad(field, "is required")
            return _NIL
        return self.optional_uuid(field, text) or _NIL

    def optional_uuid(self, field: str, text: str) -> UUID | None:
        if not text:
            return None
        try:
            value = UUID(text) if len(text) == _UUID_LENGTH else None
        except ValueError:
            value = None
        if value is None or str(value) != text:
            self.bad(field, "must be a UUID in canonical form: 8-4-4-4-12 lower-case hex digits")
            return None
        return value

    def text(
        self,
        field: str,
        value: str,
        *,
        most: int,
        most_bytes: int = MAX_TEXT_BYTES,
        required: bool = True,
    ) -> str:
        """Read a text of at most `most` characters (Unicode code points)."""
        if required and not value:
            self.bad(field, "is required")
        elif len(value) > most:
            self.bad(field, f"must be at most {most} characters, has {len(value)}")
        elif (size := len(value.encode())) > most_bytes:
            self.bad(field, f"must be at most {most_bytes} bytes of UTF-8, has {size}")
        elif "\0" in value:
            self.bad(field, "must not contain U+0000")
        return value

    def shown_text(self, field: str, value: str, *, required: bool = True) -> str:
        """Read a text for people: as many characters in any script."""
        most = MAX_SHOWN_CHARS
        return self.text(
            field, value, most=most, most_bytes=most * BYTES_PER_CHAR, required=required
        )

    def number(self, field: str, value: int, *, low: int, high: int, zero: int = 0) -> int:
        """Read a number in [low, high]; an unset one (0) becomes `zero` where 0 is out of range."""
        if value == 0 and low > 0:
            return zero
        if not low <= value <= high:
            also = " (0 for the default)" if low > 0 else ""
            self.bad(field, f"must be {low} to {high}{also}, is {value}")
        return value

    def choice(self, field: str, number: int, enum: Enum, *, unset: str | None = None) -> str:
        """Return the name of a value of an enum, of which proto3 accepts unknown numbers.

        0 becomes `unset`; without `unset`, the field is required.
        """
        names = names_of(enum)
        if number in names:
            return names[number]
        if number != 0:
            self.bad(field, f"must be one of {', '.join(names.values())}, is {number}")
        elif unset is None:
            self.bad(field, "is required")
        return unset or next(iter(names.values()))

    def choices(self, field: str, numbers: Sequence[int], enum: Enum) -> list[str]:
        """Return the names of at most MAX_CHOICES values of an enum."""
        if not self.fits(field, numbers, most=MAX_CHOICES):
            return []
        return [self.choice(f"{field}[{n}]", number, enum) for n, number in enumerate(numbers)]

    def time_zone(self, field: str, name: str) -> str:
        if not name:
            self.bad(field, "is required")
        elif name not in time_zones():
            self.bad(field, 'must be an IANA time zone name, such as "Europe/Lisbon"')
        return name

    def day(self, field: str, message: Date, *, present: bool, required: bool) -> date | None:
        """Read a calendar date between FIRST_DATE and LAST_DATE."""
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
        """Return the half-open range from `start`; without an end it is one day long.

        `field` is the field of the end; `most` bounds the number of days.
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
        """Read a required timestamp between FIRST_DATE and LAST_DATE, rounded up to a microsecond.

        Instants are stored in microseconds: rounding up keeps the same ones before and after it.
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
        """Return the half-open range from `start`; `field` is the field of the end."""
        if start is None or end is None:
            return _EPOCH, _EPOCH
        if not start < end <= start + timedelta(days=most_days):
            self.bad(field, f"must be after the start, and at most {most_days} days after it")
        return start, end

    def ids(self, field: str, texts: Sequence[str], *, most: int) -> list[UUID]:
        """Read 1 to `most` UUIDs without repeats."""
        if not self.fits(field, texts, most=most, required=True):
            return []
        values = [self.uuid(f"{field}[{n}]", text) for n, text in enumerate(texts)]
        first_at: dict[str, int] = {}
        for n, text in enumerate(texts):
            if text and first_at.setdefault(text, n) != n:
                self.bad(f"{field}[{n}]", f"repeats {field}[{first_at[text]}]")
        return values

    def code(self, field: str, value: str, *, most: int) -> str:
        """Read 1 to `most` upper-case letters, digits and underscores."""
        self.text(field, value, most=most)
        if value and "\0" not in value and len(value) <= most and not _CODE.fullmatch(value):
            self.bad(field, "must be upper-case letters, digits and underscores")
        return value

    def money(self, field: str, message: MoneyMessage, *, present: bool, low: int = 0) -> Money:
        """Read at least `low` minor units, exact in the minor unit of the currency."""
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
        """Read a duration of whole seconds in [low, high]."""
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
