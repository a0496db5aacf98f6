"""Calls are retried with the same request until they are answered; refusals are not."""

from __future__ import annotations

from collections.abc import AsyncIterator
from functools import partial
from itertools import count
from types import SimpleNamespace

import grpc
import pytest
from google.protobuf import any_pb2
from google.rpc import error_details_pb2, status_pb2
from grpc import aio
from grpc_status import rpc_status

from booking_service.demo import calls
from booking_service.demo.calls import Client, RefusalError, UnreachableError
from protos.booking.v1 import booking_pb2, booking_pb2_grpc

METHOD = "booking.v1.BookingService"
Context = aio.ServicerContext[booking_pb2.AbandonBookingRequest, booking_pb2.Booking]


class Scripted:
    """Answers AbandonBooking with each of its refusals in turn, then with the booking."""

    def __init__(self) -> None:
        self.refusals: list[tuple[grpc.StatusCode, str]] = []
        self.seen: list[booking_pb2.AbandonBookingRequest] = []
        self.sessions: list[object] = []

    async def answer(
        self, request: booking_pb2.AbandonBookingRequest, context: Context
    ) -> booking_pb2.Booking:
        self.seen.append(request)
        metadata = context.invocation_metadata() or ()
        self.sessions += [value for key, value in metadata if key == "x-session-id"]
        if self.refusals:
            code, reason = self.refusals.pop(0)
            detail = any_pb2.Any()
            detail.Pack(error_details_pb2.ErrorInfo(reason=reason))
            number: int = code.value[0]
            status = status_pb2.Status(code=number, message="as scripted", details=[detail])
            await context.abort_with_status(rpc_status.to_status(status))
        return booking_pb2.Booking(id=request.booking_id)


@pytest.fixture
def scripted() -> Scripted:
    return Scripted()


@pytest.fixture
async def client(scripted: Scripted) -> AsyncIterator[Client]:
    handler = grpc.unary_unary_rpc_method_handler(
        scripted.answer,
        request_deserializer=booking_pb2.AbandonBookingRequest.FromString,
        response_serializer=booking_pb2.Booking.SerializeToString,
    )
    server = aio.server()
    server.add_generic_rpc_handlers(
        (grpc.method_handlers_generic_handler(METHOD, {"AbandonBooking": handler}),)
    )
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with Client(f"127.0.0.1:{port}", give_up_s=20.0) as client:
        yield client
    await server.stop(None)


async def abandon(client: Client) -> booking_pb2.Booking:
    stub = booking_pb2_grpc.BookingServiceStub(client.channel)
    request = booking_pb2.AbandonBookingRequest(booking_id="b", request_id="r")
    return await client.call(stub.AbandonBooking, request, session_id="s")


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        (grpc.StatusCode.UNAVAILABLE, "DATABASE_UNAVAILABLE"),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, "OVERLOADED"),
        (grpc.StatusCode.DEADLINE_EXCEEDED, ""),
        (grpc.StatusCode.ABORTED, ""),
        (grpc.StatusCode.CANCELLED, ""),
    ],
)
async def test_passing_failure_is_tried_again_with_the_same_request(
    client: Client, scripted: Scripted, code: grpc.StatusCode, reason: str
) -> None:
    # Before the connection there are failures that are not scripted.
    await client.connect(timeout_s=20.0)
    scripted.refusals = [(code, reason)] * 2
    assert (await abandon(client)).id == "b"
    assert [request.request_id for request in scripted.seen] == ["r", "r", "r"]
    assert scripted.sessions == ["s", "s", "s"]
    assert (client.requests, client.retries) == (1, 2)


async def test_refusal_is_raised_at_once_with_its_reason(
    client: Client, scripted: Scripted
) -> None:
    scripted.refusals = [(grpc.StatusCode.FAILED_PRECONDITION, "SOLD_OUT")]
    with pytest.raises(RefusalError, match="SOLD_OUT: as scripted") as refused:
        await abandon(client)
    assert refused.value.code is grpc.StatusCode.FAILED_PRECONDITION
    assert refused.value.reason == "SOLD_OUT"
    assert len(scripted.seen) == 1


async def test_an_unreachable_service_is_one_line_after_the_bound(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Each reading of the clock is a second later.
    monkeypatch.setattr(calls, "time", SimpleNamespace(monotonic=partial(next, count())))
    async with Client("127.0.0.1:1", give_up_s=3.0) as client:
        with pytest.raises(UnreachableError, match=r"127\.0\.0\.1:1 does not answer: ") as failed:
            await abandon(client)
    assert "\n" not in str(failed.value)
    assert client.retries == 2


async def test_connecting_in_vain_names_the_command_that_starts_the_services() -> None:
    async with Client("127.0.0.1:1") as client:
        with pytest.raises(UnreachableError, match=r"127\.0\.0\.1:1; `make run` starts"):
            await client.connect(timeout_s=0.2)


async def test_connecting_returns_once_the_service_is_there(client: Client) -> None:
    await client.connect(timeout_s=20.0)
