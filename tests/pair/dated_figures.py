"""What the metrics must show by the hour after the file was loaded at its own dates: computed from
the CSV alone, but for the invented visitors, whose number a row is the plan's.

The rule of the times of day is that of tests/data/README.md, applied a second time, on purpose.
"""

from __future__ import annotations

import csv
import gzip
from collections import Counter, defaultdict
from datetime import UTC, datetime, timedelta
from fractions import Fraction
from pathlib import Path
from typing import Final, NamedTuple

from booking_service.demo.hotel import read_file
from booking_service.demo.plan import Goal, days_of

HOUR: Final = timedelta(hours=1)
MONTHS: Final = (
    *("January", "February", "March", "April", "May", "June"),
    *("July", "August", "September", "October", "November", "December"),
)

Figures = dict[str, Counter[datetime]]
"""By name and by the begin of the hour."""


class Row(NamedTuple):
    number: int
    booked: datetime
    cancelled: datetime | None
    price: int
    refundable: bool
    room: tuple[str, str]


def rows_of(path: Path) -> list[Row]:
    with gzip.open(path, "rt", encoding="utf-8-sig", newline="") as lines:
        return [_row(number, row) for number, row in enumerate(csv.DictReader(lines), start=1)]


def _row(number: int, row: dict[str, str]) -> Row:
    arrival = datetime(
        int(row["arrival_date_year"]),
        MONTHS.index(row["arrival_date_month"].strip()) + 1,
        int(row["arrival_date_day_of_month"]),
        tzinfo=UTC,
    )
    booked = arrival - timedelta(days=int(row["lead_time"]))
    nights = int(row["stays_in_weekend_nights"]) + int(row["stays_in_week_nights"])
    cancelled = None
    if row["reservation_status"].strip() == "Canceled":
        text = row["reservation_status_date"].strip()
        pattern = "%m/%d/%Y" if "/" in text else "%Y-%m-%d"
        cancelled = max(datetime.strptime(text, pattern).replace(tzinfo=UTC), booked)
    price = round(Fraction(row["adr"].strip()) * nights * 100)
    refundable = row["deposit_type"].strip() != "Non Refund"
    room = row["hotel"].strip(), row["reserved_room_type"].strip()
    return Row(number, booked, cancelled, price, refundable, room)


def by_hour(path: Path) -> Figures:
    """Every figure by the hour."""
    parties = {
        party[-1].stay.row: [visit.goal for visit in party]
        for day in days_of(read_file(path).stays)
        for party in day.parties
    }
    rows = rows_of(path)
    booked: defaultdict[datetime, list[Row]] = defaultdict(list)
    left: defaultdict[datetime, list[Row]] = defaultdict(list)
    for row in rows:
        booked[row.booked].append(row)
        if row.cancelled is not None:
            left[row.cancelled].append(row)
    found: defaultdict[str, Counter[datetime]] = defaultdict(Counter)
    for day, ordered in booked.items():
        for place, row in enumerate(ordered):
            begin = day + 7 * HOUR + 14 * HOUR * place / len(ordered)
            for number, goal in enumerate(parties[row.number]):
                _count_visit(found, begin + timedelta(seconds=20 * number), goal, row)
    for day, ordered in left.items():
        for place in range(len(ordered)):
            found["cancelled"][_hour(day + 22 * HOUR + HOUR * place / len(ordered))] += 1
    return found


def _count_visit(found: dict[str, Counter[datetime]], view: datetime, goal: Goal, row: Row) -> None:
    found["entered"][_hour(view)] += 1
    found[f"entered {row.room}"][_hour(view)] += 1
    if goal == Goal.VIEW:
        return
    found["started"][_hour(view + timedelta(seconds=60))] += 1
    if goal == Goal.CONFIRM:
        confirm = _hour(view + timedelta(seconds=240))
        found["converted"][_hour(view)] += 1
        found[f"converted {row.room}"][_hour(view)] += 1
        found["confirmed"][confirm] += 1
        found["gross"][confirm] += row.price
        if row.cancelled is not None and row.refundable:
            found["refunded"][confirm] += row.price
    else:
        found["abandoned"][_hour(view)] += 1


def _hour(time: datetime) -> datetime:
    return time.replace(minute=0, second=0, microsecond=0)


def by_day(figures: Figures) -> Figures:
    """The same by the day."""
    found: dict[str, Counter[datetime]] = {}
    for name, hours in figures.items():
        found[name] = Counter()
        for hour, count in hours.items():
            found[name][hour.replace(hour=0)] += count
    return found
