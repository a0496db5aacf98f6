"""A provider's events of bookings that are not known yet: kept, and applied once they are."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any
from uuid import uuid4

import asyncpg
import grpc

from protos.booking.v1 import booking_pb2, payment_pb2
from tests.booking.rpc.payment_calls import Kind, State, booking_of, event_of, payments_of
from tests.booking.running_service import RunningService, confirm_of, euro, refusal_of, running
from tests.booking.seed import eventually

PRICE = euro(8050 * 2)


async def early(service: RunningService, booking_id: str, kind: Any, **fields: Any) -> None:
    """An event of a booking that is not there."""
    missing = booking_pb2.Booking(id=booking_id, price=PRICE)
    refusal = await refusal_of(service.payment.RecordPayment(event_of(missing, kind, **fields)))
    assert refusal.code is grpc.StatusCode.NOT_FOUND
    assert refusal.resource == ("booking", booking_id)


async def kept(dsn: str) -> list[tuple[str, str]]:
    """The kind and the refusal of every event that is still kept."""
    connection = await asyncpg.connect(dsn)
    try:
        rows = await connection.fetch(
            "SELECT kind, refusal FROM early_payment_events ORDER BY kind, refusal"
        )
        return [(row["kind"], row["refusal"]) for row in rows]
    finally:
        await connection.close()


async def test_a_payment_that_came_first_confirms_its_booking(
    booking: RunningService, booking_dsn: str
) -> None:
    package = await booking.package(capacity=1)
    booking_id = str(uuid4())
    await early(booking, booking_id, Kind.AUTHORISED)
    await early(booking, booking_id, Kind.CAPTURED)
    await booking.server.sweeper.sweep()
    assert len(await kept(booking_dsn)) == 2
    await booking.held(package.id, booking_id=booking_id)
    await booking.server.sweeper.sweep()
    assert (await booking_of(booking, booking_id)).state == booking_pb2.Booking.CONFIRMED
    (payment,) = await payments_of(booking, booking_id)
    assert (payment.state, payment.amount) == (State.CAPTURED, PRICE)
    assert await kept(booking_dsn) == []


async def test_a_confirmation_that_came_first_is_kept_as_the_same_event(
    booking: RunningService, booking_dsn: str
) -> None:
    package = await booking.package(capacity=1)
    booking_id = str(uuid4())
    paid = confirm_of(booking_pb2.Booking(id=booking_id, price=PRICE))
    for _ in range(2):
        refusal = await refusal_of(booking.booking.ConfirmBooking(paid))
        assert refusal.resource == ("booking", booking_id)
    assert await kept(booking_dsn) == [("CAPTURED", "")]
    await booking.held(package.id, booking_id=booking_id)
    await booking.server.sweeper.sweep()
    assert (await booking_of(booking, booking_id)).state == booking_pb2.Booking.CONFIRMED
    assert await kept(booking_dsn) == []


async def test_a_running_service_applies_it_by_itself(booking_dsn: str) -> None:
    async with running(booking_dsn, BOOKING_SWEEP_INTERVAL_S="0.1") as service:
        package = await service.package()
        booking_id = str(uuid4())
        await early(service, booking_id, Kind.CAPTURED)
        await service.held(package.id, booking_id=booking_id)

        async def confirmed() -> bool:
            found = await booking_of(service, booking_id)
            return found.state == booking_pb2.Booking.CONFIRMED

        await eventually(confirmed)


async def test_copies_that_apply_it_at_once_confirm_once(
    booking: RunningService, booking_dsn: str
) -> None:
    package = await booking.package()
    booking_ids = [str(uuid4()) for _ in range(5)]
    for booking_id in booking_ids:
        await early(booking, booking_id, Kind.CAPTURED, payment_id=f"pay-{booking_id}")
    async with running(booking_dsn) as other:
        for booking_id in booking_ids:
            await booking.held(package.id, booking_id=booking_id)

        async def swept() -> bool:
            # A copy that cannot lock in time leaves the event to the next sweep.
            await asyncio.gather(*(each.server.sweeper.sweep() for each in (booking, other)))
            return await kept(booking_dsn) == []

        await eventually(swept)
    for booking_id in booking_ids:
        (payment,) = await payments_of(booking, booking_id)
        assert payment.state == State.CAPTURED
        confirmed = await booking_of(booking, booking_id)
        # Started, completed, confirmed: its third version.
        assert confirmed.etag.startswith('"3-')


async def test_many_deliveries_before_and_after_the_booking_have_one_effect(
    booking: RunningService, booking_dsn: str
) -> None:
    package = await booking.package()
    booking_id, request_id = str(uuid4()), str(uuid4())
    for _ in range(3):
        await early(booking, booking_id, Kind.CAPTURED, request_id=request_id)
    assert await kept(booking_dsn) == [("CAPTURED", "")]
    held = await booking.held(package.id, booking_id=booking_id)
    # The delivery after the booking is decided again, regardless of its request_id.
    redelivered = event_of(held, Kind.CAPTURED, request_id=request_id)
    payment = await booking.payment.RecordPayment(redelivered)
    assert payment.state == State.CAPTURED
    confirmed = await booking_of(booking, booking_id)
    await booking.server.sweeper.sweep()
    assert await booking_of(booking, booking_id) == confirmed
    assert await payments_of(booking, booking_id) == [payment]
    assert await kept(booking_dsn) == []


async def test_what_was_paid_and_paid_back_before_the_booking_is_both(
    booking: RunningService,
) -> None:
    package = await booking.package()
    booking_id = str(uuid4())
    await early(booking, booking_id, Kind.CAPTURED)
    booking.clock.advance(timedelta(seconds=1))
    await early(booking, booking_id, Kind.REFUNDED, refund_id="re-1", amount=euro(100))
    await booking.held(package.id, booking_id=booking_id)
    await booking.server.sweeper.sweep()
    (payment,) = await payments_of(booking, booking_id)
    assert (payment.state, payment.refunded) == (State.PARTIALLY_REFUNDED, euro(100))


async def test_a_hold_that_was_paid_before_it_began_does_not_expire(
    booking: RunningService,
) -> None:
    package = await booking.package()
    booking_id = str(uuid4())
    await early(booking, booking_id, Kind.CAPTURED)
    await booking.held(package.id, booking_id=booking_id)
    booking.clock.advance(timedelta(hours=1))
    await booking.server.sweeper.sweep()
    assert (await booking_of(booking, booking_id)).state == booking_pb2.Booking.CONFIRMED


async def test_an_event_that_does_not_fit_its_booking_is_kept_with_the_reason(
    booking: RunningService, booking_dsn: str
) -> None:
    package = await booking.package()
    booking_id = str(uuid4())
    await early(booking, booking_id, Kind.CAPTURED, amount=euro(1))
    await booking.held(package.id, booking_id=booking_id)
    for _ in range(2):
        await booking.server.sweeper.sweep()
        assert await kept(booking_dsn) == [("CAPTURED", "AMOUNT_MISMATCH")]
    assert (await booking_of(booking, booking_id)).state == booking_pb2.Booking.HELD
    assert await payments_of(booking, booking_id) == []


async def test_an_event_whose_booking_never_comes_is_kept_for_seven_days(
    booking: RunningService, booking_dsn: str
) -> None:
    await early(booking, str(uuid4()), Kind.CAPTURED)
    booking.clock.advance(timedelta(days=7))
    await booking.server.sweeper.sweep()
    assert await kept(booking_dsn) == [("CAPTURED", "")]
    booking.clock.advance(timedelta(microseconds=1))
    await booking.server.sweeper.sweep()
    assert await kept(booking_dsn) == []


async def test_a_bad_event_is_refused_and_not_kept(
    booking: RunningService, booking_dsn: str
) -> None:
    request = payment_pb2.RecordPaymentRequest(booking_id=str(uuid4()), kind=Kind.CAPTURED)
    refusal = await refusal_of(booking.payment.RecordPayment(request))
    assert refusal.code is grpc.StatusCode.INVALID_ARGUMENT
    assert await kept(booking_dsn) == []
