"""Confirmed stays: cancellation with its binding preview, change of dates, etags."""

from __future__ import annotations

import asyncio
from datetime import UTC, timedelta
from typing import Any
from uuid import uuid4

import grpc
from google.protobuf.duration_pb2 import Duration
from google.type.money_pb2 import Money

from protos.booking.v1 import booking_pb2, catalog_pb2, payment_pb2
from tests.booking.running_service import (
    FIRST_DAY,
    RunningService,
    after,
    confirm_of,
    euro,
    refusal_of,
    start_of,
)

State = booking_pb2.Booking.State
Cancel = booking_pb2.CancelBookingRequest
Preview = booking_pb2.PreviewCancellationRequest
Tier = catalog_pb2.CancellationPolicy.Tier
PRECONDITION = grpc.StatusCode.FAILED_PRECONDITION
DAY_S = 86_400
# All of it until 60 days before, half until 7 days before, then nothing.
TIERS = catalog_pb2.CancellationPolicy(
    tiers=[
        Tier(before=Duration(seconds=60 * DAY_S), refund_basis_points=10_000),
        Tier(before=Duration(seconds=7 * DAY_S), refund_basis_points=5_000),
    ]
)
# In the summer time of Lisbon, where the packages are.
BEGINS_H = -1


def moving(booking: booking_pb2.Booking, first: int, until: int, **fields: Any) -> Any:
    """To the days [first, until) after FIRST_DAY."""
    good: dict[str, Any] = {
        "booking_id": booking.id,
        "start_date": after(first),
        "end_date": after(until),
    }
    return booking_pb2.RescheduleBookingRequest(**(good | fields))


async def taken(service: RunningService, package_id: str, days: int = 10) -> list[int]:
    seats = await service.catalog.CheckAvailability(
        catalog_pb2.CheckAvailabilityRequest(
            package_id=package_id, start_date=after(0), end_date=after(days)
        )
    )
    return [day.taken for day in seats.days]


async def got(service: RunningService, booking_id: str) -> booking_pb2.Booking:
    return await service.booking.GetBooking(booking_pb2.GetBookingRequest(booking_id=booking_id))


async def test_a_preview_gives_the_refund_and_until_when_it_is_valid(
    booking: RunningService,
) -> None:
    package = await booking.package(cancellation_policy=TIERS)
    confirmed = await booking.confirmed(package.id)
    begins = booking.clock.time.replace(
        month=FIRST_DAY.month, day=FIRST_DAY.day, hour=0
    ) + timedelta(hours=BEGINS_H)
    # The last instant of a tier is still of it.
    for days, refund, until in (
        (91, 16_100, 60),
        (60, 16_100, 60),
        (59, 8_050, 7),
        (7, 8_050, 7),
        (6, 0, None),
    ):
        booking.clock.time = begins - timedelta(days=days)
        preview = await booking.booking.PreviewCancellation(Preview(booking_id=confirmed.id))
        assert (preview.refund, preview.fee) == (euro(refund), euro(16_100 - refund))
        if until is None:
            assert not preview.HasField("valid_until")
        else:
            assert preview.valid_until.ToDatetime(UTC) == begins - timedelta(days=until)
    assert await got(booking, confirmed.id) == confirmed


async def test_tiers_that_give_the_same_are_one(booking: RunningService) -> None:
    policy = catalog_pb2.CancellationPolicy(
        tiers=[
            Tier(before=Duration(seconds=60 * DAY_S), refund_basis_points=10_000),
            Tier(before=Duration(), refund_basis_points=10_000),
        ]
    )
    package = await booking.package(cancellation_policy=policy)
    confirmed = await booking.confirmed(package.id)
    preview = await booking.booking.PreviewCancellation(Preview(booking_id=confirmed.id))
    # Until the stay begins.
    assert preview.valid_until.ToDatetime(UTC).date() == FIRST_DAY - timedelta(days=1)
    assert preview.valid_until.ToDatetime(UTC).hour == 23


