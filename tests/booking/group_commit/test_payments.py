"""Money is taken once, given back at most once, and exact to the minor unit."""

from __future__ import annotations

import asyncio
import random
from datetime import timedelta
from uuid import uuid4

import pytest

from booking_service.domain.booking import Booking, Payment, PaymentKind, PaymentState, State
from booking_service.domain.commands import (
    CancelBooking,
    ClaimPayments,
    CompleteBooking,
    ConfirmBooking,
    PaymentToClaim,
    RecordPayment,
    RefundPayment,
)
from booking_service.domain.money import Money
from booking_service.domain.refusal import Reason
from tests.booking.group_commit.harness import (
    PRICE,
    Harness,
    confirm,
    copy_of,
    drift,
    reasons,
    record,
    refused,
)


async def payments_of(harness: Harness, booking: Booking) -> list[tuple[str, int, int]]:
    row = await harness.query(
        "SELECT array_agg((state, amount_minor, refunded_minor) ORDER BY payment_id) AS all"
        " FROM payments WHERE booking_id = $1",
        booking.id,
    )
    return [tuple(each) for each in row["all"]]


@pytest.mark.parametrize("seed", range(3))
async def test_an_event_sent_ten_times_in_any_order_takes_effect_once(
    harness: Harness, seed: int
) -> None:
    package_id = await harness.package(capacity=1, nights=1)
    booking = await harness.start(package_id)
    said = [
        record(booking, PaymentKind.AUTHORISED, PRICE),
        record(booking, PaymentKind.FAILED, PRICE),
        record(booking, PaymentKind.CAPTURED, PRICE),
    ] * 10
    random.Random(seed).shuffle(said)
    async with copy_of(harness) as copy:
        asked = [(harness, copy)[n % 2].submit(event) for n, event in enumerate(said)]
        assert await reasons(asked) == ["OK"] * 30
        back = [
            record(booking, PaymentKind.REFUNDED, 1, refund_id=f"re-{n % 2}") for n in range(20)
        ]
        assert await reasons(map(copy.submit, back)) == ["OK"] * 20
    stay = await harness.booking(booking.id)
    assert (stay.state, stay.version, stay.refunded_minor) == (State.CONFIRMED, 3, 2)
    assert await payments_of(harness, booking) == [("PARTIALLY_REFUNDED", PRICE, 2)]
    sent = [fact.payment for fact in await harness.facts() if fact.HasField("payment")]
    assert [fact.kind for fact in sent].count(sent[0].CAPTURED) == 1
    assert [fact.kind for fact in sent].count(sent[0].REFUNDED) == 2


async def test_a_late_failure_of_the_first_attempt_changes_nothing_after_the_second_succeeded(
    harness: Harness,
) -> None:
    package_id = await harness.package(capacity=1, nights=1)
    booking = await harness.start(package_id)
    await harness.submit(record(booking, PaymentKind.AUTHORISED, PRICE, payment_id="one"))
    await harness.submit(record(booking, PaymentKind.CAPTURED, PRICE, payment_id="two"))
    before = await harness.booking(booking.id)
    failed = await harness.submit(record(booking, PaymentKind.FAILED, PRICE, payment_id="one"))
    assert isinstance(failed, Payment)
    assert await harness.booking(booking.id) == before
    assert await harness.counters(package_id) == (0, 1)
    # And no second charge is asked for.
    due = PaymentToClaim(failed.id, booking.id, package_id)
    harness.clock.advance(timedelta(hours=1))
    assert await harness.submit(ClaimPayments((due,), 60)) == ()


async def test_a_redelivery_after_our_failure_still_applies(harness: Harness) -> None:
    package_id = await harness.package(capacity=1, nights=1)
    booking = await harness.start(package_id)
    event, request_id = record(booking, PaymentKind.CAPTURED, PRICE), uuid4()
    await run(harness, "ALTER TABLE payments RENAME TO payments_away")
    # Our fault: nothing is known of what was said.
    with pytest.raises(Exception, match="42P01"):
        await harness.submit(event, request_id=request_id)
    await run(harness, "ALTER TABLE payments_away RENAME TO payments")
    answer = await harness.submit(event, request_id=request_id)
    assert isinstance(answer, Payment)
    assert answer.state is PaymentState.CAPTURED
    assert (await harness.booking(booking.id)).state is State.CONFIRMED


async def run(harness: Harness, sql: str) -> None:
    connection = await harness.database.connect("test")
    await connection.execute(sql)
    await connection.close()


@pytest.mark.parametrize("browser_first", [True, False])
async def test_browser_and_provider_confirm_once_in_either_order_and_both_get_the_booking(
    harness: Harness, browser_first: bool
) -> None:
    async with copy_of(harness) as copy:
        for _ in range(5):
            package_id = await harness.package(capacity=1, nights=1)
            booking = await harness.start(package_id)
            await harness.submit(CompleteBooking(booking.id))
            asked = [
                harness.submit(confirm(booking)),
                copy.submit(record(booking, PaymentKind.CAPTURED, PRICE)),
            ]
            answers = await asyncio.gather(*(asked if browser_first else reversed(asked)))
            confirmed = [answer for answer in answers if isinstance(answer, Booking)]
            paid = [answer for answer in answers if isinstance(answer, Payment)]
            assert [answer.state for answer in confirmed] == [State.CONFIRMED]
            assert [(answer.state, answer.booking_id) for answer in paid] == [
                (PaymentState.CAPTURED, booking.id)
            ]
            assert await harness.booking(booking.id) == confirmed[0]
            assert await payments_of(harness, booking) == [("CAPTURED", PRICE, 0)]
            assert await harness.counters(package_id) == (0, 1)


