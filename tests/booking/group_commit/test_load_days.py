"""Days are loaded once each, and only where seats may be taken or freed."""

from __future__ import annotations

from datetime import timedelta
from uuid import UUID, uuid4

from booking_service.domain.booking import PaymentKind
from booking_service.domain.commands import (
    ClaimPayments,
    CreateReview,
    PaymentToClaim,
    RefundPayment,
)
from booking_service.domain.money import Money
from booking_service.group_commit.load_days import _merged
from tests.booking.group_commit.harness import DAY, Harness, record
from tests.metrics.client.recording import Recording

ONE, OTHER = UUID(int=1), UUID(int=2)


def test_spans_that_overlap_or_touch_are_one() -> None:
    def span(package: UUID, first: int, until: int) -> tuple[UUID, object, object]:
        return package, DAY + timedelta(first), DAY + timedelta(until)

    spans = [
        *(span(OTHER, 0, 2), span(ONE, 5, 9), span(ONE, 0, 3), span(ONE, 1, 2)),
        *(span(ONE, 3, 4), span(OTHER, 2, 3), span(ONE, 5, 6), span(ONE, 6, 10)),
    ]
    assert _merged(spans) == [  # type: ignore[arg-type] # dates
        *(span(ONE, 0, 4), span(ONE, 5, 10)),
        span(OTHER, 0, 3),
    ]


async def test_what_takes_no_seats_loads_no_days(harness: Harness) -> None:
    package_id = await harness.package(capacity=3)
    booking = await harness.paid(package_id)
    failing = await harness.start(package_id)
    await harness.submit(record(failing, PaymentKind.FAILED, failing.price_minor))
    payment = await harness.query("SELECT id FROM payments WHERE booking_id = $1", booking.id)
    failed = await harness.query("SELECT id FROM payments WHERE booking_id = $1", failing.id)
    recorded = Recording()
    harness.database.tracker.add_sink(recorded)
    await harness.submit(CreateReview(uuid4(), booking.id, 5, ""))
    await harness.submit(RefundPayment(booking.id, payment["id"], Money(1, "EUR"), "", uuid4()))
    await harness.submit(ClaimPayments((PaymentToClaim(failed["id"], failing.id, package_id),), 60))
    assert recorded.labelled("bookings.load")
    assert not recorded.labelled("inventory.load")