async def test_a_cancellation_is_bound_to_its_preview(booking: RunningService) -> None:
    package = await booking.package(cancellation_policy=TIERS)
    confirmed = await booking.confirmed(package.id)
    preview = await booking.booking.PreviewCancellation(Preview(booking_id=confirmed.id))
    booking.clock.advance(timedelta(days=40))
    request = Cancel(booking_id=confirmed.id, expected_refund=preview.refund)
    refusal = await refusal_of(booking.booking.CancelBooking(request))
    assert (refusal.code, refusal.reason) == (grpc.StatusCode.ABORTED, "FEE_CHANGED")
    assert refusal.metadata == {"refund_minor": "8050", "currency": "EUR"}
    request.expected_refund.CopyFrom(Money(currency_code="USD", units=80, nanos=500_000_000))
    assert (await refusal_of(booking.booking.CancelBooking(request))).reason == "FEE_CHANGED"
    assert await got(booking, confirmed.id) == confirmed
    preview = await booking.booking.PreviewCancellation(Preview(booking_id=confirmed.id))
    request.expected_refund.CopyFrom(preview.refund)
    cancelled = await booking.booking.CancelBooking(request)
    assert (cancelled.state, cancelled.refund) == (State.CANCELLED, euro(8_050))
    # Once cancelled, the refund no longer changes.
    after_all = await booking.booking.PreviewCancellation(Preview(booking_id=confirmed.id))
    assert (after_all.refund, after_all.fee) == (euro(8_050), euro(8_050))
    assert not after_all.HasField("valid_until")


async def test_only_a_live_booking_whose_stay_is_not_over_has_a_preview(
    booking: RunningService,
) -> None:
    package = await booking.package(cancellation_policy=TIERS)
    held, confirmed = await booking.held(package.id), await booking.confirmed(package.id)
    # Nothing is paid of a hold.
    preview = await booking.booking.PreviewCancellation(Preview(booking_id=held.id))
    assert (preview.refund, preview.fee) == (euro(0), euro(0))
    assert not preview.HasField("valid_until")
    would_be = await booking.booking.CancelBooking(
        Cancel(booking_id=held.id, expected_refund=preview.refund, validate_only=True)
    )
    assert (would_be.state, would_be.end_reason) == (State.ABANDONED, "CANCELLED")
    assert await got(booking, held.id) == held
    booking.clock.advance(timedelta(hours=1))
    refusal = await refusal_of(booking.booking.PreviewCancellation(Preview(booking_id=held.id)))
    assert (refusal.code, refusal.reason) == (PRECONDITION, "INVALID_TRANSITION")
    assert refusal.metadata["state"] == "EXPIRED"
    booking.clock.advance(timedelta(days=120))
    for call in (
        booking.booking.PreviewCancellation(Preview(booking_id=confirmed.id)),
        booking.booking.CancelBooking(Cancel(booking_id=confirmed.id)),
        booking.booking.RescheduleBooking(moving(confirmed, 3, 5)),
    ):
        assert (await refusal_of(call)).reason == "NOT_CANCELLABLE"


async def test_validate_only_answers_the_cancelled_booking_and_keeps_it(
    booking: RunningService,
) -> None:
    package = await booking.package(cancellation_policy=TIERS)
    confirmed = await booking.confirmed(package.id)
    request = Cancel(booking_id=confirmed.id, reason="rain", validate_only=True)
    would_be = await booking.booking.CancelBooking(request)
    assert (would_be.state, would_be.refund) == (State.CANCELLED, euro(16_100))
    assert (would_be.id, would_be.end_reason, would_be.etag) == (confirmed.id, "rain", "")
    assert await got(booking, confirmed.id) == confirmed
    assert (await taken(booking, package.id))[:3] == [1, 1, 0]


async def test_an_etag_guards_against_what_others_changed(booking: RunningService) -> None:
    package = await booking.package()
    confirmed = await booking.confirmed(package.id)
    moved = await booking.booking.RescheduleBooking(moving(confirmed, 1, 3, etag=confirmed.etag))
    for call in (
        booking.booking.CancelBooking(Cancel(booking_id=confirmed.id, etag=confirmed.etag)),
        booking.booking.RescheduleBooking(moving(confirmed, 2, 4, etag=confirmed.etag)),
        booking.booking.PreviewReschedule(moving(confirmed, 2, 4, etag="other")),
    ):
        refusal = await refusal_of(call)
        assert (refusal.code, refusal.reason) == (grpc.StatusCode.ABORTED, "ETAG_MISMATCH")
        assert refusal.resource == ("booking", confirmed.id)
    assert await got(booking, confirmed.id) == moved
    cancelled = await booking.booking.CancelBooking(
        Cancel(booking_id=confirmed.id, etag=moved.etag)
    )
    assert cancelled.state == State.CANCELLED


