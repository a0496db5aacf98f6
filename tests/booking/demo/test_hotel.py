"""The real file has the facts that its README states; an invalid file is refused in one line."""

from __future__ import annotations

import csv
import gzip
import io
from collections import Counter
from datetime import date, timedelta
from pathlib import Path

import pytest

from booking_service.demo import hotel

DATA = Path(__file__).parents[2] / "data" / "resort_hotel_bookings.csv.gz"
ROW = {
    "hotel": "Resort Hotel",
    "lead_time": "10",
    "arrival_date_year": "2015",
    "arrival_date_month": "July",
    "arrival_date_day_of_month": "20",
    "stays_in_weekend_nights": "1",
    "stays_in_week_nights": "2",
    "adults": "2",
    "children": "1",
    "babies": "0",
    "reserved_room_type": "A",
    "deposit_type": "No Deposit",
    "adr": "33.33",
    "reservation_status": "Check-Out",
    "reservation_status_date": "7/23/2015",
}


def write(path: Path, *rows: dict[str, str], without: str = "") -> Path:
    columns = [column for column in ROW if column != without]
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, extrasaction="ignore")
    writer.writeheader()
    writer.writerows(rows)
    path.write_text(text.getvalue(), encoding="utf-8")
    return path


def read_one(path: Path, **changes: str) -> hotel.Stay:
    return hotel.read_file(write(path / "one.csv", ROW | changes)).stays[0]


@pytest.fixture(scope="module")
def real() -> hotel.HotelFile:
    return hotel.read_file(DATA)


def test_raw_rows_are_the_9999_of_the_readme_with_2453_copies() -> None:
    with gzip.open(DATA, "rt", encoding="utf-8", newline="") as lines:
        rows = list(csv.DictReader(lines))
    assert len(rows) == 9999
    assert len(rows) - len({tuple(row.values()) for row in rows}) == 2453
    assert Counter(row["reservation_status"] for row in rows) == {
        "Canceled": 6173,
        "Check-Out": 3666,
        "No-Show": 160,
    }
    assert Counter(row["deposit_type"] for row in rows) == {
        "No Deposit": 8930,
        "Non Refund": 998,
        "Refundable": 71,
    }
    nights = [int(r["stays_in_weekend_nights"]) + int(r["stays_in_week_nights"]) for r in rows]
    assert nights.count(0) == 79
    parties = [int(r["adults"]) + int(r["children"]) + int(r["babies"]) for r in rows]
    assert parties.count(0) == 7
    assert sum(float(row["adr"]) == 0 for row in rows) == 168


def test_every_row_is_a_stay_with_ids_of_its_own(real: hotel.HotelFile) -> None:
    assert [stay.row for stay in real.stays] == list(range(1, 10_000))
    assert len({real.booking_id(stay.row) for stay in real.stays}) == 9999
    assert Counter(stay.offer.room_type for stay in real.stays) == {
        "A": 6090,
        "D": 1755,
        "E": 1180,
        "G": 453,
        "H": 179,
        "F": 173,
        "C": 164,
        "L": 3,
        "P": 2,
    }
    assert len({real.package_id(stay.offer) for stay in real.stays}) == 9
    assert all(stay.departure > stay.arrival for stay in real.stays)
    assert all(stay.party_size >= 1 for stay in real.stays)
    assert sum(stay.cancelled_on is not None for stay in real.stays) == 6173
    assert (real.first_booking, real.first_arrival) == (date(2013, 6, 24), date(2015, 7, 1))


def test_ids_depend_on_content_row_and_step_only(tmp_path: Path) -> None:
    plain = write(tmp_path / "plain.csv", ROW, ROW)
    packed = tmp_path / "packed.csv.gz"
    packed.write_bytes(gzip.compress(plain.read_bytes()))
    other = write(tmp_path / "other.csv", ROW, ROW | {"adults": "3"})
    first, same, changed = map(hotel.read_file, (plain, packed, other))
    assert first.booking_id(1) == same.booking_id(1)
    assert first.booking_id(1) != first.booking_id(2)
    assert first.booking_id(1) != first.booking_id(1, visitor=1)
    assert first.step_id(1, "start") != first.step_id(1, "complete")
    assert first.booking_id(1) != changed.booking_id(1)
    assert first.booking_id(1).version == 5


def test_price_is_rate_times_nights_in_exact_cents(tmp_path: Path) -> None:
    assert read_one(tmp_path).price_minor == 9999
    # In binary floating point this would be 3 * 0.29 = 0.87 - 1e-17, one cent short when cut.
    assert read_one(tmp_path, adr="0.29").price_minor == 87
    assert read_one(tmp_path, adr="0").price_minor == 0
    # Half a cent is rounded to the even cent.
    assert read_one(tmp_path, adr="0.005", stays_in_week_nights="0").price_minor == 0
    assert read_one(tmp_path, adr="0.015", stays_in_week_nights="0").price_minor == 2


