"""The events of a file at its own dates follow the rule, and are always the same."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path

import pytest

from booking_service.demo import expected
from booking_service.demo.dated import HOUR_US, MAX_EVENTS, DatedBatch, batches_of
from booking_service.demo.hotel import HotelFile, read_file
from booking_service.demo.plan import days_of
from protos.tracking.v1.event_pb2 import BookingFact, Event, EventList

DATA = Path(__file__).parents[2] / "data" / "resort_hotel_bookings.csv.gz"


ROWS = 1_500


@pytest.fixture(scope="module")
def hotel() -> HotelFile:
    """The first rows of the file."""
    whole = read_file(DATA)
    return replace(whole, stays=whole.stays[:ROWS])


@pytest.fixture(scope="module")
def batches(hotel: HotelFile) -> list[DatedBatch]:
    return list(batches_of(hotel, days_of(hotel.stays)))


@pytest.fixture(scope="module")
def events(batches: list[DatedBatch]) -> list[Event]:
    return [event for batch in batches for event in EventList.FromString(batch.payload).events]


def test_a_batch_is_of_one_hour_and_time_goes_on(batches: list[DatedBatch]) -> None:
    for batch in batches:
        times = [event.time_us for event in EventList.FromString(batch.payload).events]
        assert len(times) == batch.events <= MAX_EVENTS
        assert times == sorted(times)
        assert times[-1] == batch.newest_us
        assert len({time_us // HOUR_US for time_us in times}) == 1
        assert datetime.fromtimestamp(times[0] // 10**6, UTC).date() == batch.day
    assert all(one.newest_us < other.newest_us for one, other in pairwise(batches))


def test_the_same_file_gives_the_same_bytes(hotel: HotelFile, batches: list[DatedBatch]) -> None:
    assert list(batches_of(hotel, days_of(hotel.stays))) == batches


def test_the_events_add_up_to_the_file(events: list[Event]) -> None:
    assert len({event.event_id for event in events}) == len(events)
    counts = Counter(event.booking.transition for event in events if event.HasField("booking"))
    totals = expected.totals(DATA, range(ROWS + 1, 10_000))
    assert counts[BookingFact.CONFIRMED] == totals.confirmed
    assert counts[BookingFact.CANCELLED] == totals.cancelled
    assert counts[BookingFact.STARTED] == (
        counts[BookingFact.CONFIRMED] + counts[BookingFact.ABANDONED]
    )
    refunded = [event.payment for event in events if event.HasField("payment")]
    assert sum(each.amount_minor for each in refunded) == totals.refunded_minor


def test_the_steps_of_a_guest_come_in_order(hotel: HotelFile, events: list[Event]) -> None:
    stay = next(each for each in hotel.stays if each.cancelled_on and each.price_minor)
    session = str(hotel.step_id(stay.row, "session"))
    own = [event for event in events if event.session_id == session]
    view, started, completed, confirmed, cancelled, *refunded = own
    seconds = [(event.time_us - view.time_us) / 1e6 for event in (started, completed, confirmed)]
    assert seconds == [60, 210, 240]
    assert [event.booking.version for event in own[1:5]] == [1, 2, 3, 4]
    assert cancelled.booking.confirm_time_us == confirmed.time_us
    assert cancelled.booking.hold_time_us == started.time_us
    assert [event.time_us - cancelled.time_us for event in refunded] == (
        [60_000_000] if stay.refundable else []
    )
    assert view.package_viewed.package_id == confirmed.booking.package_id
    assert (view.package_viewed.location, view.package_viewed.package_type) == (
        "Algarve",
        "hotel_room",
    )
