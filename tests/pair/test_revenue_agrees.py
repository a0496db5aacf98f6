"""Revenue is one figure: GetRevenueReport sums up from bookings what the metrics sum up from facts,
whatever happened to a booking after it was confirmed, and in the same bucket of time. The funnel
counts the same facts.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import datetime, timedelta

import pytest
from google.protobuf.duration_pb2 import Duration
from google.type.money_pb2 import Money

from booking_service.domain.instants import microseconds
from metrics_service.state.fold import State
from metrics_service.state.record import LogRecord
from protos.booking.v1 import booking_pb2, catalog_pb2, payment_pb2
from protos.metrics.v1 import metrics_pb2
from protos.tracking.v1.tracking_pb2 import LANE_FACTS
from tests.booking.rpc.payment_calls import Kind, event_of
from tests.booking.running_service import (
    NOON,
    RunningService,
    after,
    confirm_of,
    refusal_of,
    running,
)

DAY = timedelta(1)
HOUR = timedelta(hours=1)
# Currency, bookings, gross, refunded, net, in minor units.
Line = tuple[str, int, int, int, int]

HALF_BACK = catalog_pb2.CancellationPolicy(
    tiers=[catalog_pb2.CancellationPolicy.Tier(before=Duration(), refund_basis_points=5_000)]
)


@pytest.fixture
async def service(booking_dsn: str) -> AsyncIterator[RunningService]:
    async with running(booking_dsn) as service:
        yield service


async def moved(service: RunningService, booking_id: str, days: int) -> booking_pb2.Booking:
    return await service.booking.RescheduleBooking(
        booking_pb2.RescheduleBookingRequest(
            booking_id=booking_id, start_date=after(0), end_date=after(days)
        )
    )


async def paid_back(service: RunningService, booking: booking_pb2.Booking, amount: Money) -> None:
    """The provider pays an amount of the booking's first payment back."""
    [first, *_] = (
        await service.payment.ListPayments(payment_pb2.ListPaymentsRequest(booking_id=booking.id))
    ).payments
    await service.payment.RecordPayment(
        event_of(
            booking, Kind.REFUNDED, first.payment_id, amount=amount, refund_id=f"of-{booking.id}"
        )
    )


async def first_day(service: RunningService) -> list[booking_pb2.Booking]:
    """Bookings confirmed at NOON: one as it was started, one moved to a longer stay and paid for,
    one to a longer stay not paid for yet, one to a shorter, one cancelled, and one after its hold
    was extended.
    """
    package = await service.package(cancellation_policy=HALF_BACK)
    longer, unpaid, shorter, cancelled, *_ = [
        await service.confirmed(package.id, user_id=f"user {n}") for n in range(5)
    ]
    held = await service.held(package.id, user_id="slow")
    await service.booking.ExtendHold(booking_pb2.ExtendHoldRequest(booking_id=held.id))
    await service.payment.RecordPayment(event_of(held, Kind.CAPTURED, "slow"))
    longer = await moved(service, longer.id, 3)
    await service.payment.RecordPayment(
        event_of(longer, Kind.CAPTURED, "balance", amount=longer.balance_due)
    )
    await moved(service, unpaid.id, 4)
    await moved(service, shorter.id, 1)
    return [shorter, cancelled]


async def second_day(service: RunningService, earlier: list[booking_pb2.Booking]) -> None:
    """Money of the first day is paid back, other bookings are confirmed, and a payment comes that
    nothing can take.
    """
    shorter, cancelled = earlier
    yen = await service.package(base_price=Money(currency_code="JPY", units=5_000))
    await service.confirmed(yen.id, quantity=2)
    euro = await service.package()
    await service.confirmed(euro.id)
    given_up = await service.completed(euro.id, user_id="undecided")
    await service.booking.AbandonBooking(booking_pb2.AbandonBookingRequest(booking_id=given_up.id))
    capture = event_of(given_up, Kind.CAPTURED, "late")
    assert (await refusal_of(service.payment.RecordPayment(capture))).reason == "INVALID_TRANSITION"
    await paid_back(service, given_up, given_up.price)
    await paid_back(service, shorter, Money(currency_code="EUR", units=80, nanos=500_000_000))
    done = await service.booking.CancelBooking(
        booking_pb2.CancelBookingRequest(booking_id=cancelled.id)
    )
    await paid_back(service, cancelled, done.refund)


