"""ListRefunds, GetRefund and ClaimRefunds: all that is owed is seen, and each refund is handed to
one caller for the length of a lease.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import UTC, timedelta
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import grpc
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from protos.booking.v1 import booking_pb2, catalog_pb2, payment_pb2
from tests.booking.rpc.payment_calls import Kind, State, booking_of, event_of, payments_of
from tests.booking.running_service import (
    NOON,
    RunningService,
    after,
    confirm_of,
    euro,
    refusal_of,
    running,
)

List = payment_pb2.ListRefundsRequest
Claim = payment_pb2.ClaimRefundsRequest
Get = payment_pb2.GetRefundRequest
Refund = payment_pb2.Refund

NIGHT = 8050
SECOND = timedelta(seconds=1)
FULL = catalog_pb2.CancellationPolicy(
    tiers=[catalog_pb2.CancellationPolicy.Tier(before=Duration(), refund_basis_points=10_000)]
)
MANY = """
INSERT INTO refunds (
    id, booking_id, payment_id, state, amount_minor, currency, reason, create_time, update_time,
    vendor_id
)
SELECT gen_random_uuid(), $1, $2, 'COMPLETED', 1, 'EUR', '', $3, $3, $4 FROM generate_series(1, 25)
"""


async def listed(service: RunningService, **fields: Any) -> list[payment_pb2.Refund]:
    return list((await service.payment.ListRefunds(List(**fields))).refunds)


async def claimed(service: RunningService, **fields: Any) -> list[str]:
    """The ids of the refunds that are handed out."""
    answer = await service.payment.ClaimRefunds(Claim(**fields))
    return [each.id for each in answer.refunds]


async def owed(service: RunningService, count: int, package_id: str = "") -> list[str]:
    """The ids of refunds of cancelled bookings, requested a second apart."""
    package_id = package_id or (await service.package(capacity=99, cancellation_policy=FULL)).id
    ids = []
    for n in range(count):
        stay = await service.confirmed(package_id, user_id=f"user {n}")
        await service.booking.CancelBooking(booking_pb2.CancelBookingRequest(booking_id=stay.id))
        ids += [each.id for each in await listed(service, booking_id=stay.id)]
        service.clock.advance(SECOND)
    return ids


async def pay(service: RunningService, refund: payment_pb2.Refund, minor: int, name: str) -> None:
    """What the payment service reports of a refund that it has paid out at the provider."""
    await service.payment.RecordPayment(
        payment_pb2.RecordPaymentRequest(
            booking_id=refund.booking_id,
            provider=refund.provider,
            payment_id=refund.provider_payment_id,
            kind=Kind.REFUNDED,
            amount=euro(minor),
            refund_id=name,
        )
    )


async def test_every_kind_of_money_owed_is_in_one_list(booking: RunningService) -> None:
    """Of a cancellation, a change of dates, a request, and a payment that came too late."""
    package = await booking.package(capacity=9, cancellation_policy=FULL)
    cancelled, moved, asked = [await booking.confirmed(package.id) for _ in range(3)]
    await booking.booking.CancelBooking(booking_pb2.CancelBookingRequest(booking_id=cancelled.id))
    booking.clock.advance(SECOND)
    await booking.booking.RescheduleBooking(
        booking_pb2.RescheduleBookingRequest(
            booking_id=moved.id, start_date=after(5), end_date=after(6)
        )
    )
    booking.clock.advance(SECOND)
    (payment,) = await payments_of(booking, asked.id)
    requested = await booking.payment.RefundPayment(
        payment_pb2.RefundPaymentRequest(id=payment.id, amount=euro(7), reason="no towels")
    )
    booking.clock.advance(SECOND)
    late = await booking.held(package.id)
    await booking.booking.CancelBooking(booking_pb2.CancelBookingRequest(booking_id=late.id))
    refusal = await refusal_of(booking.booking.ConfirmBooking(confirm_of(late, payment_id="late")))
    assert refusal.reason == "INVALID_TRANSITION"

    found = await listed(booking, states=[Refund.REQUESTED])
    assert [(each.booking_id, each.reason, each.amount) for each in found] == [
        (cancelled.id, "CANCELLED", euro(2 * NIGHT)),
        (moved.id, "RESCHEDULED", euro(NIGHT)),
        (asked.id, "no towels", euro(7)),
        (late.id, "REFUND_DUE", late.price),
    ]
    assert found[2] == requested
    assert requested.payment_id == payment.id
    assert (requested.provider, requested.provider_payment_id) == ("stripe", payment.payment_id)
    assert found[3].provider_payment_id == "late"
    assert (await payments_of(booking, late.id))[0].state == State.REFUND_DUE
    for each in found:
        assert each.paid_out == euro(0)
        assert each.vendor_id == package.vendor_id
        assert each.next_attempt_time == each.create_time
        assert await booking.payment.GetRefund(Get(id=each.id)) == each
    booking.clock.advance(SECOND)
    assert await claimed(booking) == [each.id for each in found]


async def test_a_booking_shows_what_was_requested_and_what_was_paid_back(
    booking: RunningService,
) -> None:
    package = await booking.package(capacity=9, cancellation_policy=FULL)
    stay = await booking.confirmed(package.id)
    assert not stay.HasField("refund_requested")
    moved = await booking.booking.RescheduleBooking(
        booking_pb2.RescheduleBookingRequest(
            booking_id=stay.id, start_date=after(5), end_date=after(6)
        )
    )
    assert (moved.refund_requested, moved.refunded) == (euro(NIGHT), euro(0))
    assert not moved.HasField("refund")
    (refund,) = await listed(booking, booking_id=stay.id)
    await pay(booking, refund, 50, "re-1")
    (refund,) = await listed(booking, booking_id=stay.id)
    assert (refund.state, refund.paid_out) == (Refund.REQUESTED, euro(50))
    shown = await booking_of(booking, stay.id)
    assert (shown.refund_requested, shown.refunded) == (euro(NIGHT), euro(50))
    await pay(booking, refund, NIGHT - 50, "re-2")
    (refund,) = await listed(booking, booking_id=stay.id)
    assert (refund.state, refund.paid_out) == (Refund.COMPLETED, euro(NIGHT))
    assert not refund.HasField("next_attempt_time")

    (payment,) = await payments_of(booking, stay.id)
    await booking.payment.RefundPayment(
        payment_pb2.RefundPaymentRequest(id=payment.id, amount=euro(7))
    )
    asked = await booking_of(booking, stay.id)
    assert asked.refund_requested == euro(NIGHT + 7)
    assert asked.etag != shown.etag
    cancelled = await booking.booking.CancelBooking(
        booking_pb2.CancelBookingRequest(booking_id=stay.id)
    )
    assert cancelled.refund == euro(NIGHT - 7)
    assert (cancelled.refund_requested, cancelled.refunded) == (euro(2 * NIGHT), euro(NIGHT))


async def test_a_list_is_filtered_by_every_field(booking: RunningService) -> None:
    first, second, third = await owed(booking, 3)
    (other,) = await owed(booking, 1)
    paid = await booking.payment.GetRefund(Get(id=second))
    await pay(booking, paid, 2 * NIGHT, "re")
    vendor = {"vendor_id": paid.vendor_id}

    async def found(**fields: Any) -> Sequence[str]:
        return [each.id for each in await listed(booking, **fields)]

    def at(seconds: float) -> Timestamp:
        message = Timestamp()
        message.FromDatetime(NOON + timedelta(seconds=seconds))
        return message

    assert await found() == [first, second, third, other]
    assert await found(**vendor) == [first, second, third]
    assert await found(states=[Refund.COMPLETED]) == [second]
    assert await found(states=[Refund.REQUESTED]) == [first, third, other]
    assert await found(states=[Refund.REQUESTED], **vendor) == [first, third]
    assert await found(states=[Refund.REQUESTED, Refund.COMPLETED]) == await found()
    assert await found(booking_id=paid.booking_id) == [second]
    assert await found(booking_id=paid.booking_id, **vendor) == [second]
    assert await found(booking_id=paid.booking_id, vendor_id=str(uuid4())) == []
    assert await found(booking_id=paid.booking_id, states=[Refund.REQUESTED]) == []
    assert await found(booking_id=str(uuid4())) == await found(vendor_id=str(uuid4())) == []
    for fields in ({}, vendor):
        assert await found(created_until=at(0.9), **fields) == [first]
        assert (await found(created_from=at(0.9), **fields))[:2] == [second, third]
        assert await found(created_from=at(0.9), created_until=at(1.9), **fields) == [second]
    assert await found(booking_id=paid.booking_id, created_from=at(1.9)) == []


async def test_refunds_of_one_instant_are_each_listed_once(
    booking: RunningService, booking_dsn: str
) -> None:
    (first,) = await owed(booking, 1)
    refund = await booking.payment.GetRefund(Get(id=first))
    connection = await asyncpg.connect(booking_dsn)
    args = UUID(refund.booking_id), UUID(refund.payment_id), NOON, UUID(refund.vendor_id)
    await connection.execute(MANY, *args)
    of: list[dict[str, Any]] = [
        {},
        {"vendor_id": refund.vendor_id},
        {"booking_id": refund.booking_id},
    ]
    for fields in of:
        seen: list[str] = []
        request = List(page_size=10, **fields)
        for page in range(3):
            answer = await booking.payment.ListRefunds(request)
            seen += [each.id for each in answer.refunds]
            request.page_token = answer.next_page_token
            assert bool(request.page_token) == (page < 2)
        assert len(seen) == len(set(seen)) == 26
        assert seen[-1] == first
    token = (await booking.payment.ListRefunds(List(page_size=1))).next_page_token
    for other in (
        booking.payment.ListRefunds(List(vendor_id=refund.vendor_id, page_token=token)),
        booking.payment.ListFailedPayments(payment_pb2.ListFailedPaymentsRequest(page_token=token)),
    ):
        assert (await refusal_of(other)).reason == "PAGE_TOKEN_INVALID"
    await connection.execute(MANY.replace("25", "200"), *args)
    await connection.close()
    for size, length in ((0, 50), (7, 7), (2**31 - 1, 200)):
        assert len(await listed(booking, page_size=size)) == length


async def test_a_refund_that_is_not_there_is_not_found(booking: RunningService) -> None:
    missing = str(uuid4())
    refusal = await refusal_of(booking.payment.GetRefund(Get(id=missing)))
    assert (refusal.code, refusal.resource) == (grpc.StatusCode.NOT_FOUND, ("refund", missing))


async def test_a_claimed_refund_is_not_handed_out_until_its_lease_is_over(
    booking: RunningService,
) -> None:
    (owed_id,) = await owed(booking, 1)
    answer = await booking.payment.ClaimRefunds(Claim(lease=Duration(seconds=60)))
    (refund,) = answer.refunds
    assert (refund.id, refund.state, refund.amount) == (owed_id, Refund.REQUESTED, euro(2 * NIGHT))
    taken = refund.update_time.ToDatetime(UTC)
    assert refund.next_attempt_time.ToDatetime(UTC) == taken + timedelta(minutes=1)
    assert await listed(booking) == [refund]
    booking.clock.advance(timedelta(seconds=59))
    assert await claimed(booking) == []
    booking.clock.advance(timedelta(seconds=2))
    # Without a lease, five minutes.
    assert await claimed(booking) == [owed_id]
    booking.clock.advance(timedelta(minutes=5) - timedelta(seconds=1))
    assert await claimed(booking) == []
    booking.clock.advance(timedelta(seconds=2))
    # Part of it was paid out meanwhile: the rest is handed out, and once it is paid nothing.
    await pay(booking, refund, 100, "re-1")
    (again,) = (await booking.payment.ClaimRefunds(Claim())).refunds
    assert (again.id, again.paid_out) == (owed_id, euro(100))
    await pay(booking, again, 2 * NIGHT - 100, "re-2")
    booking.clock.advance(timedelta(hours=1))
    assert await claimed(booking) == []


async def test_the_longest_due_are_handed_out_first_and_no_more_than_asked(
    booking: RunningService,
) -> None:
    ids = await owed(booking, 12)
    assert await claimed(booking, limit=1) == ids[:1]
    assert await claimed(booking) == ids[1:11]
    assert await claimed(booking, limit=1000) == ids[11:]


async def test_claims_at_once_hand_out_each_refund_once(
    booking: RunningService, booking_dsn: str
) -> None:
    """From two copies of the service, of refunds of several packages."""
    ids = [each for _ in range(4) for each in await owed(booking, 4)]
    async with running(booking_dsn) as other:
        other.clock.time = booking.clock.time
        handed_out: list[str] = []
        for _ in range(10):
            answers = await asyncio.gather(
                *(claimed(service, limit=3) for service in (booking, other) for _ in range(4))
            )
            handed_out += [each for answer in answers for each in answer]
            if not any(answers):
                break
    assert sorted(handed_out) == sorted(ids)


async def test_a_repeated_claim_gets_the_first_answer(booking: RunningService) -> None:
    await owed(booking, 1)
    request = Claim(request_id=str(uuid4()))
    first = await booking.payment.ClaimRefunds(request)
    assert len(first.refunds) == 1
    later = await owed(booking, 1)
    assert await booking.payment.ClaimRefunds(request) == first
    assert await claimed(booking) == later
    empty = Claim(request_id=str(uuid4()))
    assert not (await booking.payment.ClaimRefunds(empty)).refunds
    await owed(booking, 1)
    assert not (await booking.payment.ClaimRefunds(empty)).refunds


async def test_what_was_paid_back_without_a_request_counts_towards_no_later_one(
    booking: RunningService,
) -> None:
    package = await booking.package(capacity=9)
    stay = await booking.confirmed(package.id)
    (payment,) = await payments_of(booking, stay.id)
    back = event_of(stay, Kind.REFUNDED, payment.payment_id, amount=euro(5000), refund_id="a")
    await booking.payment.RecordPayment(back)
    shown = await booking_of(booking, stay.id)
    assert (shown.refunded, shown.HasField("refund_requested")) == (euro(5000), False)
    request = payment_pb2.RefundPaymentRequest(id=payment.id, amount=euro(3000))
    refund = await booking.payment.RefundPayment(request)
    await pay(booking, refund, 1000, "b")
    (refund,) = await listed(booking)
    assert (refund.state, refund.paid_out) == (Refund.REQUESTED, euro(1000))
    # 161.00 less 60.00 paid back and 20.00 owed.
    request.amount.CopyFrom(euro(8101))
    refusal = await refusal_of(booking.payment.RefundPayment(request))
    assert refusal.metadata["refundable_minor"] == "8100"
