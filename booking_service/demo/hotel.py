"""Reads a file of hotel bookings into stays with fixed identities.

Every row is a stay, copies included. Its ids depend only on the content of the file, the number of
the row and the step, so that a replay can be repeated or resumed without duplicates.
"""

from __future__ import annotations

import csv
import gzip
import hashlib
import io
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from decimal import ROUND_HALF_EVEN, Decimal, InvalidOperation
from pathlib import Path
from typing import Final, NamedTuple
from uuid import UUID, uuid5

CURRENCY: Final = "EUR"
"""The data set does not name its currency; the hotels are in Portugal."""

COLUMNS: Final = (
    "hotel",
    "lead_time",
    "arrival_date_year",
    "arrival_date_month",
    "arrival_date_day_of_month",
    "stays_in_weekend_nights",
    "stays_in_week_nights",
    "adults",
    "children",
    "babies",
    "reserved_room_type",
    "deposit_type",
    "adr",
    "reservation_status",
    "reservation_status_date",
)
"""The columns a file must have; further ones are not read."""

# Written out: strftime and calendar would follow the locale.
_MONTHS: Final = {
    "January": 1,
    "February": 2,
    "March": 3,
    "April": 4,
    "May": 5,
    "June": 6,
    "July": 7,
    "August": 8,
    "September": 9,
    "October": 10,
    "November": 11,
    "December": 12,
}
_STATUSES: Final = ("Check-Out", "No-Show", "Canceled")
_DEPOSITS: Final = ("No Deposit", "Refundable", "Non Refund")
_MAX_NIGHTS: Final = 366
_MAX_PARTY: Final = 1000
_MAX_BYTES: Final = 512 * 1024 * 1024
_DAYS_TO_FIRST_ARRIVAL: Final = 7


class FileError(Exception):
    """One line that names the error in a file of bookings, and where it is."""


class Offer(NamedTuple):
    """One room type of one hotel: a package of the catalogue."""

    hotel: str
    room_type: str


@dataclass(frozen=True, slots=True)
class Stay:
    """One row. Dates are those of the file."""

    row: int
    """1 for the first row below the header."""
    offer: Offer
    booked_on: date
    arrival: date
    departure: date
    """First day after the stay."""
    party_size: int
    price_minor: int
    """For the whole stay, cents."""
    rate_minor: int
    """For one night, cents."""
    refundable: bool
    cancelled_on: date | None
    """Never before `booked_on`; None for a stay that is never cancelled."""


