"""Makes of a file's bookings the events that metrics_service would have stored at the file's own
dates.

The file has days, not times of day, so these are invented by a rule. The n-th of the m rows of a
day (n from 0) begins at 07:00 + n/m of 14 hours: its visitors view the package 20 s apart, the
guest last; they start after 60 s, complete after 210 s, confirm after 240 s or abandon after 600 s.
The n-th of the m cancellations of a day is at 22:00 + n/m of an hour, and its refund a minute
later. All times are UTC.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, date, datetime, time
from itertools import groupby
from typing import Final, NamedTuple

from booking_service.demo.hotel import CURRENCY, HotelFile, Stay
from booking_service.demo.plan import Day, Goal, Visit
from booking_service.demo.seed import PACKAGE_TYPE, location_of
from protos.tracking.v1.event_pb2 import BookingFact, Event, EventList, PackageViewed, PaymentFact

SECOND_US: Final = 1_000_000
HOUR_US: Final = 3600 * SECOND_US
OPENS_US: Final = 7 * HOUR_US
OPEN_US: Final = 14 * HOUR_US
CANCELS_US: Final = 22 * HOUR_US
VISITORS_US: Final = 20 * SECOND_US
START_US: Final = 60 * SECOND_US
COMPLETE_US: Final = 210 * SECOND_US
CONFIRM_US: Final = 240 * SECOND_US
ABANDON_US: Final = 600 * SECOND_US
REFUND_US: Final = 60 * SECOND_US

MAX_EVENTS: Final = 4000
"""Of a batch; the log takes 5,000."""


class DatedBatch(NamedTuple):
    """The events of one hour, in their order, and which day they are of."""

    day: date
    payload: bytes
    events: int
    newest_us: int


def batches_of(hotel: HotelFile, days: Sequence[Day]) -> Iterator[DatedBatch]:
    """Yield the batches of all days, in order; the same file gives the same ones."""
    confirmed_us = {
        day_visit.stay.row: view_us + CONFIRM_US
        for day in days
        for view_us, day_visit in _visits(day)
        if day_visit.goal == Goal.CONFIRM
    }
    for day in days:
        events = [
            *(event for seen in _visits(day) for event in _visit(hotel, *seen)),
            *(event for left in _leavers(day) for event in _cancel(hotel, *left, confirmed_us)),
        ]
        events.sort(key=lambda event: event.time_us)
        for _, hour in groupby(events, key=lambda event: event.time_us // HOUR_US):
            found = list(hour)
            for at in range(0, len(found), MAX_EVENTS):
                part = found[at : at + MAX_EVENTS]
                payload = EventList(events=part).SerializeToString()
                yield DatedBatch(day.date, payload, len(part), part[-1].time_us)


def _midnight_us(day: date) -> int:
    return int(datetime.combine(day, time(), UTC).timestamp()) * SECOND_US


def _visits(day: Day) -> Iterator[tuple[int, Visit]]:
    """Yield the visits of a day, each with the time of its view."""
    opens_us = _midnight_us(day.date) + OPENS_US
    for number, party in enumerate(day.parties):
        begin_us = opens_us + OPEN_US * number // len(day.parties)
        for place, visit in enumerate(party):
            yield begin_us + place * VISITORS_US, visit


def _leavers(day: Day) -> Iterator[tuple[int, Stay]]:
    begin_us = _midnight_us(day.date) + CANCELS_US
    for number, stay in enumerate(day.cancellations):
        yield begin_us + HOUR_US * number // len(day.cancellations), stay


def _visit(hotel: HotelFile, view_us: int, visit: Visit) -> Iterator[Event]:
    stay, visitor, goal = visit
    viewed = PackageViewed(
        package_id=str(hotel.package_id(stay.offer)),
        user_id=str(hotel.step_id(stay.row, "user", visitor)),
        package_type=PACKAGE_TYPE,
        location=location_of(stay.offer),
        vendor_id=str(hotel.vendor_id(stay.offer.hotel)),
    )
    yield _event(hotel, visit, "view", view_us, package_viewed=viewed)
    if goal == Goal.VIEW:
        return
    start_us, complete_us, confirm_us = (
        view_us + later_us for later_us in (START_US, COMPLETE_US, CONFIRM_US)
    )
    fact = _fact(hotel, visit, start_us)
    fact.transition, fact.version = BookingFact.STARTED, 1
    yield _event(hotel, visit, "started", start_us, booking=fact)
    if goal > Goal.START:
        fact.transition, fact.version = BookingFact.COMPLETED, 2
        fact.complete_time_us = complete_us
        yield _event(hotel, visit, "completed", complete_us, booking=fact)
    if goal == Goal.CONFIRM:
        fact.transition, fact.version = BookingFact.CONFIRMED, 3
        fact.confirm_time_us = confirm_us
        yield _event(hotel, visit, "confirmed", confirm_us, booking=fact)
    else:
        fact.transition, fact.version = BookingFact.ABANDONED, fact.version + 1
        yield _event(hotel, visit, "abandoned", view_us + ABANDON_US, booking=fact)


def _cancel(
    hotel: HotelFile, cancel_us: int, stay: Stay, confirmed_us: dict[int, int]
) -> Iterator[Event]:
    guest = Visit(stay, 0, Goal.CONFIRM)
    confirm_us = confirmed_us[stay.row]
    fact = _fact(hotel, guest, confirm_us - CONFIRM_US + START_US)
    fact.transition, fact.version = BookingFact.CANCELLED, 4
    fact.complete_time_us = confirm_us - CONFIRM_US + COMPLETE_US
    fact.confirm_time_us = confirm_us
    fact.refund_minor = stay.price_minor if stay.refundable else 0
    yield _event(hotel, guest, "cancelled", cancel_us, booking=fact)
    if fact.refund_minor:
        refund = PaymentFact(
            kind=PaymentFact.REFUNDED,
            booking_id=fact.booking_id,
            provider="history",
            payment_id=str(hotel.step_id(stay.row, "payment")),
            amount_minor=fact.refund_minor,
            currency=CURRENCY,
            confirm_time_us=confirm_us,
            package_id=fact.package_id,
            vendor_id=fact.vendor_id,
            package_type=fact.package_type,
            location=fact.location,
            user_id=fact.user_id,
        )
        yield _event(hotel, guest, "refunded", cancel_us + REFUND_US, payment=refund)


def _fact(hotel: HotelFile, visit: Visit, hold_us: int) -> BookingFact:
    stay, visitor, _ = visit
    return BookingFact(
        booking_id=str(hotel.booking_id(stay.row, visitor)),
        package_id=str(hotel.package_id(stay.offer)),
        vendor_id=str(hotel.vendor_id(stay.offer.hotel)),
        package_type=PACKAGE_TYPE,
        location=location_of(stay.offer),
        user_id=str(hotel.step_id(stay.row, "user", visitor)),
        quantity=1,
        hold_time_us=hold_us,
        amount_minor=stay.price_minor,
        currency=CURRENCY,
    )


def _event(
    hotel: HotelFile,
    visit: Visit,
    what: str,
    time_us: int,
    *,
    booking: BookingFact | None = None,
    payment: PaymentFact | None = None,
    package_viewed: PackageViewed | None = None,
) -> Event:
    return Event(
        event_id=hotel.step_id(visit.stay.row, f"event/{what}", visit.visitor).bytes,
        time_us=time_us,
        session_id=str(hotel.step_id(visit.stay.row, "session", visit.visitor)),
        booking=booking,
        payment=payment,
        package_viewed=package_viewed,
    )
