"""A hold whose form was never completed is paid for, or cancelled: by either RPC, against the other
and against time, it ends in one way.
"""

from __future__ import annotations

import asyncio
from datetime import timedelta
from uuid import uuid4

import asyncpg
import pytest

from booking_service.domain.booking import Booking, Payment, PaymentKind, PaymentState, State
from booking_service.domain.commands import (
    AbandonBooking,
    CancelBooking,
    CompleteBooking,
    ExpireHolds,
)
from booking_service.domain.money import Money
from booking_service.domain.refusal import Reason
from protos.tracking.v1.event_pb2 import BookingFact
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

HOUR = timedelta(hours=1)


async def trail(harness: Harness, booking: Booking) -> list[tuple[str, str, str]]:
    """The audit trail: transition, state and reason."""
    connection = await asyncpg.connect(harness.dsn)
    try:
        found = await connection.fetch(
            "SELECT transition, to_state, reason FROM booking_events WHERE booking_id = $1"
            " ORDER BY version",
            booking.id,
        )
    finally:
        await connection.close()
    return [tuple(row) for row in found]


async def said(harness: Harness, booking: Booking) -> list[str]:
    """The transitions that the metrics are told of."""
    facts = [event.booking for event in await harness.facts() if event.HasField("booking")]
    names = BookingFact.Transition
    return [names.Name(fact.transition) for fact in facts if fact.booking_id == str(booking.id)]


@pytest.mark.parametrize("order", [("confirm", "record"), ("record", "confirm")])
@pytest.mark.parametrize("at_once", [False, True])
async def test_either_report_of_a_capture_completes_and_confirms_a_hold_once(
    harness: Harness, order: tuple[str, str], at_once: bool
) -> None:
    async with copy_of(harness) as copy:
        for _ in range(4):
            package_id = await harness.package(capacity=1, nights=1)
            booking = await harness.start(package_id)
            commands = {
                "confirm": confirm(booking),
                "record": record(booking, PaymentKind.CAPTURED, PRICE),
            }
            asked = [
                bus.submit(commands[name]) for bus, name in zip((harness, copy), order, strict=True)
            ]
            answers = await asyncio.gather(*asked) if at_once else [await each for each in asked]
            stay = await harness.booking(booking.id)
            assert (stay.state, stay.version) == (State.CONFIRMED, 3)
            assert stay.complete_time == stay.confirm_time
            for answer in answers:
                assert answer == stay or (
                    isinstance(answer, Payment) and answer.state is PaymentState.CAPTURED
                )
            assert await trail(harness, booking) == [
                ("STARTED", "HELD", ""),
                ("COMPLETED", "PENDING_PAYMENT", ""),
                ("CONFIRMED", "CONFIRMED", ""),
            ]
            assert await said(harness, booking) == ["STARTED", "COMPLETED", "CONFIRMED"]
            assert await harness.counters(package_id) == (0, 1)
    row = await harness.query("SELECT count(*), bool_and(state = 'CAPTURED') FROM payments")
    assert tuple(row) == (4, True)


async def test_a_capture_of_a_hold_is_answered_again_and_stored_once(harness: Harness) -> None:
    package_id = await harness.package(capacity=1, nights=1)
    booking = await harness.start(package_id)
    command, request_id = confirm(booking), uuid4()
    first = await harness.submit(command, request_id=request_id)
    async with copy_of(harness) as copy:
        assert await copy.submit(command, request_id=request_id) == first
        assert await copy.submit(command) == first
    assert (await harness.query("SELECT count(*) FROM payments"))[0] == 1


async def test_a_capture_whose_form_lapsed_is_taken_or_due_back_and_never_lost(
    harness: Harness,
) -> None:
    package_id = await harness.package(capacity=1, nights=1)
    first = await harness.start(package_id)
    harness.clock.advance(HOUR)
    # Nobody wanted the seat: it is theirs.
    taken = await harness.submit(confirm(first))
    assert isinstance(taken, Booking)
    assert taken.state is State.CONFIRMED
    other = await harness.package(capacity=1, nights=1)
    second = await harness.start(other)
    harness.clock.advance(HOUR)
    await harness.start(other)
    assert await refused(harness.submit(confirm(second))) is Reason.HOLD_EXPIRED
    row = await harness.query(
        "SELECT p.state, r.state AS refund, r.amount_minor FROM payments AS p"
        " INNER JOIN refunds AS r ON r.payment_id = p.id WHERE p.booking_id = $1",
        second.id,
    )
    assert tuple(row) == ("REFUND_DUE", "REQUESTED", PRICE)