def test_stay_has_the_dates_party_and_policy_of_its_row(tmp_path: Path) -> None:
    stay = read_one(tmp_path)
    assert (stay.booked_on, stay.arrival, stay.departure) == (
        date(2015, 7, 10),
        date(2015, 7, 20),
        date(2015, 7, 23),
    )
    assert stay.party_size == 3
    assert stay.refundable
    assert stay.cancelled_on is None
    assert not read_one(tmp_path, deposit_type="Non Refund").refundable


def test_zero_nights_take_one_day_and_an_empty_party_counts_as_one(tmp_path: Path) -> None:
    stay = read_one(
        tmp_path,
        stays_in_weekend_nights="0",
        stays_in_week_nights="0",
        adults="0",
        children="NA",
    )
    assert stay.departure - stay.arrival == timedelta(days=1)
    assert stay.party_size == 1
    assert stay.price_minor == 0


def test_cancellation_is_never_before_the_booking(tmp_path: Path) -> None:
    late = {"reservation_status": "Canceled", "reservation_status_date": "2015-07-12"}
    early = late | {"reservation_status_date": "7/1/2015"}
    assert read_one(tmp_path, **late).cancelled_on == date(2015, 7, 12)
    assert read_one(tmp_path, **early).cancelled_on == date(2015, 7, 10)


@pytest.mark.parametrize("today", [date(2030, 1, 1) + timedelta(days=n) for n in range(8)])
def test_shift_is_the_least_number_of_whole_weeks(tmp_path: Path, today: date) -> None:
    one = hotel.read_file(write(tmp_path / "one.csv", ROW | {"lead_time": "3"}))
    shift = one.shift(today)
    assert shift % timedelta(weeks=1) == timedelta()

    def fits(by: timedelta) -> bool:
        week_ahead = today + timedelta(weeks=1)
        return one.first_booking + by >= today and one.first_arrival + by >= week_ahead

    assert fits(shift)
    assert not fits(shift - timedelta(weeks=1))


def test_shift_of_a_file_of_the_future_is_nothing(real: hotel.HotelFile) -> None:
    assert real.shift(date(2013, 6, 24)) == timedelta()


@pytest.mark.parametrize(
    ("column", "value", "expected"),
    [
        ("lead_time", "-1", "'-1' is not a whole number"),
        ("lead_time", "9" * 9, "no such day"),
        ("arrival_date_month", "Juli", "'Juli' is not the name of a month"),
        ("arrival_date_day_of_month", "32", "32 July 2015"),
        ("stays_in_week_nights", "366", "367 nights, at most 366"),
        ("stays_in_week_nights", "²", "'²' is not a whole number"),
        ("adults", "1000", "a party of 1001, at most 1000"),
        ("adr", "12,50", "'12,50' is not a number"),
        ("adr", "-6.38", "-6.38 is not between 0 and 1000000"),
        ("adr", "NaN", "NaN is not between"),
        ("reserved_room_type", "", "'' is not a name"),
        ("deposit_type", "Cash", "'Cash' is not one of No Deposit"),
        ("reservation_status", "", "'' is not one of Check-Out"),
        ("reservation_status_date", "23.7.2015", "is not a date such as"),
    ],
)
def test_wrong_field_is_named_with_its_row(
    tmp_path: Path, column: str, value: str, expected: str
) -> None:
    path = write(tmp_path / "bad.csv", ROW, ROW | {column: value})
    with pytest.raises(hotel.FileError) as refused:
        hotel.read_file(path)
    message = str(refused.value)
    assert message.startswith(f"{path}: row 2, field {column}: ")
    assert expected in message
    assert "\n" not in message


def test_missing_columns_are_all_named(tmp_path: Path) -> None:
    path = write(tmp_path / "bad.csv", ROW, without="adr")
    with pytest.raises(hotel.FileError, match=r"missing columns: adr$"):
        hotel.read_file(path)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", "missing columns: hotel, lead_time"),
        (b"\xff\xfe", "not UTF-8"),
        (gzip.compress(b"hotel,adr\n" * 999, mtime=0)[:-20], "damaged gzip"),
        (b"\x1f\x8bnot packed at all", "damaged gzip"),
        ((",".join(ROW) + "\n").encode(), "no rows"),
        ((",".join(ROW) + "\nResort Hotel,1\n").encode(), "row 1, field arrival_date_year"),
    ],
)
def test_a_file_of_another_format_is_refused_in_one_line(
    tmp_path: Path, content: bytes, expected: str
) -> None:
    path = tmp_path / "bad.csv"
    path.write_bytes(content)
    with pytest.raises(hotel.FileError) as refused:
        hotel.read_file(path)
    assert expected in str(refused.value)
    assert "\n" not in str(refused.value)


def test_absent_file_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(hotel.FileError, match="No such file"):
        hotel.read_file(tmp_path / "absent.csv")
