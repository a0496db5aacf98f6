"""Refunds under concurrency and over a migration: what is owed adds up, and is paid out once."""

from __future__ import annotations

import asyncio
import re
from dataclasses import fields
from datetime import timedelta
from uuid import uuid4

import asyncpg

from booking_service.domain.booking import PaymentKind, Refund
from booking_service.domain.commands import (
    CancelBooking,
    ClaimRefunds,
    RefundPayment,
    RefundToClaim,
)
from booking_service.domain.money import Money
from booking_service.storage import rows
from servicekit.migrations import MIGRATIONS
from tests.booking.group_commit.harness import PRICE, Harness, copy_of, reasons, record

MIGRATION = MIGRATIONS / "booking" / "0020_refunds.sql"


async def refunds_of(harness: Harness) -> list[Refund]:
    connection = await asyncpg.connect(harness.dsn)
    try:
        columns = ", ".join(field.name for field in fields(Refund))
        found = await connection.fetch(f"SELECT {columns} FROM refunds ORDER BY create_time, id")
    finally:
        await connection.close()
    return [rows.refund(row) for row in found]


async def test_what_two_claimers_and_two_reporters_do_at_once_is_counted_once(
    harness: Harness,
) -> None:
    package_id = await harness.package(capacity=1, nights=1)
    booking = await harness.paid(package_id)
    await harness.submit(CancelBooking(booking.id, "", uuid4()))
    (owed,) = await refunds_of(harness)
    claim = ClaimRefunds((RefundToClaim(owed.id, booking.id, package_id),), lease_s=60)
    part = PRICE // 4
    async with copy_of(harness) as copy:
        for n in range(4):
            copies = (harness, copy) if n % 2 else (copy, harness)
            handed = await asyncio.gather(*(bus.submit(claim) for bus in copies))
            # Whoever was first has it; the other one has nothing.
            assert sorted(len(each) for each in handed) == [0, 1]  # type: ignore[arg-type] # tuples
            # Each copy hears twice of one and the same payout.
            said = record(booking, PaymentKind.REFUNDED, part, refund_id=f"re-{n}")
            assert await reasons(bus.submit(said) for bus in (harness, copy, copy)) == ["OK"] * 3
            (owed,) = await refunds_of(harness)
            assert (owed.paid_out_minor, owed.left_minor) == (
                (n + 1) * part,
                PRICE - (n + 1) * part,
            )
            harness.clock.advance(timedelta(minutes=2))
        assert owed.state == "COMPLETED"
        assert [await bus.submit(claim) for bus in (harness, copy)] == [(), ()]
    stay = await harness.booking(booking.id)
    assert (stay.refund_requested_minor, stay.refunded_minor) == (PRICE, PRICE)


async def test_requests_and_payouts_at_once_leave_what_is_owed_exact(harness: Harness) -> None:
    package_id = await harness.package(capacity=1, nights=1)
    booking = await harness.paid(package_id)
    row = await harness.query("SELECT id FROM payments")
    async with copy_of(harness) as copy:
        both = (harness, copy)
        asked = [
            bus.submit(RefundPayment(booking.id, row["id"], Money(700, "EUR"), "", uuid4()))
            for _ in range(4)
            for bus in both
        ]
        told = [
            bus.submit(record(booking, PaymentKind.REFUNDED, 500, refund_id=f"re-{n}"))
            for n in range(4)
            for bus in both
        ]
        assert await reasons([*asked, *told]) == ["OK"] * 16
    refunds = await refunds_of(harness)
    stay = await harness.booking(booking.id)
    assert (stay.refund_requested_minor, stay.refunded_minor) == (8 * 700, 4 * 500)
    # What was paid back before anything was requested counts towards no request.
    left = sum(refund.left_minor for refund in refunds)
    assert 8 * 700 - 4 * 500 <= left <= 8 * 700
    assert [refund.state == "COMPLETED" for refund in refunds] == [
        refund.left_minor == 0 for refund in refunds
    ]


async def test_refunds_of_before_their_payout_was_counted_get_it(harness: Harness) -> None:
    """Two of one payment, the first paid out and the second in part, and one of a late payment."""
    package_id = await harness.package(capacity=2, nights=1)
    booking, cancelled = await harness.paid(package_id), await harness.start(package_id)
    row = await harness.query("SELECT id FROM payments")
    for minor in (3_000, 5_000):
        amount = Money(minor, "EUR")
        await harness.submit(RefundPayment(booking.id, row["id"], amount, "", uuid4()))
    await harness.submit(record(booking, PaymentKind.REFUNDED, 4_000, refund_id="re"))
    await harness.submit(CancelBooking(cancelled.id, "", uuid4()))
    late = record(cancelled, PaymentKind.CAPTURED, PRICE)
    assert await reasons([harness.submit(late)]) == ["INVALID_TRANSITION"]
    before = await refunds_of(harness), await harness.booking(booking.id)
    _, up, down = re.split(r"^-- migrate:(?:up|down).*$", MIGRATION.read_text(), flags=re.M)
    connection = await asyncpg.connect(harness.dsn)
    try:
        await connection.execute(down)
        await connection.execute(
            "UPDATE refunds SET reason = 'ABANDONED' WHERE amount_minor = $1", PRICE
        )
        await connection.execute(up)
    finally:
        await connection.close()
    assert (await refunds_of(harness), await harness.booking(booking.id)) == before
    assert sorted((each.paid_out_minor, each.reason) for each in before[0]) == [
        (0, "REFUND_DUE"),
        (1_000, "REQUESTED"),
        (3_000, "REQUESTED"),
    ]
