"""A hold ends once and by its deadline, keeps its price as long as it lasts, and is limited."""

from __future__ import annotations

from datetime import timedelta
from uuid import uuid4

import pytest

from booking_service.domain.booking import Booking, Payment, PaymentKind, PaymentState, State
from booking_service.domain.commands import (
    AbandonBooking,
    CancelBooking,
    CompleteBooking,
    ExpireHolds,
    ExtendHold,
    FailBooking,
    Quote,
    StartBatch,
    UpdatePackage,
)
from booking_service.domain.holds import Limits
from booking_service.domain.money import Money
from booking_service.domain.refusal import Reason, Refused
from tests.booking.group_commit.harness import (
    DAY,
    PRICE,
    Harness,
    confirm,
    copy_of,
    patient,
    reasons,
    record,
    refused,
    start,
)

TTL = timedelta(minutes=15)


async def test_a_hold_that_is_never_paid_for_stops_blocking_at_its_deadline(
    harness: Harness,
) -> None:
    package_id = await harness.package(capacity=1, nights=1)
    waiting = await harness.start(package_id)
    await harness.submit(CompleteBooking(waiting.id))
    await harness.submit(record(waiting, PaymentKind.AUTHORISED, PRICE))
    harness.clock.time = waiting.hold_expire_time - timedelta(microseconds=1)
    assert await harness.submit(ExpireHolds(package_id)) == 0
    assert await refused(harness.start(package_id)) is Reason.SOLD_OUT
    # At the very instant, and without a sweeper.
    harness.clock.time = waiting.hold_expire_time
    await harness.start(package_id)
    assert (await harness.booking(waiting.id)).state is State.EXPIRED
    assert await harness.counters(package_id) == (1, 0)


@pytest.mark.parametrize(
    "end",
    [
        lambda booking: AbandonBooking(booking.id, ""),
        lambda booking: FailBooking(booking.id, "TIMEOUT"),
        lambda booking: CancelBooking(booking.id, "", uuid4()),
        lambda booking: ExpireHolds(booking.package_id),
    ],
)
async def test_a_hold_ends_once_by_every_way_to_end_it(harness: Harness, end: object) -> None:
    package_id = await harness.package(capacity=2, nights=1)
    booking = await harness.start(package_id)
    await harness.start(package_id)
    harness.clock.advance(TTL + timedelta(seconds=1))
    ends = [end(booking), AbandonBooking(booking.id, ""), FailBooking(booking.id, "TIMEOUT")]  # type: ignore[operator] # one of the above
    async with copy_of(harness) as copy:
        await reasons(bus.submit(command) for command in ends * 3 for bus in (harness, copy))
        # Lapsed: nothing else can end it any more.
        assert (await harness.booking(booking.id)).state is State.EXPIRED
    row = await harness.query(
        "SELECT count(*) FROM booking_events WHERE booking_id = $1 AND to_state <> 'HELD'",
        booking.id,
    )
    assert row[0] == 1
    await harness.submit(ExpireHolds(package_id))
    assert await harness.counters(package_id) == (0, 0)


async def test_a_price_is_locked_until_the_hold_ends(harness: Harness) -> None:
    package_id = await harness.package(capacity=1, nights=1)
    booking = await harness.start(package_id)
    await harness.submit(UpdatePackage(package_id, {"base_price_minor": PRICE * 2}, ""))
    extended = await harness.submit(ExtendHold(booking.id))
    assert isinstance(extended, Booking)
    assert extended.price_minor == PRICE
    await harness.submit(CompleteBooking(booking.id))
    doubled = record(booking, PaymentKind.CAPTURED, PRICE * 2)
    assert await refused(harness.submit(doubled)) is Reason.AMOUNT_MISMATCH
    harness.clock.advance(TTL + timedelta(seconds=1))
    # A new hold has the new price, and the old one is no offer any more.
    old = Quote(Money(PRICE, "EUR"), None)
    assert await refused(harness.start(package_id, quote=old)) is Reason.PRICE_CHANGED
    assert (await harness.start(package_id)).price_minor == PRICE * 2


async def test_an_extension_is_bounded_and_never_shortens_a_hold(harness: Harness) -> None:
    package_id = await harness.package(capacity=1)
    booking = await harness.start(package_id)
    await harness.submit(UpdatePackage(package_id, {"hold_ttl_s": 1}, ""))
    extended = await harness.submit(ExtendHold(booking.id))
    assert isinstance(extended, Booking)
    assert (extended.hold_expire_time, extended.extensions) == (booking.hold_expire_time, 1)
    outcomes = await reasons(harness.submit(ExtendHold(booking.id)) for _ in range(3))
    assert sorted(outcomes) == ["EXTEND_LIMIT", "OK", "OK"]
    harness.clock.time = booking.hold_expire_time
    assert await refused(harness.submit(ExtendHold(booking.id))) is Reason.HOLD_EXPIRED
    assert await harness.counters(package_id) == (0, 0)


