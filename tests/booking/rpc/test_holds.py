"""ExtendHold, FailBooking and the quote that StartBooking gives with validate_only."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, timedelta
from typing import Any
from uuid import uuid4

import grpc
import pytest

from protos.booking.v1 import booking_pb2, catalog_pb2
from tests.booking.running_service import (
    NOON,
    RunningService,
    after,
    euro,
    refusal_of,
    running,
    start_of,
)

State = booking_pb2.Booking.State
Extend = booking_pb2.ExtendHoldRequest
Fail = booking_pb2.FailBookingRequest
Complete = booking_pb2.CompleteBookingRequest
PRECONDITION = grpc.StatusCode.FAILED_PRECONDITION


async def free(service: RunningService, package_id: str) -> int:
    seats = await service.catalog.CheckAvailability(
        catalog_pb2.CheckAvailabilityRequest(package_id=package_id, start_date=after(0))
    )
    return int(seats.days[0].free)


async def test_an_extended_hold_has_its_full_time_again(booking: RunningService) -> None:
    package = await booking.package(capacity=1)
    held = await booking.held(package.id)
    booking.clock.advance(timedelta(minutes=10))
    extended = await booking.booking.ExtendHold(Extend(booking_id=held.id))
    assert (extended.state, extended.extensions) == (State.HELD, 1)
    assert extended.hold_expire_time.ToDatetime(UTC) == NOON + timedelta(minutes=25)
    assert extended.etag != held.etag
    booking.clock.advance(timedelta(minutes=10))
    pending = await booking.booking.CompleteBooking(Complete(booking_id=held.id))
    assert pending.state == State.PENDING_PAYMENT
    again = await booking.booking.ExtendHold(Extend(booking_id=held.id))
    assert (again.state, again.extensions) == (State.PENDING_PAYMENT, 2)


async def test_a_hold_is_extended_only_so_often(booking: RunningService) -> None:
    package = await booking.package()
    held = await booking.held(package.id)
    for _ in range(3):
        await booking.booking.ExtendHold(Extend(booking_id=held.id))
    refusal = await refusal_of(booking.booking.ExtendHold(Extend(booking_id=held.id)))
    assert (refusal.code, refusal.reason) == (PRECONDITION, "EXTEND_LIMIT")
    assert refusal.metadata["limit"] == "3"
    assert refusal.resource == ("booking", held.id)


CHANGES = (
    ("CompleteBooking", Complete),
    ("ExtendHold", Extend),
    ("AbandonBooking", booking_pb2.AbandonBookingRequest),
    ("FailBooking", lambda **fields: Fail(reason="TIMEOUT", **fields)),
)


def test_every_change_of_a_booking_takes_an_etag_but_what_has_happened() -> None:
    service = booking_pb2.DESCRIPTOR.services_by_name["BookingService"]
    without = {
        method.name
        for method in service.methods
        if {"booking_id", "request_id"} <= set(method.input_type.fields_by_name)
        and "etag" not in method.input_type.fields_by_name
    }
    # StartBooking's booking_id is that of a new one.
    assert without == {"StartBooking", "ConfirmBooking"}


@pytest.mark.parametrize(("rpc", "request_of"), CHANGES, ids=[name for name, _ in CHANGES])
async def test_an_etag_guards_a_hold(
    booking: RunningService, rpc: str, request_of: Callable[..., Any]
) -> None:
    package = await booking.package()
    held = await booking.held(package.id)
    change = getattr(booking.booking, rpc)
    extended = await booking.booking.ExtendHold(Extend(booking_id=held.id))
    refusal = await refusal_of(change(request_of(booking_id=held.id, etag=held.etag)))
    assert (refusal.code, refusal.reason) == (grpc.StatusCode.ABORTED, "ETAG_MISMATCH")
    assert refusal.resource == ("booking", held.id)
    get = booking_pb2.GetBookingRequest(booking_id=held.id)
    assert await booking.booking.GetBooking(get) == extended
    changed = await change(request_of(booking_id=held.id, etag=extended.etag))
    assert changed.etag != extended.etag
    if rpc != "ExtendHold":
        # It has happened, whatever the caller had read.
        assert await change(request_of(booking_id=held.id, etag=held.etag)) == changed


async def test_a_hold_that_lapsed_is_called_that_whatever_its_etag(
    booking: RunningService,
) -> None:
    package = await booking.package()
    held = await booking.held(package.id)
    booking.clock.advance(timedelta(minutes=16))
    for request in (Complete(booking_id=held.id, etag="x"), Complete(booking_id=held.id)):
        refusal = await refusal_of(booking.booking.CompleteBooking(request))
        assert refusal.reason == "HOLD_EXPIRED"


async def test_a_lapsed_hold_cannot_be_extended(booking: RunningService) -> None:
    package = await booking.package(capacity=1)
    held = await booking.held(package.id)
    booking.clock.advance(timedelta(minutes=16))
    refusal = await refusal_of(booking.booking.ExtendHold(Extend(booking_id=held.id)))
    assert (refusal.code, refusal.reason) == (PRECONDITION, "HOLD_EXPIRED")
    assert await free(booking, package.id) == 1


async def test_a_confirmed_booking_is_no_hold(booking: RunningService) -> None:
    package = await booking.package()
    confirmed = await booking.confirmed(package.id)
    for call in (
        booking.booking.ExtendHold(Extend(booking_id=confirmed.id)),
        booking.booking.FailBooking(Fail(booking_id=confirmed.id, reason="PAYMENT_TIMEOUT")),
    ):
        refusal = await refusal_of(call)
        assert (refusal.code, refusal.reason) == (PRECONDITION, "INVALID_TRANSITION")
        assert refusal.metadata["state"] == "CONFIRMED"


async def test_a_failed_booking_frees_its_seats_and_keeps_the_reason(
    booking: RunningService,
) -> None:
    package = await booking.package(capacity=1)
    pending = await booking.completed(package.id)
    failure = Fail(booking_id=pending.id, reason="PAYMENT_TIMEOUT")
    failed = await booking.booking.FailBooking(failure)
    assert (failed.state, failed.end_reason) == (State.FAILED, "PAYMENT_TIMEOUT")
    assert failed.HasField("end_time")
    assert await free(booking, package.id) == 1
    # It ended once: the first reason stays.
    failure.reason = "OTHER"
    assert await booking.booking.FailBooking(failure) == failed
    listed = await booking.booking.ListBookings(
        booking_pb2.ListBookingsRequest(states=[State.FAILED])
    )
    assert list(listed.bookings) == [failed]


async def test_a_quote_names_the_price_and_takes_nothing(booking: RunningService) -> None:
    package = await booking.package(capacity=2)
    request = start_of(package.id, quantity=2, validate_only=True, request_id=str(uuid4()))
    quote = await booking.booking.StartBooking(request)
    assert quote.price == euro(8050 * 2 * 2)
    assert (quote.package_id, quote.vendor_id) == (package.id, package.vendor_id)
    assert (quote.start_date, quote.end_date) == (after(0), after(2))
    for unset in ("id", "etag", "state", "hold_expire_time", "create_time", "update_time"):
        assert not present(quote, unset)
    assert await free(booking, package.id) == 2
    answer = await booking.booking.ListBookings(booking_pb2.ListBookingsRequest())
    assert list(answer.bookings) == []
    # The same request id without validate_only: a quote is not stored as the first answer.
    request.validate_only = False
    assert (await booking.booking.StartBooking(request)).price == quote.price
    assert await free(booking, package.id) == 0


async def test_a_quote_is_refused_as_the_booking_would_be(booking: RunningService) -> None:
    package = await booking.package(capacity=1)
    held = await booking.held(package.id)
    for request, reason in (
        (start_of(package.id), "SOLD_OUT"),
        (start_of(str(uuid4())), "NOT_FOUND"),
        (start_of(package.id, booking_id=held.id), "ALREADY_EXISTS"),
        (
            start_of(package.id, party_size=1000, start_date=after(40), end_date=after(41)),
            "SOLD_OUT",
        ),
        (
            start_of(
                package.id,
                start_date=after(4),
                end_date=after(5),
                quote=booking_pb2.Quote(price=euro(1)),
            ),
            "PRICE_CHANGED",
        ),
    ):
        request.validate_only = True
        assert (await refusal_of(booking.booking.StartBooking(request))).reason == reason


async def test_a_quote_sees_past_a_lapsed_hold_without_ending_it(booking_dsn: str) -> None:
    # The sweep runs once an hour: only the quote could end the hold meanwhile.
    async with running(booking_dsn, BOOKING_SWEEP_INTERVAL_S="3600") as booking:
        package = await booking.package(capacity=1)
        held = await booking.held(package.id)
        booking.clock.advance(timedelta(minutes=16))
        request = start_of(package.id, validate_only=True)
        assert (await booking.booking.StartBooking(request)).price == held.price
        get = booking_pb2.GetBookingRequest(booking_id=held.id)
        assert await booking.booking.GetBooking(get) == held


def present(message: Any, name: str) -> bool:
    field = message.DESCRIPTOR.fields_by_name[name]
    return bool(message.HasField(name) if field.message_type else getattr(message, name))