async def test_a_longer_stay_keeps_the_days_in_both_and_leaves_a_balance(
    booking: RunningService,
) -> None:
    package = await booking.package(capacity=1)
    confirmed = await booking.confirmed(package.id)
    # Its own day 1 is no obstacle.
    request = moving(confirmed, 1, 4, request_id=str(uuid4()))
    preview = await booking.booking.PreviewReschedule(request)
    assert (preview.price, preview.balance_due) == (euro(24_150), euro(8_050))
    assert not preview.HasField("refund")
    request.validate_only = True
    would_be = await booking.booking.RescheduleBooking(request)
    assert (would_be.start_date, would_be.etag) == (after(1), "")
    assert await got(booking, confirmed.id) == confirmed
    request.validate_only = False
    moved = await booking.booking.RescheduleBooking(request)
    assert await booking.booking.RescheduleBooking(request) == moved
    assert moved.state == State.CONFIRMED
    assert (moved.price, moved.balance_due) == (preview.price, preview.balance_due)
    assert moved.confirm_time == confirmed.confirm_time
    assert await taken(booking, package.id, 5) == [0, 1, 1, 1, 0]
    paid = await booking.booking.ConfirmBooking(
        confirm_of(moved, amount=moved.balance_due, payment_id="balance")
    )
    assert not paid.HasField("balance_due")


async def test_a_shorter_stay_gives_the_difference_back(booking: RunningService) -> None:
    package = await booking.package()
    confirmed = await booking.confirmed(package.id)
    preview = await booking.booking.PreviewReschedule(moving(confirmed, 5, 6))
    assert (preview.price, preview.refund) == (euro(8_050), euro(8_050))
    assert not preview.HasField("balance_due")
    moved = await booking.booking.RescheduleBooking(moving(confirmed, 5, 6))
    assert moved.price == euro(8_050)
    assert not moved.HasField("balance_due")
    listed = await booking.payment.ListPayments(
        payment_pb2.ListPaymentsRequest(booking_id=confirmed.id)
    )
    (payment,) = listed.payments
    refund = payment_pb2.RefundPaymentRequest(id=payment.id, amount=euro(8_051))
    refusal = await refusal_of(booking.payment.RefundPayment(refund))
    assert refusal.metadata["refundable_minor"] == "8050"


async def test_a_seat_is_not_lost_when_the_new_days_are_sold_out(booking: RunningService) -> None:
    package = await booking.package(capacity=1, days=4)
    confirmed = await booking.confirmed(package.id)
    await booking.held(package.id, user_id="ben", start_date=after(2), end_date=after(3))
    for call in (booking.booking.PreviewReschedule, booking.booking.RescheduleBooking):
        refusal = await refusal_of(call(moving(confirmed, 1, 3)))
        assert (refusal.code, refusal.reason) == (PRECONDITION, "SOLD_OUT")
        assert refusal.metadata["days"] == f"{FIRST_DAY + timedelta(days=2)}=0"
    assert await got(booking, confirmed.id) == confirmed
    assert await taken(booking, package.id, 4) == [1, 1, 1, 0]


async def test_two_changes_to_one_free_day_succeed_once(booking: RunningService) -> None:
    package = await booking.package(capacity=1, days=3)
    stays = [
        await booking.confirmed(package.id, start_date=after(n), end_date=after(n + 1))
        for n in (0, 1)
    ]

    async def move(stay: booking_pb2.Booking) -> str:
        try:
            await booking.booking.RescheduleBooking(moving(stay, 2, 3))
        except grpc.aio.AioRpcError as error:
            return str(error.code().name)
        return "OK"

    assert sorted(await asyncio.gather(*map(move, stays))) == ["FAILED_PRECONDITION", "OK"]
    assert sorted(await taken(booking, package.id, 3)) == [0, 1, 1]


async def test_a_quoted_stay_is_moved_at_a_quoted_price(booking: RunningService) -> None:
    package = await booking.package(pricing=catalog_pb2.Package.QUOTED)
    quote = booking_pb2.Quote(price=euro(10_000))
    held = await booking.booking.StartBooking(start_of(package.id, quote=quote))
    await booking.booking.CompleteBooking(booking_pb2.CompleteBookingRequest(booking_id=held.id))
    confirmed = await booking.booking.ConfirmBooking(confirm_of(held))
    refusal = await refusal_of(booking.booking.RescheduleBooking(moving(confirmed, 4, 6)))
    assert refusal.reason == "QUOTE_REQUIRED"
    moved = await booking.booking.RescheduleBooking(
        moving(confirmed, 4, 6, quote=booking_pb2.Quote(price=euro(12_000)))
    )
    assert (moved.price, moved.balance_due) == (euro(12_000), euro(2_000))
