"""BatchStartBookings: an answer for each start, or all of them or none."""

from __future__ import annotations

import asyncio
from typing import Any
from uuid import uuid4

import grpc
from google.rpc import error_details_pb2

from protos.booking.v1 import booking_pb2
from tests.booking.running_service import FIRST_DAY, RunningService, after, refusal_of, start_of

Batch = booking_pb2.BatchStartBookingsRequest
State = booking_pb2.Booking.State
PRECONDITION = grpc.StatusCode.FAILED_PRECONDITION


def reason_of(result: Any) -> str:
    """The reason of an item that was refused; fails when it was not."""
    assert result.WhichOneof("result") == "error"
    info = error_details_pb2.ErrorInfo()
    assert any(detail.Unpack(info) for detail in result.error.details)
    assert info.domain == "booking.farehold"
    return str(info.reason)


async def listed(service: RunningService) -> Any:
    return (await service.booking.ListBookings(booking_pb2.ListBookingsRequest())).bookings


async def test_the_second_line_of_a_batch_does_not_get_the_seats_of_the_first(
    booking: RunningService,
) -> None:
    """3 + 3 of one day with 5 seats."""
    package = await booking.package(capacity=5)
    line = start_of(package.id, quantity=3)
    answer = await booking.booking.BatchStartBookings(Batch(requests=[line, line]))
    first, second = answer.results
    assert (first.booking.state, first.booking.quantity) == (State.HELD, 3)
    assert reason_of(second) == "SOLD_OUT"
    assert second.error.code == PRECONDITION.value[0]
    assert [each.id for each in await listed(booking)] == [first.booking.id]


async def test_all_or_nothing_takes_nothing_and_names_the_line(booking: RunningService) -> None:
    package = await booking.package(capacity=5)
    line = start_of(package.id, quantity=3)
    request = Batch(requests=[line, line], all_or_nothing=True, request_id=str(uuid4()))
    refusal = await refusal_of(booking.booking.BatchStartBookings(request))
    assert (refusal.code, refusal.reason) == (PRECONDITION, "SOLD_OUT")
    assert refusal.metadata["index"] == "1"
    assert refusal.metadata["days"].startswith(f"{FIRST_DAY}=2")
    assert list(await listed(booking)) == []


async def test_all_of_a_batch_over_several_packages_start_together_and_once(
    booking: RunningService,
) -> None:
    one, other = await booking.package(capacity=1), await booking.package(capacity=1)
    request = Batch(
        requests=[
            start_of(one.id),
            start_of(other.id),
            start_of(one.id, start_date=after(3), end_date=after(4)),
        ],
        all_or_nothing=True,
        request_id=str(uuid4()),
    )
    first, again = await asyncio.gather(
        booking.booking.BatchStartBookings(request), booking.booking.BatchStartBookings(request)
    )
    assert first == again == await booking.booking.BatchStartBookings(request)
    assert [each.booking.package_id for each in first.results] == [one.id, other.id, one.id]
    assert {each.id for each in await listed(booking)} == {
        each.booking.id for each in first.results
    }


async def test_each_line_is_answered_for_itself_with_all_details(booking: RunningService) -> None:
    package = await booking.package(capacity=1)
    missing = str(uuid4())
    answer = await booking.booking.BatchStartBookings(
        Batch(requests=[start_of(missing), start_of(package.id), start_of(package.id)]),
        metadata=[("x-session-id", "visit-1")],
    )
    absent, started, short = answer.results
    assert reason_of(absent) == "NOT_FOUND"
    resource = error_details_pb2.ResourceInfo()
    assert any(detail.Unpack(resource) for detail in absent.error.details)
    assert resource.resource_name == missing
    assert started.booking.session_id == "visit-1"
    assert reason_of(short) == "SOLD_OUT"


async def test_a_repeated_batch_starts_nothing_twice_and_tries_refused_lines_anew(
    booking: RunningService,
) -> None:
    package = await booking.package(capacity=1)
    other = await booking.held(package.id, start_date=after(5), end_date=after(6))
    request = Batch(
        requests=[
            start_of(package.id),
            start_of(package.id, start_date=after(5), end_date=after(6)),
        ],
        request_id=str(uuid4()),
    )
    first = await booking.booking.BatchStartBookings(request)
    assert reason_of(first.results[1]) == "SOLD_OUT"
    await booking.booking.AbandonBooking(booking_pb2.AbandonBookingRequest(booking_id=other.id))
    again = await booking.booking.BatchStartBookings(request)
    assert again.results[0] == first.results[0]
    assert again.results[1].booking.state == State.HELD
    assert len(await listed(booking)) == 3


async def test_a_batch_cannot_come_again_with_other_content(booking: RunningService) -> None:
    package = await booking.package()
    request = Batch(requests=[start_of(package.id)] * 2, request_id=str(uuid4()))
    await booking.booking.BatchStartBookings(request)
    request.requests[1].quantity = 2
    answer = await booking.booking.BatchStartBookings(request)
    assert [reason_of(each) for each in answer.results] == ["REQUEST_ID_REUSED"] * 2
    assert len(await listed(booking)) == 2


async def test_a_hundred_lines_take_each_seat_once(booking: RunningService) -> None:
    package = await booking.package(capacity=40)
    answer = await booking.booking.BatchStartBookings(
        Batch(requests=[start_of(package.id) for _ in range(100)])
    )
    started = [each.booking.id for each in answer.results if each.HasField("booking")]
    assert len(set(started)) == 40
    # In the order of the lines, though they were carried out together.
    assert all(each.HasField("booking") for each in answer.results[:40])
    assert {reason_of(each) for each in answer.results[40:]} == {"SOLD_OUT"}