@dataclass(frozen=True, slots=True)
class HotelFile:
    """All stays of a file, in its order."""

    namespace: UUID
    """The digest of the CSV text (unpacked), as the namespace of every id."""
    stays: tuple[Stay, ...]

    @property
    def first_booking(self) -> date:
        return min(stay.booked_on for stay in self.stays)

    @property
    def first_arrival(self) -> date:
        return min(stay.arrival for stay in self.stays)

    @property
    def last_departure(self) -> date:
        return max(stay.departure for stay in self.stays)

    def vendor_id(self, hotel: str) -> UUID:
        return uuid5(self.namespace, f"vendor/{hotel}")

    def package_id(self, offer: Offer) -> UUID:
        return uuid5(self.namespace, f"package/{offer.hotel}/{offer.room_type}")

    def booking_id(self, row: int, visitor: int = 0) -> UUID:
        """Return the booking of a row's guest (visitor 0) or of a generated visitor (1, 2, ...)."""
        return self.step_id(row, "booking", visitor)

    def step_id(self, row: int, step: str, visitor: int = 0) -> UUID:
        """Return the id of one step of one visitor: of a booking, or of a request."""
        return uuid5(self.namespace, f"row/{row}/{visitor}/{step}")

    def shift(self, today: date) -> timedelta:
        """Return the least number of whole weeks, 0 or more, by which the dates move.

        The first booking date becomes `today` or later, and the first arrival a week after `today`
        or later, so that no stay begins during its replay.
        """
        days = max(
            (today - self.first_booking).days,
            (today - self.first_arrival).days + _DAYS_TO_FIRST_ARRIVAL,
            0,
        )
        return timedelta(weeks=-(-days // 7))


def read_file(path: Path) -> HotelFile:
    """Read a CSV file, plain or gzip, with the columns in `COLUMNS`.

    Raises FileError for a file that cannot be read, lacks a column or rows, or has an invalid
    field.
    """
    text = _unpack(path)
    try:
        decoded = text.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise FileError(f"{path}: not UTF-8 text at byte {error.start}") from error
    reader = csv.DictReader(io.StringIO(decoded, newline=""))
    missing = [column for column in COLUMNS if column not in (reader.fieldnames or ())]
    if missing:
        raise FileError(f"{path}: missing columns: {', '.join(missing)}")
    stays = []
    try:
        for number, fields in enumerate(reader, start=1):
            stays.append(_stay(number, _Row(path, number, fields)))
    except csv.Error as error:
        raise FileError(f"{path}: line {reader.line_num}: {error}") from error
    if not stays:
        raise FileError(f"{path}: no rows below the header")
    return HotelFile(UUID(bytes=hashlib.sha256(text).digest()[:16]), tuple(stays))


def _unpack(path: Path) -> bytes:
    try:
        content = path.read_bytes()
        if content[:2] == b"\x1f\x8b":
            with gzip.open(io.BytesIO(content)) as packed:
                content = packed.read(_MAX_BYTES + 1)
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise FileError(f"{path}: damaged gzip file: {error}") from error
    except OSError as error:
        raise FileError(f"{path}: {error.strerror or error}") from error
    if len(content) > _MAX_BYTES:
        raise FileError(f"{path}: more than {_MAX_BYTES // 2**20} MiB of text")
    return content


def _stay(number: int, row: _Row) -> Stay:
    arrival = row.arrival()
    nights = row.count("stays_in_weekend_nights") + row.count("stays_in_week_nights")
    if nights > _MAX_NIGHTS:
        raise row.wrong("stays_in_week_nights", f"{nights} nights, at most {_MAX_NIGHTS}")
    party = row.count("adults") + row.count("children") + row.count("babies")
    if party > _MAX_PARTY:
        raise row.wrong("adults", f"a party of {party}, at most {_MAX_PARTY}")
    rate = row.amount("adr")
    try:
        booked_on = arrival - timedelta(days=row.count("lead_time"))
        departure = arrival + timedelta(days=max(nights, 1))
    except OverflowError as error:
        raise row.wrong("lead_time", "no such day") from error
    cancelled = row.choice("reservation_status", _STATUSES) == "Canceled"
    status_date = row.day("reservation_status_date")
    return Stay(
        row=number,
        offer=Offer(row.name("hotel"), row.name("reserved_room_type")),
        booked_on=booked_on,
        arrival=arrival,
        departure=departure,
        party_size=max(party, 1),
        price_minor=_cents(rate * nights),
        rate_minor=_cents(rate),
        refundable=row.choice("deposit_type", _DEPOSITS) != "Non Refund",
        cancelled_on=max(status_date, booked_on) if cancelled else None,
    )


def _cents(amount: Decimal) -> int:
    return int((amount * 100).quantize(Decimal(1), ROUND_HALF_EVEN))


class _Row:
    """The fields of one row; each reader names the row and the field that is invalid."""

    def __init__(self, path: Path, number: int, fields: Mapping[str, str | None]) -> None:
        self._path = path
        self._number = number
        self._fields = fields

    def wrong(self, column: str, what: str) -> FileError:
        return FileError(f"{self._path}: row {self._number}, field {column}: {what}")

    def name(self, column: str) -> str:
        value = self._value(column)
        if not 1 <= len(value) <= 60:
            raise self.wrong(column, f"{value!r} is not a name of 1 to 60 characters")
        return value

    def choice(self, column: str, allowed: tuple[str, ...]) -> str:
        value = self._value(column)
        if value not in allowed:
            raise self.wrong(column, f"{value!r} is not one of {', '.join(allowed)}")
        return value

    def count(self, column: str) -> int:
        value = self._value(column)
        # The published data set writes NA for an unknown number of children.
        if value == "NA" and column == "children":
            return 0
        # Nine digits exceed every bound, and int() is still fast.
        if not (value.isascii() and value.isdigit() and len(value) <= 9):
            raise self.wrong(column, f"{value!r} is not a whole number of at least 0")
        return int(value)

    def amount(self, column: str) -> Decimal:
        value = self._value(column)
        try:
            amount = Decimal(value)
        except InvalidOperation as error:
            raise self.wrong(column, f"{value!r} is not a number") from error
        if not (amount.is_finite() and 0 <= amount <= 1_000_000):
            raise self.wrong(column, f"{value} is not between 0 and 1000000")
        return amount

    def arrival(self) -> date:
        year, day = self.count("arrival_date_year"), self.count("arrival_date_day_of_month")
        month = self._value("arrival_date_month")
        if month not in _MONTHS:
            raise self.wrong("arrival_date_month", f"{month!r} is not the name of a month")
        try:
            return date(year, _MONTHS[month], day)
        except ValueError as error:
            raise self.wrong(
                "arrival_date_day_of_month", f"{day} {month} {year}: {error}"
            ) from error

    def day(self, column: str) -> date:
        value = self._value(column)
        # Copies of the data set write the same day as 7/2/2015 or as 2015-07-02.
        for pattern in ("%m/%d/%Y", "%Y-%m-%d"):
            try:
                return datetime.strptime(value, pattern).date()  # noqa: DTZ007 - a calendar date
            except ValueError:
                continue
        raise self.wrong(column, f"{value!r} is not a date such as 7/2/2015 or 2015-07-02")

    def _value(self, column: str) -> str:
        value = self._fields[column]
        if value is None:
            raise self.wrong(column, "the row has too few fields")
        return value.strip()
