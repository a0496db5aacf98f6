"""Makes cells of what messages have: absent values, times that are none and texts of others too."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from decimal import Decimal
from typing import Final

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from metrics_service.cli.output.sheet import NOTHING, Cell
from metrics_service.cli.plain import plain
from protos.metrics.v1.metrics_pb2 import Rate

MAX_EXPONENT: Final = 4
"""The most digits after the point that a currency has (ISO 4217)."""

MAX_CSV_CHARS: Final = 10_000
SMALL: Final = 0.01
"""A fraction below it is shown with one more digit."""


def text(value: str, style: str = "", limit: int = 60) -> Cell:
    """Return a cell of a text of others; in the table at most `limit` characters."""
    return Cell(plain(value, MAX_CSV_CHARS), plain(value, limit), style)


def word(value: str, style: str = "") -> Cell:
    """Return a cell of a word of ours."""
    return Cell(value, value, style)


def count(value: int, style: str = "") -> Cell:
    return Cell(value, f"{value:,}", style, value)


def rate(value: Rate | None) -> Cell:
    """Return the rate, a fraction of 1; shown in percent."""
    if value is None or not value.HasField("value"):
        return NOTHING
    return fraction(value.value)


def fraction(value: float) -> Cell:
    if not math.isfinite(value):
        return NOTHING
    small = 0 < abs(value) < SMALL
    return Cell(value, f"{value:.2%}" if small else f"{value:.1%}", "", value, is_rate=True)


def ms(value: float | None) -> Cell:
    """Return a duration in milliseconds."""
    if value is None or not math.isfinite(value):
        return NOTHING
    return Cell(round(value, 3), milliseconds(value), "", value)


def milliseconds(value: float) -> str:
    if value < 1_000:
        return f"{value:.1f} ms"
    if value < 120_000:
        return f"{value / 1_000:,.1f} s"
    return f"{value / 60_000:,.1f} min"


def money(minor: int, exponent: int) -> Cell:
    """Return an amount: exact decimal digits in CSV."""
    if not 0 <= exponent <= MAX_EXPONENT:
        return Cell(f"{minor} minor", f"{minor:,} minor", "", minor)
    # Exact for as many digits as 64 bits have.
    amount = Decimal(minor).scaleb(-exponent)
    return Cell(amount, f"{amount:,.{exponent}f}", "", minor)


@dataclass(frozen=True, slots=True)
class Clock:
    """Shows instants in a time zone; None is that of this machine."""

    zone: tzinfo | None = UTC

    def cell(self, time: Timestamp, style: str = "") -> Cell:
        """Return an instant; CSV has its offset too."""
        at = self._at(time)
        if at is None:
            return NOTHING
        return Cell(at.isoformat(timespec="milliseconds"), f"{at:%Y-%m-%d %H:%M:%S}", style)

    def instant(self, time: Timestamp) -> str:
        """Return an instant with its zone, such as "2026-11-30 14:00:00 UTC"; "-" for none."""
        at = self._at(time)
        return "-" if at is None else f"{at:%Y-%m-%d %H:%M:%S %Z}"

    def between(self, begin: Timestamp, end: Timestamp) -> str:
        """Return a period, such as "2026-11-30 13:00:00 to 14:00:00 UTC"."""
        first, last = self._at(begin), self._at(end)
        if first is None or last is None:
            return "-"
        same = first.date() == last.date()
        ended = f"{last:%H:%M:%S %Z}" if same else f"{last:%Y-%m-%d %H:%M:%S %Z}"
        return f"{first:%Y-%m-%d %H:%M:%S} to {ended}"

    def aware(self, time: datetime) -> datetime:
        """Return an instant of a time that may have no zone: it is then of this one."""
        if time.tzinfo is None and self.zone is not None:
            time = time.replace(tzinfo=self.zone)
        return time.astimezone(UTC)

    def _at(self, time: Timestamp) -> datetime | None:
        if not time.ByteSize():
            return None
        try:
            return time.ToDatetime(UTC).astimezone(self.zone)
        except (ValueError, OverflowError):
            # No instant between the years 1 and 9999.
            return None


def duration(value: Duration) -> Cell:
    """Return a duration; CSV has seconds."""
    try:
        found = value.ToTimedelta()
    except (ValueError, OverflowError):
        return NOTHING
    return Cell(found.total_seconds(), span(found))


def span(value: timedelta) -> str:
    """Return a duration in its two largest units: "2 d 3 h", "1 min 5 s", "12.3 s"."""
    sign, total_s = ("-" if value < timedelta(0) else ""), abs(value.total_seconds())
    if total_s < 60:
        return f"{sign}{total_s:.3g} s"
    rest = int(total_s)
    parts = []
    for name, unit_s in (("d", 86_400), ("h", 3_600), ("min", 60), ("s", 1)):
        if found := rest // unit_s:
            parts.append(f"{found} {name}")
        rest %= unit_s
    return sign + " ".join(parts[:2])
