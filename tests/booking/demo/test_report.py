"""The comparison finds every difference and subtracts bookings of other files."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from booking_service.demo import expected, hotel, report
from booking_service.demo.seed import Known
from protos.booking.v1.booking_pb2 import Booking
from protos.metrics.v1 import metrics_pb2

DATA = Path(__file__).parents[2] / "data" / "resort_hotel_bookings.csv.gz"


@pytest.fixture(scope="module")
def file() -> hotel.HotelFile:
    return hotel.read_file(DATA)


@pytest.fixture(scope="module")
def totals() -> expected.Totals:
    return expected.totals(DATA)


def snapshot_of(figures: report.Figures) -> metrics_pb2.MetricsSnapshot:
    business = metrics_pb2.BusinessMetrics(
        confirmed=figures["confirmed"], cancelled=figures["cancelled"]
    )
    for currency, times in (("EUR", 1), ("USD", 7)):
        business.revenue.add(
            currency=currency,
            gross_minor=figures["gross"] * times,
            refunded_minor=figures["refunded"] * times,
            net_minor=figures["net"] * times,
        )
    for name, count in figures.items():
        kind, _, package_id = name.partition(" ")
        if package_id and kind == "confirmed":
            cancelled = figures[f"cancelled {package_id}"]
            business.packages.add(package_id=package_id, confirmed=count, cancelled=cancelled)
    return metrics_pb2.MetricsSnapshot(business=business)


def test_snapshot_is_read_in_our_currency(file: hotel.HotelFile, totals: expected.Totals) -> None:
    figures = report.figures_of_file(file, totals)
    assert report.figures_of(snapshot_of(figures)) == figures


def test_equal_figures_make_equal_lines(file: hotel.HotelFile, totals: expected.Totals) -> None:
    figures = report.figures_of_file(file, totals)
    lines = report.compare(file, totals, figures, figures)
    assert [line.name for line in lines[:5]] == [
        "confirmed",
        "cancelled",
        "gross",
        "refunded",
        "net",
    ]
    assert len(lines) == 5 + 9
    assert all(line.equal for line in lines)
    assert lines[2].expected == lines[2].shown == "4,458,058.39 EUR"
    assert lines[5].name == "Resort Hotel A"
    assert lines[5].expected == "6,090 / 3,611"


def test_every_single_difference_is_found(file: hotel.HotelFile, totals: expected.Totals) -> None:
    figures = report.figures_of_file(file, totals)
    for name in figures:
        off = Counter(figures)
        off[name] -= 1
        lines = report.compare(file, totals, figures, off)
        assert [line.equal for line in lines].count(False) == 1


def test_bookings_in_the_database_add_up_once_they_were_confirmed() -> None:
    states = (
        Known("a", Booking.CONFIRMED, 1000, 0, 0),
        Known("a", Booking.CANCELLED, 500, 500, 500),
        Known("b", Booking.CANCELLED, 70, 70, 0),
        Known("b", Booking.PENDING_PAYMENT, 9, 0, 0),
        Known("b", Booking.ABANDONED, 9, 0, 0),
    )
    assert report.figures_of_known(states) == {
        "confirmed": 3,
        "cancelled": 2,
        "gross": 1570,
        "refunded": 500,
        "net": 1070,
        "confirmed a": 2,
        "confirmed b": 1,
        "cancelled a": 1,
        "cancelled b": 1,
    }
