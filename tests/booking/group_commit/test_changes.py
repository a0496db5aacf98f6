"""A stay is moved without losing a seat or a coin, and counters are recounted while others work."""

from __future__ import annotations

import time
from datetime import UTC, date, datetime, timedelta
from uuid import uuid4

import pytest

from booking_service.domain.booking import Booking, Payment, PaymentKind, PaymentState, State
from booking_service.domain.commands import (
    CancelBooking,
    CapacityRange,
    ExpireHolds,
    Quote,
    RefundPayment,
    RescheduleBooking,
    SetCapacity,
    StartBooking,
    UpdatePackage,
)
from booking_service.domain.money import Money
from booking_service.domain.package import Pricing
from booking_service.domain.policy import CancellationPolicy, Tier
from booking_service.domain.refusal import Reason, Refused
from tests.booking.group_commit.harness import (
    DAY,
    PRICE,
    Harness,
    copy_of,
    drift,
    reasons,
    record,
    refused,
    start,
)

HALF = CancellationPolicy((Tier(0, 5_000),))


def move(booking: Booking, first: int, nights: int, price: int | None = None) -> RescheduleBooking:
    quote = None if price is None else Quote(Money(price, booking.currency), None)
    day = DAY + timedelta(first)
    return RescheduleBooking(booking.id, day, day + timedelta(nights), quote, uuid4())


async def moved(harness: Harness, command: RescheduleBooking) -> Booking:
    booking = await harness.submit(command)
    assert isinstance(booking, Booking)
    return booking


async def owed(harness: Harness, booking: Booking) -> list[int]:
    row = await harness.query(
        "SELECT coalesce(array_agg(amount_minor ORDER BY amount_minor), '{}') FROM refunds"
        " WHERE booking_id = $1",
        booking.id,
    )
    amounts: list[int] = row[0]
    return amounts


async def test_a_stay_moves_in_one_step_and_its_common_nights_are_netted(
    harness: Harness,
) -> None:
    package_id = await harness.package(capacity=1, nights=6)
    stay = await harness.paid(package_id, end_date=DAY + timedelta(3))
    longer = await moved(harness, move(stay, 1, 4))
    assert (longer.state, longer.price_minor, longer.balance_due_minor) == (
        *(State.CONFIRMED, 4 * PRICE, PRICE),
    )
    days = [await harness.counters(package_id, DAY + timedelta(n)) for n in range(6)]
    assert days == [(0, 0), *[(0, 1)] * 4, (0, 0)]
    # Only the difference is due, and paying it settles it; the first payment is as it was.
    first = record(stay, PaymentKind.CAPTURED, 3 * PRICE)
    assert isinstance(await harness.submit(first), Payment)
    whole = record(stay, PaymentKind.CAPTURED, 4 * PRICE, payment_id="two")
    assert await refused(harness.submit(whole)) is Reason.AMOUNT_MISMATCH
    for _ in range(2):
        await harness.submit(record(stay, PaymentKind.CAPTURED, PRICE, payment_id="two"))
    settled = await harness.booking(stay.id)
    assert (settled.balance_due_minor, settled.captured_minor) == (0, 4 * PRICE)
    # Shorter: the difference is given back, and nothing else.
    shorter = await moved(harness, move(stay, 1, 1))
    assert (shorter.price_minor, shorter.balance_due_minor) == (PRICE, 0)
    assert await owed(harness, stay) == [3 * PRICE]
    assert await drift(harness.dsn) == 0


async def test_the_old_days_are_kept_when_the_new_ones_are_taken(harness: Harness) -> None:
    package_id = await harness.package(capacity=1, nights=4)
    stay = await harness.paid(package_id, end_date=DAY + timedelta(2))
    await harness.start(package_id, start_date=DAY + timedelta(3), end_date=DAY + timedelta(4))
    with pytest.raises(Refused) as caught:
        await harness.submit(move(stay, 1, 3))
    # The nights that are his own are not in his way.
    assert caught.value.refusal.metadata["days"] == "2026-05-04=0"
    assert await harness.booking(stay.id) == stay
    days = [await harness.counters(package_id, DAY + timedelta(n)) for n in range(4)]
    assert days == [(0, 1), (0, 1), (0, 0), (1, 0)]


async def test_a_seat_is_never_lost_while_stays_move_and_others_wait_for_them(
    harness: Harness,
) -> None:
    package_id = await harness.package(capacity=2, nights=6)
    stays = [
        await harness.paid(
            package_id, start_date=DAY + timedelta(n % 2), end_date=DAY + timedelta(n % 2 + 1)
        )
        for n in range(4)
    ]
    async with copy_of(harness) as copy:
        asked = [
            bus.submit(move(stay, (n + turn) % 6, 1))
            for turn in range(1, 6)
            for n, stay in enumerate(stays)
            for bus in ((harness, copy)[turn % 2],)
        ]
        rivals = [
            copy.start(
                package_id, start_date=DAY + timedelta(n % 6), end_date=DAY + timedelta(n % 6 + 1)
            )
            for n in range(12)
        ]
        outcomes = await reasons([*asked, *rivals])
    assert set(outcomes) <= {"OK", "SOLD_OUT"}
    assert await drift(harness.dsn) == 0
    row = await harness.query(
        "SELECT count(*), sum(end_date - start_date) FROM bookings WHERE state = 'CONFIRMED'"
    )
    assert tuple(row) == (4, 4)
    assert await owed(harness, stays[0]) == []


