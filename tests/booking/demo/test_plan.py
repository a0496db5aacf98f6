"""The plan keeps its order, its capacity is exactly the peak of it, its rates are as stated."""

from __future__ import annotations

from collections import Counter
from datetime import date, timedelta
from pathlib import Path

import pytest

from booking_service.demo import expected, hotel, plan

DATA = Path(__file__).parents[2] / "data" / "resort_hotel_bookings.csv.gz"
OFFER = hotel.Offer("Resort Hotel", "A")
DAY = date(2015, 7, 1)


def stay(row: int, *, booked: int, nights: int = 1, cancelled: int | None = None) -> hotel.Stay:
    arrival = DAY + timedelta(days=100)
    return hotel.Stay(
        row=row,
        offer=OFFER,
        booked_on=DAY + timedelta(days=booked),
        arrival=arrival,
        departure=arrival + timedelta(days=nights),
        party_size=1,
        price_minor=100,
        rate_minor=100,
        refundable=True,
        cancelled_on=None if cancelled is None else DAY + timedelta(days=cancelled),
    )


@pytest.fixture(scope="module")
def real() -> hotel.HotelFile:
    return hotel.read_file(DATA)


@pytest.fixture(scope="module")
def days(real: hotel.HotelFile) -> list[plan.Day]:
    return plan.days_of(real.stays)


def test_every_row_books_once_on_its_day_and_cancels_once_on_its_day(
    real: hotel.HotelFile, days: list[plan.Day]
) -> None:
    assert [day.date for day in days] == sorted({day.date for day in days})
    guests = {party[-1].stay.row: day.date for day in days for party in day.parties}
    assert guests == {stay.row: stay.booked_on for stay in real.stays}
    assert sum(len(day.parties) for day in days) == 9999
    leaving = {stay.row: day.date for day in days for stay in day.cancellations}
    assert leaving == {s.row: s.cancelled_on for s in real.stays if s.cancelled_on}
    assert sum(len(day.cancellations) for day in days) == 6173
    for day in days:
        rows = [party[-1].stay.row for party in day.parties]
        assert rows == sorted(rows)


def test_generated_visitors_come_at_the_stated_rates(days: list[plan.Day]) -> None:
    visits = [visit for day in days for party in day.parties for visit in party]
    reached = [sum(visit.goal >= goal for visit in visits) for goal in plan.Goal]
    viewed, started, completed, confirmed = reached
    assert confirmed == 9999
    assert started / viewed == pytest.approx(plan.VIEW_TO_START, abs=0.01)
    assert completed / started == pytest.approx(plan.START_TO_COMPLETE, abs=0.01)
    assert confirmed / completed == pytest.approx(plan.COMPLETE_TO_CONFIRM, abs=0.01)
    # The README states this number.
    assert viewed == 47_678


def test_the_same_file_generates_the_same_visitors(
    real: hotel.HotelFile, days: list[plan.Day]
) -> None:
    again = plan.days_of(real.stays)
    assert [day.parties for day in again] == [day.parties for day in days]


def test_guest_comes_last_and_visitors_have_numbers_of_their_own(days: list[plan.Day]) -> None:
    for day in days:
        for party in day.parties:
            assert [visit.visitor for visit in party] == [*range(1, len(party)), 0]
            assert [v.goal is plan.Goal.CONFIRM for v in party] == [False] * (len(party) - 1) + [
                True
            ]


def test_capacity_is_reached_and_never_passed_in_the_plans_order(days: list[plan.Day]) -> None:
    capacity = plan.capacity_for(days)
    taken: dict[hotel.Offer, Counter[date]] = {offer: Counter() for offer in capacity}
    fullest: dict[hotel.Offer, Counter[date]] = {offer: Counter() for offer in capacity}

    def move(stay: hotel.Stay, by: int) -> None:
        for night in plan.nights_of(stay):
            taken[stay.offer][night] += by
            now, so_far = taken[stay.offer][night], fullest[stay.offer][night]
            fullest[stay.offer][night] = max(now, so_far)
            assert 0 <= now <= capacity[stay.offer][night]

    for day in days:
        starters = [v for party in day.parties for v in party if v.goal is not plan.Goal.VIEW]
        for visit in starters:
            move(visit.stay, 1)
        for visit in starters:
            if visit.goal is not plan.Goal.CONFIRM:
                move(visit.stay, -1)
        for gone in day.cancellations:
            move(gone, -1)
    assert {offer: dict(nights) for offer, nights in fullest.items()} == capacity


def test_cancellation_frees_a_seat_for_the_next_day_only() -> None:
    def peak(*stays: hotel.Stay) -> int:
        days = plan.days_of(stays)
        for day in days:
            day.parties = [party[-1:] for party in day.parties]
        return max(plan.capacity_for(days)[OFFER].values())

    assert peak(stay(1, booked=0, cancelled=1), stay(2, booked=1)) == 2
    assert peak(stay(1, booked=0, cancelled=1), stay(2, booked=2)) == 1


def test_tight_capacity_is_nine_tenths_and_at_least_one(days: list[plan.Day]) -> None:
    full, tight = plan.capacity_for(days), plan.capacity_for(days, plan.TIGHT_PERCENT)
    assert full.keys() == tight.keys()
    for offer, nights in full.items():
        for night, units in nights.items():
            assert tight[offer][night] == max(1, units * 9 // 10)


def test_runs_join_equal_neighbours_only() -> None:
    def at(offset: int) -> date:
        return DAY + timedelta(days=offset)

    nights = {at(0): 2, at(1): 2, at(2): 3, at(4): 3}
    assert plan.runs_of(nights) == [
        plan.Run(at(0), at(2), 2),
        plan.Run(at(2), at(3), 3),
        plan.Run(at(4), at(5), 3),
    ]


def test_two_computations_of_the_totals_agree(real: hotel.HotelFile, days: list[plan.Day]) -> None:
    totals = expected.totals(DATA)
    guests = [party[-1].stay for day in days for party in day.parties]
    gone = [stay for day in days for stay in day.cancellations]
    assert totals.confirmed == len(guests) == 9999
    assert totals.cancelled == len(gone) == 6173
    assert totals.gross_minor == sum(stay.price_minor for stay in guests) == 445_805_839
    refunded = sum(stay.price_minor for stay in gone if stay.refundable)
    assert totals.refunded_minor == refunded == 262_453_175
    assert totals.net_minor == 183_352_664
    assert totals.confirmed_by_room == Counter(stay.offer for stay in guests)
    assert totals.cancelled_by_room == Counter(stay.offer for stay in gone)


def test_totals_leave_out_the_rows_that_were_refused(real: hotel.HotelFile) -> None:
    gone = next(stay for stay in real.stays if stay.cancelled_on and stay.refundable)
    all_rows, fewer = expected.totals(DATA), expected.totals(DATA, {gone.row})
    assert fewer.confirmed == all_rows.confirmed - 1
    assert fewer.cancelled == all_rows.cancelled - 1
    assert fewer.gross_minor == all_rows.gross_minor - gone.price_minor
    assert fewer.net_minor == all_rows.net_minor
    assert all_rows.confirmed_by_room[gone.offer] - fewer.confirmed_by_room[gone.offer] == 1
