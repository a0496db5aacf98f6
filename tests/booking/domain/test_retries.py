"""Which failed payments are handed out: each once per lease, and only while it can be accepted."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from uuid import UUID

import pytest

from booking_service.domain.booking import Booking, Payment, PaymentState, State
from booking_service.domain.commands import ClaimPayments, PaymentToClaim
from booking_service.domain.decide import decide
from booking_service.domain.holds import Limits
from booking_service.domain.package import Package, PackageStatus, Pricing
from booking_service.domain.policy import CancellationPolicy
from booking_service.domain.world import Changes, Decision, World

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
DAY = date(2026, 5, 1)
PRICE, BALANCE = 10_000, 700

PACKAGE = Package(
    id=UUID(int=1),
    vendor_id=UUID(int=2),
    title="Room",
    type="hotel_room",
    location="Lisbon",
    time_zone="Europe/Lisbon",
    status=PackageStatus.ACTIVE,
    bookable_from=None,
    bookable_until=None,
    base_price_minor=PRICE,
    currency="EUR",
    pricing=Pricing.PER_UNIT_DAY,
    min_party_size=1,
    max_party_size=4,
    cutoff_s=0,
    hold_ttl_s=900,
    cancellation_policy=CancellationPolicy(),
    version=1,
    create_time=NOW,
    update_time=NOW,
)
BOOKING = Booking(
    id=UUID(int=3),
    package_id=PACKAGE.id,
    vendor_id=PACKAGE.vendor_id,
    user_id="ada",
    session_id="",
    state=State.PENDING_PAYMENT,
    start_date=DAY,
    end_date=DAY + timedelta(days=1),
    quantity=1,
    party_size=1,
    price_minor=PRICE,
    currency="EUR",
    cancellation_policy=CancellationPolicy(),
    hold_expire_time=NOW + timedelta(minutes=15),
    complete_time=NOW,
    confirm_time=None,
    end_time=None,
    end_reason="",
    refund_minor=None,
    refunded_minor=0,
    version=2,
    create_time=NOW,
    update_time=NOW,
)
PAYMENT = Payment(
    id=UUID(int=4),
    booking_id=BOOKING.id,
    provider="stripe",
    payment_id="pay-1",
    state=PaymentState.FAILED,
    amount_minor=PRICE,
    currency="EUR",
    refunded_minor=0,
    failure_code="",
    version=1,
    create_time=NOW,
    update_time=NOW,
    next_retry_time=NOW,
)
TO_CLAIM = PaymentToClaim(PAYMENT.id, BOOKING.id, PACKAGE.id)


def claimed(
    payment: Payment = PAYMENT,
    booking: Booking = BOOKING,
    package: Package = PACKAGE,
    now: datetime = NOW,
) -> Decision:
    world = World()
    world.merge(
        Changes(
            packages={package.id: package},
            bookings={booking.id: booking},
            payments={payment.key: payment},
        )
    )
    return decide(ClaimPayments((TO_CLAIM,), lease_s=60), world, now, Limits())


def test_what_is_handed_out_is_due_again_after_the_lease() -> None:
    decision = claimed()
    leased = replace(
        PAYMENT, next_retry_time=NOW + timedelta(minutes=1), version=2, update_time=NOW
    )
    assert decision.outcome == (leased,)
    assert decision.changes.payments == {PAYMENT.key: leased}
    assert not decision.changes.events
    assert claimed(leased, now=NOW + timedelta(seconds=59)).outcome == ()
    assert claimed(leased, now=NOW + timedelta(seconds=60)).outcome != ()


@pytest.mark.parametrize(
    "payment",
    [
        replace(PAYMENT, next_retry_time=NOW + timedelta(microseconds=1)),
        replace(PAYMENT, next_retry_time=None),
        replace(PAYMENT, state=PaymentState.CAPTURED, next_retry_time=None),
        replace(PAYMENT, id=UUID(int=9)),
    ],
    ids=["claimed meanwhile", "given up", "captured meanwhile", "not there"],
)
def test_what_is_not_due_any_more_is_left_alone(payment: Payment) -> None:
    decision = claimed(payment)
    assert decision.outcome == ()
    assert not decision.changes


@pytest.mark.parametrize("state", list(State))
def test_a_payment_that_could_only_be_paid_back_is_given_up(state: State) -> None:
    decision = claimed(booking=replace(BOOKING, state=state))
    if state in (State.HELD, State.PENDING_PAYMENT, State.EXPIRED):
        assert len(decision.outcome) == 1  # type: ignore[arg-type] # a tuple of payments
        return
    assert decision.outcome == ()
    (given_up,) = decision.changes.payments.values()
    assert given_up == replace(PAYMENT, next_retry_time=None, version=2, update_time=NOW)


@pytest.mark.parametrize(
    ("amount_minor", "balance_due_minor", "handed_out"),
    [(BALANCE, BALANCE, True), (PRICE, BALANCE, False), (BALANCE, 0, False), (0, 0, False)],
)
@pytest.mark.parametrize("state", [State.CONFIRMED, State.FULFILLED])
def test_of_a_confirmed_stay_only_the_balance_is_tried_again(
    state: State, amount_minor: int, balance_due_minor: int, handed_out: bool
) -> None:
    decision = claimed(
        replace(PAYMENT, amount_minor=amount_minor),
        replace(BOOKING, state=state, balance_due_minor=balance_due_minor),
    )
    assert bool(decision.outcome) == handed_out


@pytest.mark.parametrize(
    ("package", "now", "handed_out"),
    [
        (PACKAGE, PACKAGE.begins(DAY) - timedelta(microseconds=1), True),
        (PACKAGE, PACKAGE.begins(DAY), False),
        (replace(PACKAGE, status=PackageStatus.CLOSED), NOW, False),
        (replace(PACKAGE, bookable_until=DAY), NOW, False),
    ],
    ids=["just on sale", "past the cutoff", "closed", "outside the window"],
)
def test_an_expired_booking_is_waited_for_while_its_days_are_on_sale(
    package: Package, now: datetime, handed_out: bool
) -> None:
    decision = claimed(booking=replace(BOOKING, state=State.EXPIRED), package=package, now=now)
    assert bool(decision.outcome) == handed_out
