"""Computes from the CSV file alone what the metrics must show after a replay.

This second computation is independent on purpose: it shares no code with the replay, sums the raw
fields in one pass with fractions, and uses no dates, requests or order. Where the two differ, one
of them is wrong.
"""

from __future__ import annotations

import csv
import gzip
from collections import Counter
from collections.abc import Container
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path


@dataclass(slots=True)
class Totals:
    """Totals of a file; money in cents."""

    confirmed: int = 0
    cancelled: int = 0
    gross_minor: int = 0
    refunded_minor: int = 0
    confirmed_by_room: Counter[tuple[str, str]] = field(default_factory=Counter)
    """By hotel and reserved room type."""
    cancelled_by_room: Counter[tuple[str, str]] = field(default_factory=Counter)

    @property
    def net_minor(self) -> int:
        return self.gross_minor - self.refunded_minor


def totals(path: Path, without_rows: Container[int] = frozenset()) -> Totals:
    """Sum a CSV file, plain or gzip; `without_rows` (1 = first) were refused as sold out."""
    result = Totals()
    with path.open("rb") as start:
        packed = start.read(2) == b"\x1f\x8b"
    with (
        gzip.open(path, "rt", encoding="utf-8-sig", newline="")
        if packed
        else path.open(encoding="utf-8-sig", newline="")
    ) as lines:
        table = csv.reader(lines)
        at = {name: place for place, name in enumerate(next(table))}
        number = 0
        for row in table:
            if not row:
                continue
            number += 1
            if number in without_rows:
                continue
            nights = int(row[at["stays_in_weekend_nights"]]) + int(row[at["stays_in_week_nights"]])
            price = round(Fraction(row[at["adr"]].strip()) * nights * 100)
            room = row[at["hotel"]].strip(), row[at["reserved_room_type"]].strip()
            result.confirmed += 1
            result.confirmed_by_room[room] += 1
            result.gross_minor += price
            if row[at["reservation_status"]].strip() == "Canceled":
                result.cancelled += 1
                result.cancelled_by_room[room] += 1
                if row[at["deposit_type"]].strip() != "Non Refund":
                    result.refunded_minor += price
    return result
