"""Commands against the real database: grouping, idempotency, holds, locks from outside."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import asyncpg
import pytest

from booking_service.domain.booking import (
    Booking,
    Payment,
    PaymentKind,
    PaymentState,
    State,
)
from booking_service.domain.commands import (
    AbandonBooking,
    CancelBooking,
    CapacityRange,
    CompleteBooking,
    ConfirmBooking,
    ExpireHolds,
    FulfilStays,
    SetCapacity,
)
from booking_service.domain.money import Money
from booking_service.domain.refusal import Reason, Refused
from booking_service.group_commit.bus import CommandBus
from booking_service.storage.database import Database
from tests.booking.group_commit.harness import (
    DAY,
    PRICE,
    Harness,
    confirm,
    patient,
    record,
    refused,
    start,
)


async def test_a_booking_goes_from_hold_to_confirmed_and_cancelled(harness: Harness) -> None:
    package_id = await harness.package(capacity=5)
    booking = await harness.start(package_id, quantity=2, end_date=DAY + timedelta(days=3))
    assert (booking.state, booking.price_minor) == (State.HELD, PRICE * 2 * 3)
    assert booking.hold_expire_time == booking.create_time + timedelta(minutes=15)
    assert await harness.counters(package_id) == (2, 0)
    completed = await harness.submit(CompleteBooking(booking.id))
    assert isinstance(completed, Booking)
    assert completed.state is State.PENDING_PAYMENT
    confirmed = await harness.submit(confirm(booking))
    assert isinstance(confirmed, Booking)
    assert confirmed.state is State.CONFIRMED
    assert await harness.counters(package_id) == (0, 2)
    cancelled = await harness.submit(CancelBooking(booking.id, "changed plans", uuid4()))
    assert isinstance(cancelled, Booking)
    assert (cancelled.state, cancelled.refund_minor) == (State.CANCELLED, booking.price_minor)
    assert await harness.counters(package_id) == (0, 0)
    refund = record(booking, PaymentKind.REFUNDED, booking.price_minor, refund_id="re-1")
    for _ in range(3):
        paid_back = await harness.submit(refund)
        assert isinstance(paid_back, Payment)
        assert paid_back.state is PaymentState.REFUNDED
    row = await harness.query(
        "SELECT state, refunded_minor FROM bookings WHERE id = $1", booking.id
    )
    assert tuple(row) == ("CANCELLED", booking.price_minor)
    assert (await harness.query("SELECT state FROM refunds"))["state"] == "COMPLETED"
    events = await harness.facts()
    assert [event.booking.transition for event in events if event.HasField("booking")] == [
        1,
        2,
        3,
        5,
    ]
    assert [event.booking.version for event in events if event.HasField("booking")] == [1, 2, 3, 4]
    assert [event.payment.kind for event in events if event.HasField("payment")] == [2, 4]
    assert all(event.session_id == "session" for event in events)
    audit = await harness.query("SELECT array_agg(transition ORDER BY version) FROM booking_events")
    assert audit[0] == ["STARTED", "COMPLETED", "CONFIRMED", "CANCELLED"]


async def test_twenty_parallel_starts_on_ten_seats_hold_ten(harness: Harness) -> None:
    package_id = await harness.package(capacity=10)
    outcomes = await asyncio.gather(
        *(harness.start(package_id) for _ in range(20)), return_exceptions=True
    )
    held = [outcome for outcome in outcomes if isinstance(outcome, Booking)]
    sold_out = [outcome for outcome in outcomes if isinstance(outcome, Refused)]
    assert (len(held), len(sold_out)) == (10, 10)
    assert {error.refusal.reason for error in sold_out} == {Reason.SOLD_OUT}
    assert sold_out[0].refusal.metadata["days"] == "2026-05-01=0"
    assert await harness.counters(package_id) == (10, 0)


async def test_concurrent_commands_share_a_transaction(harness: Harness) -> None:
    package_id = await harness.package(capacity=100)
    before = await harness.query("SELECT count(*) FROM outbox")
    await asyncio.gather(*(harness.start(package_id) for _ in range(50)))
    after = await harness.query("SELECT count(*), sum(count) FROM outbox")
    # The first may run alone; the other 49 arrive while it does.
    assert after["count"] - before["count"] <= 2
    assert after["sum"] == 50


async def test_a_lapsed_hold_never_blocks_a_sale(harness: Harness) -> None:
    package_id = await harness.package(capacity=1)
    lapsing = await harness.start(package_id, end_date=DAY + timedelta(days=4))
    assert await refused(harness.start(package_id)) is Reason.SOLD_OUT
    harness.clock.advance(timedelta(minutes=16))
    await harness.start(package_id, start_date=DAY + timedelta(days=2), end_date=DAY + timedelta(3))
    row = await harness.query("SELECT state, end_reason FROM bookings WHERE id = $1", lapsing.id)
    assert tuple(row) == ("EXPIRED", "HOLD_EXPIRED")
    assert await harness.counters(package_id) == (0, 0)
    assert await harness.counters(package_id, DAY + timedelta(days=2)) == (1, 0)


async def test_completing_a_lapsed_hold_expires_it_and_a_repeat_gets_the_same_answer(
    harness: Harness,
) -> None:
    package_id = await harness.package(capacity=1)
    booking = await harness.start(package_id)
    harness.clock.advance(timedelta(minutes=16))
    request_id = uuid4()
    for _ in range(2):
        complete = harness.submit(CompleteBooking(booking.id), request_id=request_id)
        assert await refused(complete) is Reason.HOLD_EXPIRED
    assert await harness.counters(package_id) == (0, 0)


async def test_a_payment_after_expiry_takes_the_seats_again_if_there_is_room(
    harness: Harness,
) -> None:
    package_id = await harness.package(capacity=1)
    booking = await harness.start(package_id)
    await harness.submit(CompleteBooking(booking.id))
    harness.clock.advance(timedelta(minutes=16))
    assert await harness.submit(ExpireHolds(package_id)) == 1
    assert await harness.counters(package_id) == (0, 0)
    confirmed = await harness.submit(confirm(booking))
    assert isinstance(confirmed, Booking)
    assert confirmed.state is State.CONFIRMED
    assert await harness.counters(package_id) == (0, 1)


async def test_a_payment_after_expiry_without_room_is_due_back_once(harness: Harness) -> None:
    package_id = await harness.package(capacity=1)
    booking = await harness.start(package_id)
    await harness.submit(CompleteBooking(booking.id))
    harness.clock.advance(timedelta(minutes=16))
    await harness.start(package_id)
    for _ in range(3):
        assert await refused(harness.submit(confirm(booking))) is Reason.HOLD_EXPIRED
    row = await harness.query("SELECT state, amount_minor FROM payments")
    assert tuple(row) == ("REFUND_DUE", PRICE)
    row = await harness.query("SELECT count(*), sum(amount_minor) FROM refunds")
    assert tuple(row) == (1, PRICE)
    refund = record(booking, PaymentKind.REFUNDED, PRICE, refund_id="re-1")
    paid_back = await harness.submit(refund)
    assert isinstance(paid_back, Payment)
    assert paid_back.state is PaymentState.REFUNDED
    assert await refused(harness.submit(confirm(booking))) is Reason.HOLD_EXPIRED


async def test_a_second_payment_for_a_confirmed_booking_is_due_back(harness: Harness) -> None:
    package_id = await harness.package(capacity=1)
    booking = await harness.start(package_id)
    await harness.submit(CompleteBooking(booking.id))
    await harness.submit(confirm(booking, "pi-1"))
    again = await harness.submit(confirm(booking, "pi-1"))
    assert isinstance(again, Booking)
    assert again.version == 3
    assert await refused(harness.submit(confirm(booking, "pi-2"))) is Reason.INVALID_TRANSITION
    row = await harness.query("SELECT array_agg(state ORDER BY payment_id) FROM payments")
    assert row[0] == ["CAPTURED", "REFUND_DUE"]


async def test_a_captured_payment_reported_before_completion_confirms(harness: Harness) -> None:
    package_id = await harness.package(capacity=1)
    booking = await harness.start(package_id)
    payment = await harness.submit(record(booking, PaymentKind.CAPTURED, PRICE))
    assert isinstance(payment, Payment)
    assert payment.state is PaymentState.CAPTURED
    row = await harness.query("SELECT state, version FROM bookings WHERE id = $1", booking.id)
    assert tuple(row) == ("CONFIRMED", 3)


async def test_a_late_failure_changes_nothing_after_the_capture(harness: Harness) -> None:
    package_id = await harness.package(capacity=1)
    booking = await harness.start(package_id)
    await harness.submit(record(booking, PaymentKind.FAILED, PRICE, payment_id="attempt-1"))
    await harness.submit(CompleteBooking(booking.id))
    await harness.submit(record(booking, PaymentKind.AUTHORISED, PRICE, payment_id="attempt-2"))
    await harness.submit(record(booking, PaymentKind.CAPTURED, PRICE, payment_id="attempt-2"))
    late = await harness.submit(record(booking, PaymentKind.FAILED, PRICE, payment_id="attempt-2"))
    assert isinstance(late, Payment)
    assert late.state is PaymentState.CAPTURED
    over = record(booking, PaymentKind.REFUNDED, PRICE + 1, payment_id="attempt-2", refund_id="r")
    assert await refused(harness.submit(over)) is Reason.OVER_REFUND


async def test_amount_and_currency_must_be_the_bookings(harness: Harness) -> None:
    package_id = await harness.package(capacity=1)
    booking = await harness.start(package_id)
    await harness.submit(CompleteBooking(booking.id))
    less = ConfirmBooking(booking.id, "p", "1", Money(PRICE - 1, "EUR"), uuid4(), uuid4())
    other = ConfirmBooking(booking.id, "p", "1", Money(PRICE, "USD"), uuid4(), uuid4())
    assert await refused(harness.submit(less)) is Reason.AMOUNT_MISMATCH
    assert await refused(harness.submit(other)) is Reason.CURRENCY_MISMATCH


async def test_a_repeated_request_gets_its_first_answer(harness: Harness) -> None:
    package_id = await harness.package(capacity=5)
    request_id = uuid4()
    first = await harness.start(package_id, request_id=request_id, fingerprint=b"a")
    await harness.submit(AbandonBooking(first.id, "left"))
    again = await harness.start(package_id, request_id=request_id, fingerprint=b"a")
    assert again == first
    other = harness.start(package_id, request_id=request_id, fingerprint=b"b")
    assert await refused(other) is Reason.REQUEST_ID_REUSED
    assert (await harness.query("SELECT count(*) FROM bookings"))[0] == 1


async def test_identical_concurrent_requests_are_carried_out_once(harness: Harness) -> None:
    package_id = await harness.package(capacity=5)
    request_id = uuid4()
    answers = await asyncio.gather(
        *(harness.start(package_id, request_id=request_id, fingerprint=b"a") for _ in range(10))
    )
    assert len({answer.id for answer in answers}) == 1
    assert await harness.counters(package_id) == (1, 0)


async def test_two_copies_carry_out_one_request_once(harness: Harness) -> None:
    package_id = await harness.package(capacity=5)
    database = Database(harness.dsn, clock=harness.clock)
    await database.open()
    copy = patient(database)
    copy.start()
    try:
        for _ in range(20):
            command, request_id = start(package_id), uuid4()
            answers = await asyncio.gather(
                *(
                    bus.submit(command, caller="test", rpc="StartBooking", request_id=request_id)
                    for bus in (harness.bus, copy)
                )
            )
            assert answers[0] == answers[1]
            assert isinstance(answers[0], Booking)
            await harness.submit(AbandonBooking(answers[0].id, ""))
    finally:
        await copy.stop()
        await database.close()
    assert (await harness.query("SELECT count(*) FROM bookings"))[0] == 20
    assert await harness.counters(package_id) == (0, 0)


async def test_a_refused_request_is_tried_anew(harness: Harness) -> None:
    package_id = await harness.package(capacity=1)
    first = await harness.start(package_id)
    request_id = uuid4()
    assert await refused(harness.start(package_id, request_id=request_id)) is Reason.SOLD_OUT
    await harness.submit(AbandonBooking(first.id, ""))
    assert (await harness.start(package_id, request_id=request_id)).state is State.HELD


async def test_limits_of_a_user(harness: Harness) -> None:
    packages = [await harness.package(capacity=5) for _ in range(4)]
    first = await harness.start(packages[0], user_id="ada")
    with pytest.raises(Refused) as caught:
        await harness.start(packages[0], user_id="ada")
    assert caught.value.refusal.reason is Reason.ALREADY_HELD
    assert caught.value.refusal.metadata["booking_id"] == str(first.id)
    outcomes = await asyncio.gather(
        *(harness.start(package, user_id="ada") for package in packages[1:]),
        return_exceptions=True,
    )
    refusals = [outcome for outcome in outcomes if isinstance(outcome, Refused)]
    assert [error.refusal.reason for error in refusals] == [Reason.HOLD_LIMIT]
    harness.clock.advance(timedelta(minutes=16))
    await harness.start(packages[0], user_id="ada")


async def test_capacity_is_never_cut_below_what_is_taken(harness: Harness) -> None:
    package_id = await harness.package(capacity=3)
    await harness.start(package_id, quantity=2)
    cut = SetCapacity(package_id, (CapacityRange(DAY, DAY + timedelta(days=2), 1),))
    with pytest.raises(Refused) as caught:
        await harness.submit(cut)
    assert caught.value.refusal.reason is Reason.CAPACITY_BELOW_TAKEN
    assert caught.value.refusal.metadata["days"] == "2026-05-01=1"
    assert await harness.submit(
        SetCapacity(package_id, (CapacityRange(DAY, DAY + timedelta(days=1), 2),))
    )
    assert await refused(harness.start(package_id)) is Reason.SOLD_OUT


async def test_stays_that_are_over_are_fulfilled(harness: Harness) -> None:
    package_id = await harness.package(capacity=3)
    booking = await harness.start(package_id)
    await harness.submit(CompleteBooking(booking.id))
    await harness.submit(confirm(booking))
    assert await harness.submit(FulfilStays(package_id)) == 0
    harness.clock.time = datetime(2026, 5, 2, tzinfo=UTC)
    assert await harness.submit(FulfilStays(package_id)) == 1
    cancel = harness.submit(CancelBooking(booking.id, "", uuid4()))
    assert await refused(cancel) is Reason.NOT_CANCELLABLE
    assert await harness.counters(package_id) == (0, 1)


async def test_a_command_without_a_waiting_caller_is_dropped_before_its_group(
    harness: Harness,
) -> None:
    package_id = await harness.package(capacity=5)
    first = asyncio.create_task(harness.start(package_id))
    await asyncio.sleep(0)
    dropped = asyncio.create_task(harness.start(package_id))
    await asyncio.sleep(0)
    dropped.cancel()
    await first
    await harness.start(package_id)
    assert (await harness.query("SELECT count(*) FROM bookings"))[0] == 2


async def test_a_full_queue_refuses_new_commands(harness: Harness) -> None:
    bus = CommandBus(harness.database, max_queued=3)
    package_id = await harness.package(capacity=9)
    waiting = [
        asyncio.create_task(bus.submit(start(package_id), caller="c", rpc="r")) for _ in range(3)
    ]
    await asyncio.sleep(0)
    assert await refused(bus.submit(start(package_id), caller="c", rpc="r")) is Reason.OVERLOADED
    bus.start()
    assert len(await asyncio.gather(*waiting)) == 3
    await bus.stop()
    assert await refused(bus.submit(start(package_id), caller="c", rpc="r")) is Reason.OVERLOADED


async def test_a_bad_command_fails_alone(harness: Harness) -> None:
    package_id = await harness.package(capacity=9)
    # A NUL cannot be stored: the whole group fails once, then each is tried alone.
    bad = asyncio.create_task(harness.start(package_id, user_id="a\x00b"))
    good = [asyncio.create_task(harness.start(package_id)) for _ in range(3)]
    done = await asyncio.gather(bad, *good, return_exceptions=True)
    assert isinstance(done[0], Exception)
    assert [type(outcome) for outcome in done[1:]] == [Booking] * 3
    assert await harness.counters(package_id) == (3, 0)


async def test_the_audit_trail_cannot_be_changed(harness: Harness) -> None:
    package_id = await harness.package(capacity=1)
    await harness.start(package_id)
    connection = await asyncpg.connect(harness.dsn)
    try:
        for sql in ("UPDATE booking_events SET reason = ''", "DELETE FROM booking_events"):
            with pytest.raises(asyncpg.RestrictViolationError):
                await connection.execute(sql)
    finally:
        await connection.close()