async def test_refunds_in_parallel_never_exceed_what_was_captured(harness: Harness) -> None:
    package_id = await harness.package(capacity=1, nights=1)
    booking = await harness.paid(package_id)
    row = await harness.query("SELECT id FROM payments")
    part = Money(3_000, "EUR")
    async with copy_of(harness) as copy:
        asked = [
            bus.submit(RefundPayment(booking.id, row["id"], part, "", uuid4()))
            for _ in range(5)
            for bus in (harness, copy)
        ]
        cancelled = harness.submit(CancelBooking(booking.id, "", uuid4()))
        outcomes = await reasons([*asked, cancelled])
        owed = await harness.query("SELECT sum(amount_minor) FROM refunds")
        assert owed[0] == PRICE
        assert set(outcomes[:-1]) == {"OK", "OVER_REFUND"}
        assert outcomes[-1] == "OK"
        # Whatever a provider says was paid back, too.
        back = [
            bus.submit(record(booking, PaymentKind.REFUNDED, 4_000, refund_id=f"re-{n}"))
            for n in range(4)
            for bus in (harness, copy)
        ]
        ended = await reasons(back)
    assert (ended.count("OK"), ended.count("OVER_REFUND")) == (4, 4)
    assert await payments_of(harness, booking) == [("PARTIALLY_REFUNDED", PRICE, 8_000)]


@pytest.mark.parametrize("currency", ["JPY", "USD", "KWD"])
async def test_an_amount_is_the_same_wherever_it_is_stored_and_sent(
    harness: Harness, currency: str
) -> None:
    minor = 9_007_199_254_740_993  # One that no float holds.
    package_id = await harness.package(1, nights=1, currency=currency, base_price_minor=minor)
    booking = await harness.paid(package_id)
    assert booking.price == Money(minor, currency)
    cancelled = await harness.submit(CancelBooking(booking.id, "", uuid4()))
    assert isinstance(cancelled, Booking)
    assert cancelled.refund_minor == minor
    await harness.submit(record(booking, PaymentKind.REFUNDED, minor, refund_id="re"))
    assert await payments_of(harness, booking) == [("REFUNDED", minor, minor)]
    sent = [fact for fact in await harness.facts() if fact.HasField("payment")]
    assert [(f.payment.amount_minor, f.payment.currency) for f in sent] == [(minor, currency)] * 2


async def test_a_payment_that_differs_from_the_booking_is_refused_and_stores_nothing(
    harness: Harness,
) -> None:
    package_id = await harness.package(capacity=1, nights=1)
    booking = await harness.start(package_id)
    await harness.submit(CompleteBooking(booking.id))

    def pay(amount: Money) -> list[ConfirmBooking | RecordPayment]:
        row, owed = uuid4(), uuid4()
        return [
            ConfirmBooking(booking.id, "p", "1", amount, row, owed),
            RecordPayment(booking.id, "p", "1", PaymentKind.CAPTURED, amount, "", "", row, owed),
        ]

    for minor, currency, reason in (
        (PRICE - 1, "EUR", Reason.AMOUNT_MISMATCH),
        (PRICE + 1, "EUR", Reason.AMOUNT_MISMATCH),
        (PRICE, "USD", Reason.CURRENCY_MISMATCH),
    ):
        for payment in pay(Money(minor, currency)):
            assert await refused(harness.submit(payment)) is reason
    assert (await harness.query("SELECT count(*) FROM payments"))[0] == 0
    assert (await harness.booking(booking.id)).state is State.PENDING_PAYMENT


async def test_a_cancellation_while_the_payment_is_confirmed_ends_one_way(
    harness: Harness,
) -> None:
    ends: set[tuple[str, str]] = set()
    async with copy_of(harness) as copy:
        for n in range(12):
            package_id = await harness.package(capacity=1, nights=1)
            booking = await harness.start(package_id)
            await harness.submit(CompleteBooking(booking.id))
            pay = harness.submit(confirm(booking))
            cancel = copy.submit(CancelBooking(booking.id, "", uuid4()))
            both = [cancel, pay] if n % 2 else [pay, cancel]
            outcomes = await reasons(both)
            paid, cancelled = reversed(outcomes) if n % 2 else outcomes
            stay = await harness.booking(booking.id)
            owed = await harness.query(
                "SELECT coalesce(sum(amount_minor), 0) FROM refunds WHERE booking_id = $1",
                booking.id,
            )
            # Either way the booking is cancelled, and all of the money is due back.
            assert cancelled == "OK"
            if paid == "OK":
                assert (stay.state, stay.refund_minor, owed[0]) == (State.CANCELLED, PRICE, PRICE)
            else:
                assert paid == "INVALID_TRANSITION"
                assert (stay.state, stay.refund_minor, owed[0]) == (State.ABANDONED, None, PRICE)
            assert await harness.counters(package_id) == (0, 0)
            ends.add((paid, cancelled))
    assert await drift(harness.dsn) == 0