async def test_an_unpaid_balance_is_not_refunded(harness: Harness) -> None:
    package_id = await harness.package(capacity=1, cancellation_policy=HALF)
    stay = await harness.paid(package_id)
    await moved(harness, move(stay, 0, 2))
    cancelled = await harness.submit(CancelBooking(stay.id, "", uuid4()))
    assert isinstance(cancelled, Booking)
    # Half of what was paid, not of the dearer stay.
    assert (cancelled.refund_minor, cancelled.balance_due_minor) == (PRICE // 2, 0)
    # The balance comes too late: it is due back.
    late = record(stay, PaymentKind.CAPTURED, PRICE, payment_id="late")
    assert await refused(harness.submit(late)) is Reason.INVALID_TRANSITION
    assert await owed(harness, stay) == [PRICE // 2, PRICE]


async def test_a_balance_can_be_paid_when_the_stay_is_over(harness: Harness) -> None:
    package_id = await harness.package(capacity=1)
    stay = await harness.paid(package_id)
    await moved(harness, move(stay, 0, 2))
    harness.clock.advance(timedelta(days=90))
    await harness.submit(ExpireHolds(package_id))
    paid = await harness.submit(record(stay, PaymentKind.CAPTURED, PRICE, payment_id="two"))
    assert isinstance(paid, Payment)
    assert paid.state is PaymentState.CAPTURED
    assert (await harness.booking(stay.id)).balance_due_minor == 0


async def test_a_stay_that_has_begun_cannot_be_moved(harness: Harness) -> None:
    package_id = await harness.package(capacity=1)
    stay = await harness.paid(package_id, end_date=DAY + timedelta(3))
    # 23:00 UTC is midnight in Lisbon in May.
    harness.clock.advance(timedelta(days=60, hours=11))
    assert await refused(harness.submit(move(stay, 10, 3))) is Reason.NOT_CANCELLABLE
    harness.clock.advance(timedelta(microseconds=1))
    cancelled = await harness.submit(CancelBooking(stay.id, "", uuid4()))
    assert isinstance(cancelled, Booking)
    assert cancelled.refund_minor == 0


async def test_a_previewed_refund_binds_and_a_changed_booking_is_noticed(harness: Harness) -> None:
    package_id = await harness.package(capacity=1, cancellation_policy=HALF)
    stay = await harness.paid(package_id)
    preview = (await harness.bus.preview(CancelBooking(stay.id, "", uuid4()))).outcome
    assert isinstance(preview, Booking)
    assert await harness.booking(stay.id) == stay
    shown = Money(preview.refund_minor or 0, "EUR")
    row = await harness.query("SELECT id FROM payments")
    await harness.submit(RefundPayment(stay.id, row["id"], Money(PRICE - 1, "EUR"), "", uuid4()))
    bound = CancelBooking(stay.id, "", uuid4(), expected_refund=shown)
    assert await refused(harness.submit(bound)) is Reason.FEE_CHANGED
    stale = CancelBooking(stay.id, "", uuid4(), etag='"1-0"')
    assert await refused(harness.submit(stale)) is Reason.ETAG_MISMATCH
    assert (await harness.booking(stay.id)).state is State.CONFIRMED


async def test_quoted_stays_are_moved_at_a_quoted_price(harness: Harness) -> None:
    package_id = await harness.package(capacity=1, pricing=Pricing.QUOTED)
    stay = await harness.paid(package_id, quote=Quote(Money(500, "EUR"), None))
    assert await refused(harness.submit(move(stay, 1, 1))) is Reason.QUOTE_REQUIRED
    for price, balance, due in ((700, 200, []), (600, 100, []), (450, 0, [50]), (500, 50, [50])):
        booking = await moved(harness, move(stay, 1, 1, price))
        assert (booking.price_minor, booking.balance_due_minor) == (price, balance)
        assert await owed(harness, stay) == due


async def test_a_changed_package_applies_only_to_later_bookings(harness: Harness) -> None:
    package_id = await harness.package(capacity=2, nights=1)
    before = await harness.start(package_id)
    policy = CancellationPolicy((Tier(0, 0),))
    changes = {"base_price_minor": 1, "cancellation_policy": policy, "title": "Suite"}
    await harness.submit(UpdatePackage(package_id, changes, ""))
    row = await harness.query("SELECT title, version FROM packages")
    assert tuple(row) == ("Suite", 2)
    after = await harness.start(package_id)
    assert (before.price_minor, after.price_minor) == (PRICE, 1)
    assert (await harness.booking(before.id)).cancellation_policy != policy
    assert after.cancellation_policy == policy


async def test_a_date_is_a_day_in_the_time_zone_of_the_package(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The 29th begins at 23:00 UTC on the 28th, has 23 hours, and is far off at the caller's.
    monkeypatch.setenv("TZ", "America/Los_Angeles")
    time.tzset()
    try:
        day = date(2026, 3, 29)
        package_id = await harness.package(capacity=2, time_zone="Europe/Berlin")
        night = CapacityRange(day, day + timedelta(1), 2)
        await harness.submit(SetCapacity(package_id, (night,)))
        wanted: StartBooking = start(package_id, start_date=day, end_date=day + timedelta(1))
        harness.clock.time = datetime(2026, 3, 28, 22, 59, 59, tzinfo=UTC)
        booking = await harness.submit(wanted)
        assert isinstance(booking, Booking)
        row = await harness.query(
            "SELECT start_date::text, end_date::text, (SELECT day::text FROM package_days"
            " WHERE held > 0) AS day FROM bookings"
        )
        assert tuple(row) == ("2026-03-29", "2026-03-30", "2026-03-29")
        harness.clock.time = datetime(2026, 3, 28, 23, tzinfo=UTC)
        late = start(package_id, start_date=day, end_date=day + timedelta(1))
        assert await refused(harness.submit(late)) is Reason.PAST_CUTOFF
    finally:
        monkeypatch.undo()
        time.tzset()
