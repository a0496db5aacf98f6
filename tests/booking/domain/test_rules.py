"""The pure rules: money, policies, price, sale windows, and that deciding changes nothing."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from uuid import UUID, uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from booking_service.domain.booking import Booking, State
from booking_service.domain.commands import Quote, StartBooking
from booking_service.domain.decide import decide
from booking_service.domain.holds import Limits
from booking_service.domain.inventory import Day
from booking_service.domain.money import Money, exponent, share
from booking_service.domain.package import Package, PackageStatus, Pricing
from booking_service.domain.policy import CancellationPolicy, Tier, refund_minor
from booking_service.domain.refusal import Reason, Refusal
from booking_service.domain.sale import unavailable_reason
from booking_service.domain.world import Changes, World
from booking_service.group_commit import stored_answers

NOW = datetime(2026, 3, 28, 23, 30, tzinfo=UTC)
DAY = date(2026, 3, 29)

PACKAGE = Package(
    id=UUID(int=1),
    vendor_id=UUID(int=2),
    title="Room",
    type="hotel_room",
    location="Berlin",
    time_zone="Europe/Berlin",
    status=PackageStatus.ACTIVE,
    bookable_from=None,
    bookable_until=None,
    base_price_minor=1050,
    currency="EUR",
    pricing=Pricing.PER_UNIT_DAY,
    min_party_size=1,
    max_party_size=4,
    cutoff_s=0,
    hold_ttl_s=60,
    cancellation_policy=CancellationPolicy(),
    version=1,
    create_time=NOW,
    update_time=NOW,
)
START = StartBooking(
    booking_id=UUID(int=3),
    package_id=PACKAGE.id,
    user_id="ada",
    session_id="",
    start_date=DAY + timedelta(days=1),
    end_date=DAY + timedelta(days=3),
    quantity=2,
    party_size=4,
    quote=None,
)


def world(package: Package = PACKAGE, capacity: int = 5) -> World:
    made = World()
    days = {(package.id, DAY + timedelta(days=n)): Day(capacity) for n in range(5)}
    made.merge(Changes(packages={package.id: package}, days=days))
    return made


def start(package: Package = PACKAGE, now: datetime = NOW, **changes: object) -> Booking | Reason:
    command = replace(START, **changes)  # type: ignore[arg-type] # a shorthand for tests
    outcome = decide(command, world(package), now, Limits()).outcome
    if isinstance(outcome, Refusal):
        return outcome.reason
    assert isinstance(outcome, Booking)
    return outcome


@pytest.mark.parametrize(("code", "digits"), [("JPY", 0), ("EUR", 2), ("KWD", 3), ("XXX", None)])
def test_exponents_are_the_currencies_own(code: str, digits: int | None) -> None:
    assert exponent(code) == digits


@pytest.mark.parametrize(
    ("minor", "basis_points", "expected"),
    [(100, 5000, 50), (1, 5000, 0), (3, 5000, 2), (5, 5000, 2), (999, 10_000, 999), (7, 0, 0)],
)
def test_a_share_is_rounded_half_to_even(minor: int, basis_points: int, expected: int) -> None:
    assert share(minor, basis_points) == expected


@given(st.integers(0, 10**15), st.integers(0, 10_000))
def test_a_share_is_exact_to_half_a_minor_unit(minor: int, basis_points: int) -> None:
    assert abs(share(minor, basis_points) * 10_000 - minor * basis_points) <= 5_000


@pytest.mark.parametrize(
    ("left_s", "expected"), [(7200, 1000), (7199, 500), (0, 500), (-1, 0), (10**9, 1000)]
)
def test_the_longest_tier_that_fits_decides(left_s: int, expected: int) -> None:
    policy = CancellationPolicy((Tier(7200, 10_000), Tier(0, 5_000)))
    assert refund_minor(policy, 1000, left_s) == expected


def test_the_price_is_units_times_days() -> None:
    booking = start()
    assert isinstance(booking, Booking)
    assert (booking.price, booking.state) == (Money(1050 * 2 * 2, "EUR"), State.HELD)


def test_a_shown_price_must_be_the_real_one() -> None:
    assert isinstance(start(quote=Quote(Money(4200, "EUR"), None)), Booking)
    assert start(quote=Quote(Money(4199, "EUR"), None)) is Reason.PRICE_CHANGED
    assert start(quote=Quote(Money(4200, "USD"), None)) is Reason.CURRENCY_MISMATCH


def test_a_quoted_package_takes_the_callers_price_and_policy() -> None:
    quoted = replace(PACKAGE, pricing=Pricing.QUOTED)
    assert start(quoted) is Reason.QUOTE_REQUIRED
    policy = CancellationPolicy((Tier(0, 1),))
    booking = start(quoted, quote=Quote(Money(7, "EUR"), policy))
    assert isinstance(booking, Booking)
    assert (booking.price_minor, booking.cancellation_policy) == (7, policy)


def test_selling_ends_when_the_day_begins_where_the_package_is() -> None:
    # 2026-03-29 begins in Berlin at 23:00 UTC on the 28th; it has 23 hours.
    assert start(start_date=DAY, end_date=DAY + timedelta(1)) is Reason.PAST_CUTOFF
    before = NOW - timedelta(hours=1)
    assert isinstance(
        start(now=before, start_date=DAY, end_date=DAY + timedelta(1), quantity=1), Booking
    )
    late = replace(PACKAGE, cutoff_s=24 * 3600)
    assert start(late) is Reason.PAST_CUTOFF


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"status": PackageStatus.CLOSED}, Reason.PACKAGE_CLOSED),
        ({"bookable_from": DAY + timedelta(2)}, Reason.PACKAGE_CLOSED),
        ({"bookable_until": DAY + timedelta(2)}, Reason.PACKAGE_CLOSED),
        ({"max_party_size": 3}, Reason.PARTY_SIZE),
        ({"max_party_per_unit": 1}, Reason.PARTY_SIZE),
    ],
)
def test_what_is_not_on_sale_is_refused(changes: dict[str, object], reason: Reason) -> None:
    assert start(replace(PACKAGE, **changes)) is reason  # type: ignore[arg-type] # a shorthand


def test_a_day_without_capacity_is_sold_out() -> None:
    assert start(end_date=DAY + timedelta(days=8)) is Reason.SOLD_OUT


@pytest.mark.parametrize(
    ("package", "now", "free"),
    [
        (PACKAGE, NOW, 2),
        (PACKAGE, NOW, 1),
        (replace(PACKAGE, status=PackageStatus.CLOSED), NOW, 2),
        (replace(PACKAGE, bookable_until=DAY + timedelta(2)), NOW, 0),
        (replace(PACKAGE, cutoff_s=24 * 3600), NOW, 2),
        (PACKAGE, NOW + timedelta(days=1), 2),
    ],
)
def test_availability_gives_the_reason_of_a_start(
    package: Package, now: datetime, free: int
) -> None:
    days = [(START.start_date + timedelta(n), Day(free)) for n in range(2)]
    shown = unavailable_reason(package, days, START.quantity, now)
    stocked = world(package, capacity=free)
    outcome = decide(START, stocked, now, Limits()).outcome
    assert shown is (outcome.reason if isinstance(outcome, Refusal) else None)


def test_deciding_leaves_the_world_as_it_is_and_is_repeatable() -> None:
    known = world()
    first = decide(START, known, NOW, Limits())
    assert first == decide(START, known, NOW, Limits())
    assert known == world()
    known.merge(first.changes)
    assert known.days[PACKAGE.id, START.start_date] == Day(5, held=2)


def test_every_answer_survives_being_stored() -> None:
    booking = start()
    refusal = Refusal(Reason.SOLD_OUT, "no", {"days": "2026-03-29=0"})
    for outcome in (booking, PACKAGE, 3, refusal, replace(PACKAGE, id=uuid4())):
        assert stored_answers.decode(stored_answers.encode(outcome)) == outcome  # type: ignore[arg-type]
