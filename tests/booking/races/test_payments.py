"""What a provider says reaches both copies of the service at once, many times and in any order:
every payment counts once, and no more is paid back than was taken.
"""

from __future__ import annotations

import random
from functools import partial
from typing import Any
from uuid import uuid4

from protos.booking.v1 import booking_pb2, catalog_pb2, payment_pb2
from tests.booking.races.clients import DEADLINE_S, patient, reasons, released, rows, watched
from tests.booking.running_service import RunningService, confirm_of, euro
from tests.sizes import size

Kind = payment_pb2.RecordPaymentRequest


async def test_the_browser_and_ten_provider_events_confirm_a_booking_once(
    booking_dsn: str,
) -> None:
    chance = random.Random(20)
    async with patient(booking_dsn) as one, patient(booking_dsn) as other, watched(booking_dsn):
        package = await one.package(capacity=1000, days=1)
        for _ in range(size(5, 100)):
            pending = await one.completed(package.id, end_date=None)
            paid = confirm_of(pending)
            captured = event_of(paid, Kind.CAPTURED)
            failed = event_of(paid, Kind.FAILED)
            # A first attempt that failed, reported after the second has succeeded.
            failed.payment_id = f"first-{uuid4()}"
            calls: list[Any] = [
                *(partial(confirm, copy, paid) for copy in (one, other)),
                *(partial(record, copy, captured) for copy in (one, other) * 5),
                *(partial(record, copy, failed) for copy in (one, other)),
                partial(record, other, event_of(paid, Kind.AUTHORISED)),
            ]
            chance.shuffle(calls)
            answers = await released(calls)
            assert reasons(answers) == []
            bookings = [each for each in answers if isinstance(each, booking_pb2.Booking)]
            assert [each.state for each in bookings] == [booking_pb2.Booking.CONFIRMED] * 2
            (found,) = await rows(
                booking_dsn,
                "SELECT b.state, count(*) FILTER (WHERE e.transition = 'CONFIRMED') AS times, "
                "(SELECT array_agg(p.state ORDER BY p.state) FROM payments AS p "
                "WHERE p.booking_id = b.id) AS payments, "
                "(SELECT count(*) FROM refunds AS r WHERE r.booking_id = b.id) AS refunds "
                "FROM bookings AS b INNER JOIN booking_events AS e ON e.booking_id = b.id "
                "WHERE b.id::text = $1 GROUP BY b.id",
                pending.id,
            )
            assert tuple(found) == ("CONFIRMED", 1, ["CAPTURED", "FAILED"], 0)


async def test_a_cancellation_while_the_payment_arrives_ends_one_way_or_the_other(
    booking_dsn: str,
) -> None:
    """Cancelled once paid for, or released before: all of the money is due back either way."""
    chance = random.Random(29)
    ends: set[str] = set()
    async with patient(booking_dsn) as one, patient(booking_dsn) as other, watched(booking_dsn):
        full = catalog_pb2.CancellationPolicy.Tier(refund_basis_points=10_000)
        policy = catalog_pb2.CancellationPolicy(tiers=[full])
        package = await one.package(capacity=1000, days=1, cancellation_policy=policy)
        rounds = size(15, 200)
        for number in range(10 * rounds):
            # Who is first is chance: on until each was.
            if number >= rounds and len(ends) == 2:
                break
            # Whether the form was completed makes no difference.
            first = one.completed if number % 2 else one.held
            pending = await first(package.id, end_date=None)
            paid = confirm_of(pending)
            copies = [one, other]
            chance.shuffle(copies)
            calls: list[Any] = [
                partial(confirm, copies[0], paid),
                partial(cancel, copies[1], pending.id),
            ]
            turned = chance.random() < 0.5
            answers = await released(calls[::-1] if turned else calls)
            confirmed, cancelled = answers[::-1] if turned else answers
            assert isinstance(cancelled, booking_pb2.Booking)
            (found,) = await rows(
                booking_dsn,
                "SELECT b.state, b.price_minor, "
                "(SELECT sum(amount_minor) FROM refunds AS r WHERE r.booking_id = b.id) AS owed "
                "FROM bookings AS b WHERE b.id::text = $1",
                pending.id,
            )
            assert found["owed"] == found["price_minor"]
            if isinstance(confirmed, booking_pb2.Booking):
                assert found["state"] == "CANCELLED"
            else:
                assert reasons([confirmed]) == ["INVALID_TRANSITION"]
                assert found["state"] == "ABANDONED"
            ends.add(found["state"])
    assert ends == {"CANCELLED", "ABANDONED"}


async def test_refunds_asked_for_at_once_never_exceed_what_was_captured(booking_dsn: str) -> None:
    price, part = 8050, 1000
    async with patient(booking_dsn) as one, patient(booking_dsn) as other, watched(booking_dsn):
        package = await one.package(capacity=1000, days=1, base_price=euro(price))
        for _ in range(size(5, 100)):
            booking = await one.confirmed(package.id, end_date=None)
            (payment,) = await rows(
                booking_dsn,
                "SELECT id::text, payment_id FROM payments WHERE booking_id::text = $1",
                booking.id,
            )
            answers = await released(
                [partial(refund, copy, payment["id"], part) for copy in (one, other) * 6]
            )
            assert reasons(answers) == ["OVER_REFUND"] * (12 - price // part)
            # The provider reports each refund to both copies twice, and one that is too large.
            paid_out = [
                payment_pb2.RecordPaymentRequest(
                    booking_id=booking.id,
                    provider="stripe",
                    payment_id=payment["payment_id"],
                    kind=Kind.REFUNDED,
                    amount=euro(part),
                    refund_id=f"re-{payment['id']}-{n}",
                )
                for n in range(12)
            ]
            reported = await released(
                [partial(record, copy, event) for event in paid_out for copy in (one, other)]
            )
            assert set(reasons(reported)) == {"OVER_REFUND"}
            (found,) = await rows(
                booking_dsn,
                "SELECT p.state, p.refunded_minor, count(*) FILTER (WHERE r.state = 'COMPLETED') "
                "AS completed, count(*) AS asked FROM payments AS p "
                "INNER JOIN refunds AS r ON r.payment_id = p.id "
                "WHERE p.booking_id::text = $1 GROUP BY p.id",
                booking.id,
            )
            times = price // part
            assert tuple(found) == ("PARTIALLY_REFUNDED", times * part, times, times)


def event_of(paid: booking_pb2.ConfirmBookingRequest, kind: Any) -> Kind:
    return payment_pb2.RecordPaymentRequest(
        booking_id=paid.booking_id,
        provider=paid.provider,
        payment_id=paid.payment_id,
        kind=kind,
        amount=paid.amount,
    )


async def confirm(service: RunningService, paid: booking_pb2.ConfirmBookingRequest) -> Any:
    return await service.booking.ConfirmBooking(paid, timeout=DEADLINE_S)


async def record(service: RunningService, event: Kind) -> Any:
    return await service.payment.RecordPayment(event, timeout=DEADLINE_S)


async def cancel(service: RunningService, booking_id: str) -> Any:
    return await service.booking.CancelBooking(
        booking_pb2.CancelBookingRequest(booking_id=booking_id), timeout=DEADLINE_S
    )


async def refund(service: RunningService, payment_row_id: str, cents: int) -> Any:
    return await service.payment.RefundPayment(
        payment_pb2.RefundPaymentRequest(id=payment_row_id, amount=euro(cents)),
        timeout=DEADLINE_S,
    )
