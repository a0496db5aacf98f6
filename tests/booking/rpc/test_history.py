"""Batches of bookings, their events, revenue, and recounts of counters."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import grpc
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp
from google.type.money_pb2 import Money

from protos.booking.v1 import booking_pb2, catalog_pb2, payment_pb2
from tests.booking.running_service import NOON, RunningService, after, confirm_of, euro, refusal_of

State = booking_pb2.Booking.State
Events = booking_pb2.ListBookingEventsRequest
Many = booking_pb2.BatchGetBookingsRequest
Reconcile = booking_pb2.ReconcileInventoryRequest
Record = payment_pb2.RecordPaymentRequest
FULL_REFUND = catalog_pb2.CancellationPolicy(
    tiers=[catalog_pb2.CancellationPolicy.Tier(before=Duration(), refund_basis_points=10_000)]
)


async def test_bookings_come_in_the_order_asked_for(booking: RunningService) -> None:
    package = await booking.package()
    stays = [await booking.held(package.id) for _ in range(4)]
    wanted = [stays[n] for n in (2, 0, 3)]
    answer = await booking.booking.BatchGetBookings(Many(booking_ids=[each.id for each in wanted]))
    assert list(answer.bookings) == wanted


async def test_all_bookings_that_are_missing_are_named(booking: RunningService) -> None:
    package = await booking.package()
    held = await booking.held(package.id)
    missing = [str(uuid4()) for _ in range(99)]
    refusal = await refusal_of(
        booking.booking.BatchGetBookings(Many(booking_ids=[missing[0], held.id, *missing[1:]]))
    )
    assert (refusal.code, refusal.reason) == (grpc.StatusCode.NOT_FOUND, "NOT_FOUND")
    assert refusal.metadata["missing"].split(",") == missing
    assert refusal.resource == ("booking", missing[0])


async def test_events_list_each_transition_and_its_caller_page_by_page(
    booking: RunningService,
) -> None:
    package = await booking.package(cancellation_policy=FULL_REFUND)
    pending = await booking.completed(package.id)
    booking.clock.advance(timedelta(minutes=3))
    await booking.booking.ConfirmBooking(confirm_of(pending), metadata=[("x-caller", "web")])
    await booking.booking.CancelBooking(
        booking_pb2.CancelBookingRequest(booking_id=pending.id, reason="rain")
    )
    request = Events(booking_id=pending.id, page_size=3)
    first = await booking.booking.ListBookingEvents(request)
    assert [each.transition for each in first.events] == ["STARTED", "COMPLETED", "CONFIRMED"]
    assert [each.version for each in first.events] == [1, 2, 3]
    assert [(each.from_state, each.to_state) for each in first.events] == [
        (State.STATE_UNSPECIFIED, State.HELD),
        (State.HELD, State.PENDING_PAYMENT),
        (State.PENDING_PAYMENT, State.CONFIRMED),
    ]
    assert first.events[2].caller == "web"
    assert first.events[2].time.ToDatetime(UTC) == NOON + timedelta(minutes=3)
    request.page_token = first.next_page_token
    last = await booking.booking.ListBookingEvents(request)
    assert [(each.transition, each.reason) for each in last.events] == [("CANCELLED", "rain")]
    assert last.next_page_token == ""


async def test_a_page_token_of_events_belongs_to_its_booking(booking: RunningService) -> None:
    package = await booking.package()
    one, other = await booking.completed(package.id), await booking.completed(package.id)
    first = await booking.booking.ListBookingEvents(Events(booking_id=one.id, page_size=1))
    refusal = await refusal_of(
        booking.booking.ListBookingEvents(
            Events(booking_id=other.id, page_token=first.next_page_token)
        )
    )
    assert refusal.reason == "PAGE_TOKEN_INVALID"


def report(start: datetime, end: datetime, vendor_id: str = "") -> Any:
    request = booking_pb2.GetRevenueReportRequest(vendor_id=vendor_id)
    request.start_time.FromDatetime(start)
    request.end_time.FromDatetime(end)
    return request


async def lines(
    service: RunningService, *range_: Any
) -> dict[str, tuple[int, Money, Money, Money]]:
    answer = await service.booking.GetRevenueReport(report(*range_))
    assert [line.currency for line in answer.lines] == sorted(
        line.currency for line in answer.lines
    )
    return {
        line.currency: (line.bookings, line.gross, line.refunded, line.net) for line in answer.lines
    }


async def test_revenue_is_what_was_captured_less_what_was_paid_back(
    booking: RunningService,
) -> None:
    package = await booking.package(cancellation_policy=FULL_REFUND)
    paid, cancelled, moved = [await booking.confirmed(package.id) for _ in range(3)]
    await booking.held(package.id)
    await booking.completed(package.id)
    hour = NOON, NOON + timedelta(hours=1)
    assert await lines(booking, *hour) == {
        "EUR": (3, euro(48_300), euro(0), euro(48_300)),
    }
    # A requested refund is not paid out, and a due payment is not captured.
    await booking.booking.CancelBooking(booking_pb2.CancelBookingRequest(booking_id=cancelled.id))
    moved = await booking.booking.RescheduleBooking(
        booking_pb2.RescheduleBookingRequest(
            booking_id=moved.id, start_date=after(0), end_date=after(3)
        )
    )
    assert (await lines(booking, *hour))["EUR"] == (3, euro(48_300), euro(0), euro(48_300))
    # Days later, and yet in the hour of the confirmation.
    booking.clock.advance(timedelta(days=2))
    balance = confirm_of(moved, amount=moved.balance_due, payment_id="balance")
    await booking.booking.ConfirmBooking(balance)
    (payment,) = (
        await booking.payment.ListPayments(payment_pb2.ListPaymentsRequest(booking_id=cancelled.id))
    ).payments
    await booking.payment.RecordPayment(
        Record(
            booking_id=cancelled.id,
            provider=payment.provider,
            payment_id=payment.payment_id,
            kind=Record.REFUNDED,
            amount=euro(16_100),
            refund_id="r-1",
        )
    )
    assert (await lines(booking, *hour))["EUR"] == (3, euro(56_350), euro(16_100), euro(40_250))
    assert await lines(booking, NOON + timedelta(hours=1), NOON + timedelta(days=9)) == {}
    assert paid.price == euro(16_100)


async def test_money_that_was_not_accepted_is_no_revenue(booking: RunningService) -> None:
    package = await booking.package()
    confirmed = await booking.confirmed(package.id)
    refusal = await refusal_of(booking.booking.ConfirmBooking(confirm_of(confirmed)))
    assert refusal.reason == "INVALID_TRANSITION"
    day = NOON - timedelta(days=1), NOON + timedelta(days=1)
    assert (await lines(booking, *day))["EUR"] == (1, euro(16_100), euro(0), euro(16_100))


async def test_revenue_is_by_currency_and_vendor_and_half_open_in_time(
    booking: RunningService,
) -> None:
    yen = Money(currency_code="JPY", units=12_345)
    dinar = Money(currency_code="KWD", units=1, nanos=234_000_000)
    in_yen, in_dinar = [await booking.package(base_price=price) for price in (yen, dinar)]
    first = await booking.confirmed(in_yen.id, end_date=after(1))
    await booking.confirmed(in_dinar.id, end_date=after(1))
    whole = NOON, NOON + timedelta(seconds=1)
    nothing_yen, nothing_dinar = Money(currency_code="JPY"), Money(currency_code="KWD")
    assert await lines(booking, *whole) == {
        "JPY": (1, yen, nothing_yen, yen),
        "KWD": (1, dinar, nothing_dinar, dinar),
    }
    assert await lines(booking, *whole, in_dinar.vendor_id) == {
        "KWD": (1, dinar, nothing_dinar, dinar)
    }
    assert await lines(booking, *whole, str(uuid4())) == {}
    instant = first.confirm_time.ToDatetime(UTC)
    vendor_id = in_yen.vendor_id
    microsecond = timedelta(microseconds=1)
    assert "JPY" in await lines(booking, instant, instant + microsecond, vendor_id)
    assert await lines(booking, NOON - timedelta(days=1), instant, vendor_id) == {}
    assert await lines(booking, instant + microsecond, whole[1], vendor_id) == {}


async def test_a_bound_below_a_microsecond_still_separates_before_from_after(
    booking: RunningService,
) -> None:
    package = await booking.package()
    confirmed = await booking.confirmed(package.id)
    instant = confirmed.confirm_time
    later = Timestamp(seconds=instant.seconds, nanos=instant.nanos + 1)
    end = Timestamp(seconds=instant.seconds + 60)
    for start, found in ((instant, 1), (later, 0)):
        answer = await booking.booking.GetRevenueReport(
            booking_pb2.GetRevenueReportRequest(start_time=start, end_time=end)
        )
        assert len(answer.lines) == found
    answer = await booking.booking.GetRevenueReport(
        booking_pb2.GetRevenueReportRequest(
            start_time=Timestamp(seconds=instant.seconds - 60), end_time=later
        )
    )
    assert len(answer.lines) == 1


async def test_counters_that_agree_are_left_alone(booking: RunningService) -> None:
    package = await booking.package(capacity=5, days=4)
    await booking.held(package.id)
    await booking.confirmed(package.id)
    answer = await booking.booking.ReconcileInventory(Reconcile(package_id=package.id, repair=True))
    assert (answer.days, list(answer.drifts), answer.repaired) == (4, [], False)


async def test_a_planted_drift_is_found_and_repaired(booking: RunningService) -> None:
    package = await booking.package(capacity=5, days=3)
    await booking.held(package.id, quantity=2)
    connection = await booking.server.database.connect("test")
    try:
        await connection.execute(
            "UPDATE package_days SET held = 0, confirmed = 1 WHERE day = '2026-06-02'"
        )
    finally:
        await connection.close()
    request = Reconcile(package_id=package.id)
    for repair in (False, True):
        request.repair = repair
        answer = await booking.booking.ReconcileInventory(request)
        (drift,) = answer.drifts
        assert drift.date == after(1)
        assert (drift.held, drift.recounted_held) == (0, 2)
        assert (drift.confirmed, drift.recounted_confirmed) == (1, 0)
        assert (answer.days, answer.repaired) == (3, repair)
    answer = await booking.booking.ReconcileInventory(request)
    assert (list(answer.drifts), answer.repaired) == ([], False)