async def folded(service: RunningService) -> State:
    """The metrics of all facts, received now."""
    state = State()
    rows = await service.server.database.pool.fetch("SELECT events, count FROM outbox ORDER BY id")
    for position, row in enumerate(rows, 1):
        received_us = microseconds(service.clock.time)
        record = LogRecord(
            position,
            received_us,
            "batch",
            lane=LANE_FACTS,
            payload=row["events"],
            count=row["count"],
        )
        assert state.apply(record) == ""
    return state


def in_metrics(state: State, window: timedelta | None) -> list[Line]:
    window_us = None if window is None else window // timedelta(microseconds=1)
    return [_line(each) for each in state.metrics(window_us).business.revenue]


async def in_report(service: RunningService, start: datetime, end: datetime) -> list[Line]:
    request = booking_pb2.GetRevenueReportRequest()
    request.start_time.FromDatetime(start)
    request.end_time.FromDatetime(end)
    report = await service.booking.GetRevenueReport(request)
    return [
        (line.currency, line.bookings, _minor(line.gross), _minor(line.refunded), _minor(line.net))
        for line in report.lines
    ]


async def test_report_and_metrics_agree_in_every_window_whatever_became_of_a_booking(
    service: RunningService,
) -> None:
    earlier = await first_day(service)
    service.clock.time = NOON + DAY
    await second_day(service, earlier)
    service.clock.time = end = NOON + DAY + timedelta(minutes=10)

    state = await folded(service)
    assert state.metrics().quality.quarantined_batches == 0
    # 161.00 each for two days; 80.50 more was captured for the longer stay, 80.50 and half of
    # 161.00 were paid back. What could not be taken is no revenue.
    first = [("EUR", 6, 104_650, 16_100, 88_550)]
    second = [("EUR", 1, 16_100, 0, 16_100), ("JPY", 1, 20_000, 0, 20_000)]
    both = [("EUR", 7, 120_750, 16_100, 104_650), ("JPY", 1, 20_000, 0, 20_000)]
    assert await in_report(service, NOON, NOON + DAY) == first
    assert await in_report(service, NOON + DAY, end) == in_metrics(state, HOUR) == second
    assert await in_report(service, NOON, end) == in_metrics(state, None) == both
    assert in_metrics(state, timedelta(days=2)) == both


async def test_the_funnel_counts_a_hold_that_is_paid_for_or_cancelled_without_its_form(
    service: RunningService,
) -> None:
    package = await service.package()
    confirmed, captured, cancelled = [await service.held(package.id) for _ in range(3)]
    waiting = await service.completed(package.id)
    await service.booking.ConfirmBooking(confirm_of(confirmed))
    await service.payment.RecordPayment(event_of(captured, Kind.CAPTURED, "before the form"))
    for hold in (cancelled, waiting):
        await service.booking.CancelBooking(booking_pb2.CancelBookingRequest(booking_id=hold.id))
    funnel = (await folded(service)).metrics().funnel
    assert (funnel.bookings_started, funnel.bookings_completed) == (4, 3)
    assert (funnel.bookings_confirmed, funnel.bookings_abandoned) == (2, 2)
    # A hold that was released was never a booking that could be cancelled.
    assert (funnel.bookings_cancelled, funnel.bookings_expired) == (0, 0)


def _line(each: metrics_pb2.Revenue) -> Line:
    return (
        *(each.currency, each.confirmed),
        *(each.gross_minor, each.refunded_minor, each.net_minor),
    )


def _minor(amount: Money) -> int:
    digits = {"EUR": 2, "JPY": 0}[amount.currency_code]
    return int(amount.units * 10**digits + amount.nanos // 10 ** (9 - digits))