@pytest.mark.parametrize("completed", [False, True])
async def test_a_cancelled_hold_is_released_once_with_its_reason(
    harness: Harness, completed: bool
) -> None:
    package_id = await harness.package(capacity=1, nights=1)
    booking = await harness.start(package_id)
    if completed:
        await harness.submit(CompleteBooking(booking.id))
    command = CancelBooking(booking.id, "changed plans", uuid4(), Money(0, "EUR"))
    preview = (await harness.bus.preview(command)).outcome
    async with copy_of(harness) as copy:
        ended = [bus.submit(command) for _ in range(5) for bus in (harness, copy)]
        answers = await asyncio.gather(*ended)
        # Another way to give it up finds it given up.
        answers.append(await copy.submit(AbandonBooking(booking.id, "")))
    stay = await harness.booking(booking.id)
    assert answers == [stay] * len(answers)
    assert (stay.state, stay.end_reason, stay.refund_minor) == (State.ABANDONED, "CANCELLED", None)
    assert isinstance(preview, Booking)
    assert (preview.state, preview.version) == (stay.state, stay.version)
    assert (await trail(harness, booking))[-1] == ("ABANDONED", "ABANDONED", "CANCELLED")
    assert (await said(harness, booking))[-1] == "ABANDONED"
    sent = [event.booking for event in await harness.facts() if event.HasField("booking")]
    assert sent[-1].reason == "CANCELLED"
    assert await harness.counters(package_id) == (0, 0)
    # Its payment, if one comes, is not lost.
    assert await refused(harness.submit(confirm(booking))) is Reason.INVALID_TRANSITION
    assert (await harness.query("SELECT state FROM payments"))[0] == "REFUND_DUE"


async def test_a_hold_that_ended_otherwise_is_not_cancelled(harness: Harness) -> None:
    package_id = await harness.package(capacity=2, nights=1)
    given_up, lapsed = await harness.start(package_id), await harness.start(package_id)
    await harness.submit(AbandonBooking(given_up.id, "dear"))
    harness.clock.advance(HOUR)
    for booking in (given_up, lapsed):
        cancel = CancelBooking(booking.id, "", uuid4())
        assert await refused(harness.submit(cancel)) is Reason.INVALID_TRANSITION
    assert (await harness.booking(lapsed.id)).state is State.EXPIRED
    assert await harness.counters(package_id) == (0, 0)


async def test_a_cancellation_of_a_hold_is_bound_to_etag_and_preview(harness: Harness) -> None:
    package_id = await harness.package(capacity=1, nights=1)
    booking = await harness.start(package_id)
    stale = CancelBooking(booking.id, "", uuid4(), etag='"1-0"')
    assert await refused(harness.submit(stale)) is Reason.ETAG_MISMATCH
    for shown in (Money(1, "EUR"), Money(0, "USD")):
        bound = CancelBooking(booking.id, "", uuid4(), expected_refund=shown)
        assert await refused(harness.submit(bound)) is Reason.FEE_CHANGED
    assert await harness.booking(booking.id) == booking


async def test_cancel_against_confirm_and_the_sweeper_ends_a_hold_one_way(
    harness: Harness,
) -> None:
    """At the instant of expiry and before it; whoever is first, seats and money add up."""
    ends: set[str] = set()
    async with copy_of(harness) as copy:
        for n in range(24):
            package_id = await harness.package(capacity=1, nights=1)
            booking = await harness.start(package_id)
            if n % 2:
                harness.clock.time = booking.hold_expire_time - timedelta(microseconds=n // 2 % 4)
            asked = [
                harness.submit(CancelBooking(booking.id, "", uuid4())),
                copy.submit(ExpireHolds(package_id)),
                harness.submit(confirm(booking)) if n % 3 else copy.submit(confirm(booking)),
            ]
            turn = n % 3
            await reasons(asked[turn:] + asked[:turn])
            stay = await harness.booking(booking.id)
            ends.add(stay.state)
            row = await harness.query(
                "SELECT p.state, coalesce(sum(r.amount_minor), 0) FROM payments AS p"
                " LEFT JOIN refunds AS r ON r.payment_id = p.id"
                " WHERE p.booking_id = $1 GROUP BY p.id",
                booking.id,
            )
            expected = {
                State.CONFIRMED: ("CAPTURED", 0),
                State.CANCELLED: ("CAPTURED", PRICE),
                State.ABANDONED: ("REFUND_DUE", PRICE),
            }
            assert tuple(row) == expected[stay.state]
            seats = (0, 1) if stay.state is State.CONFIRMED else (0, 0)
            assert await harness.counters(package_id) == seats
            ended = [each for each in await trail(harness, booking) if each[1] != "PENDING_PAYMENT"]
            assert len(ended) == len({each[1] for each in ended})
    assert {State.CANCELLED, State.ABANDONED} <= ends
    assert await drift(harness.dsn) == 0