async def test_a_user_never_has_more_holds_than_allowed_by_concurrent_starts(
    harness: Harness,
) -> None:
    packages = [await harness.package(capacity=9, nights=1) for _ in range(4)]
    async with copy_of(harness) as copy:
        asked = [
            bus.start(package_id, user_id="ada")
            for package_id in packages
            for bus in (harness, copy, harness)
        ]
        outcomes = await reasons(asked)
    # Three in all, and one for each package.
    assert outcomes.count("OK") == 3
    assert set(outcomes) <= {"OK", "HOLD_LIMIT", "ALREADY_HELD"}
    row = await harness.query(
        "SELECT count(*), count(DISTINCT package_id) FROM bookings WHERE user_id = 'ada'"
    )
    assert tuple(row) == (3, 3)


async def test_a_batch_counts_its_own_holds_against_the_limits(harness: Harness) -> None:
    package_id = await harness.package(capacity=9)
    twice = StartBatch(tuple(start(package_id, user_id="ada") for _ in range(2)))
    assert await refused(harness.submit(twice)) is Reason.ALREADY_HELD
    packages = [await harness.package(capacity=9) for _ in range(4)]
    four = StartBatch(tuple(start(package, user_id="ada") for package in packages))
    assert await refused(harness.submit(four)) is Reason.HOLD_LIMIT
    assert (await harness.query("SELECT count(*) FROM bookings"))[0] == 0


async def test_the_second_start_of_a_user_in_one_group_is_refused_as_already_held(
    harness: Harness,
) -> None:
    package_id = await harness.package(capacity=9)
    commands = [start(package_id, user_id="ada") for _ in range(2)]
    first = harness.submit(commands[0])
    refusals = await reasons([first, harness.submit(commands[1])])
    assert refusals == ["OK", "ALREADY_HELD"]
    request_id = uuid4()
    with pytest.raises(Refused) as caught:
        await harness.submit(start(package_id, user_id="ada"), request_id=request_id)
    assert caught.value.refusal.metadata["booking_id"] == str(commands[0].booking_id)


@pytest.mark.parametrize(("limited", "expected"), [(True, "ALREADY_HELD"), (False, "OK")])
async def test_the_same_user_twice_is_one_hold_by_request_id_and_else_by_policy(
    harness: Harness, limited: bool, expected: str
) -> None:
    await harness.bus.stop()
    limits = Limits(one_live_hold_per_user_and_package=limited)
    harness.bus = patient(harness.database, limits=limits)
    harness.bus.start()
    package_id = await harness.package(capacity=9, nights=1)
    command, request_id = start(package_id, user_id="ada"), uuid4()
    first = await harness.submit(command, request_id=request_id)
    assert await harness.submit(command, request_id=request_id) == first
    other = start(package_id, user_id="ada")
    assert await reasons([harness.submit(other, request_id=uuid4())]) == [expected]
    assert await harness.counters(package_id) == (1 if limited else 2, 0)


async def test_a_payment_for_a_stay_that_is_over_is_due_back(harness: Harness) -> None:
    package_id = await harness.package(capacity=1, nights=1)
    swept, lapsed = await harness.package(1, nights=1), await harness.start(package_id)
    expired = await harness.start(swept)
    for booking in (lapsed, expired):
        await harness.submit(CompleteBooking(booking.id))
    harness.clock.advance(timedelta(days=90))
    await harness.submit(ExpireHolds(swept))
    for booking in (lapsed, expired):
        assert booking.end_date < harness.clock.time.date()
        assert await refused(harness.submit(confirm(booking))) is Reason.HOLD_EXPIRED
        assert (await harness.booking(booking.id)).state is State.EXPIRED
        assert await harness.counters(booking.package_id, DAY) == (0, 0)
    row = await harness.query("SELECT array_agg(state) FROM payments")
    assert row[0] == ["REFUND_DUE"] * 2


async def test_an_expired_booking_is_paid_late_and_again_and_keeps_one_payment(
    harness: Harness,
) -> None:
    package_id = await harness.package(capacity=1, nights=1)
    booking = await harness.start(package_id)
    await harness.submit(CompleteBooking(booking.id))
    harness.clock.advance(TTL + timedelta(seconds=1))
    other = await harness.start(package_id)
    first = record(booking, PaymentKind.CAPTURED, PRICE, payment_id="first")
    assert await refused(harness.submit(first)) is Reason.HOLD_EXPIRED
    await harness.submit(AbandonBooking(other.id, ""))
    second = record(booking, PaymentKind.CAPTURED, PRICE, payment_id="second")
    assert isinstance(await harness.submit(second), Payment)
    back = record(booking, PaymentKind.REFUNDED, 400, payment_id="first", refund_id="a")
    rest = record(booking, PaymentKind.REFUNDED, PRICE - 400, payment_id="first", refund_id="b")
    states = []
    for refund in (back, rest):
        payment = await harness.submit(refund)
        assert isinstance(payment, Payment)
        states.append(payment.state)
    # What could not be taken is due until it is back in full, and was never revenue.
    assert states == [PaymentState.REFUND_DUE, PaymentState.REFUNDED]
    stay = await harness.booking(booking.id)
    assert (stay.state, stay.captured_minor, stay.refunded_minor) == (State.CONFIRMED, PRICE, 0)
    sent = [event.payment for event in await harness.facts() if event.HasField("payment")]
    returned = [fact for fact in sent if fact.kind == fact.REFUNDED]
    assert [(fact.amount_minor, fact.confirm_time_us) for fact in returned] == [
        (400, 0),
        (PRICE - 400, 0),
    ]
