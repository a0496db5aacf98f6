"""The audit trail holds every fact as it was sent, so that each can be sent again."""

from __future__ import annotations

from datetime import timedelta
from uuid import uuid4

import asyncpg

from booking_service.domain.booking import PaymentKind
from booking_service.domain.commands import (
    CancelBooking,
    ClaimPayments,
    CompleteBooking,
    ExpireHolds,
    PaymentToClaim,
    RescheduleBooking,
)
from tests.booking.group_commit.harness import DAY, PRICE, Harness, confirm, reasons, record

TRAIL = """
SELECT fact FROM booking_events UNION ALL SELECT fact FROM payment_events WHERE fact <> ''
"""


async def live_through_everything(harness: Harness) -> None:
    """Every kind of transition and of effect of a payment."""
    package_id = await harness.package(capacity=50)
    moved = await harness.start(package_id)
    await harness.submit(CompleteBooking(moved.id))
    await harness.submit(record(moved, PaymentKind.AUTHORISED, PRICE))
    await harness.submit(confirm(moved))
    days = DAY + timedelta(3), DAY + timedelta(5)
    await harness.submit(RescheduleBooking(moved.id, *days, None, uuid4()))
    await harness.submit(record(moved, PaymentKind.CAPTURED, PRICE, payment_id="balance"))
    await harness.submit(CancelBooking(moved.id, "changed my mind", uuid4()))
    for n in range(2):
        back = record(moved, PaymentKind.REFUNDED, PRICE // 2, refund_id=f"re-{n}")
        await harness.submit(back)
    tried = await harness.start(package_id)
    failed = await harness.submit(record(tried, PaymentKind.FAILED, PRICE, payment_id="one"))
    await harness.submit(record(tried, PaymentKind.CAPTURED, PRICE, payment_id="two"))
    # Neither has an effect.
    await harness.submit(record(tried, PaymentKind.AUTHORISED, PRICE, payment_id="two"))
    due = PaymentToClaim(failed.id, tried.id, package_id)  # type: ignore[union-attr]
    await harness.submit(ClaimPayments((due,), 60))
    lapsed = await harness.start(package_id)
    harness.clock.advance(timedelta(hours=1))
    await harness.submit(ExpireHolds(package_id))
    await harness.submit(CancelBooking(tried.id, "", uuid4()))
    late = harness.submit(record(tried, PaymentKind.CAPTURED, PRICE, payment_id="three"))
    assert await reasons([late]) == ["INVALID_TRANSITION"]
    assert lapsed.id != tried.id


async def test_the_audit_trail_holds_each_fact_byte_for_byte(harness: Harness) -> None:
    await live_through_everything(harness)
    sent = [fact.SerializeToString() for fact in await harness.facts()]
    connection = await asyncpg.connect(harness.dsn)
    try:
        kept = [row["fact"] for row in await connection.fetch(TRAIL)]
        nothing = await connection.fetchval("SELECT count(*) FROM payment_events WHERE fact = ''")
    finally:
        await connection.close()
    assert sorted(kept) == sorted(sent)
    assert nothing == 1
    facts = await harness.facts()
    assert len({fact.event_id for fact in facts}) == len(facts)
    transitions = {f.booking.transition for f in facts if f.HasField("booking")}
    effects = {f.payment.kind for f in facts if f.HasField("payment")}
    assert len(transitions) >= 6
    assert len(effects) == 6
