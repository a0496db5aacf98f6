"""Rows 4 and 14: requests that are large, and bytes that are no request."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

import grpc
from google.protobuf.message import Message

from protos.booking.v1 import booking_pb2, catalog_pb2, payment_pb2, profile_pb2, review_pb2
from protos.metrics.v1 import health_pb2, metrics_pb2
from protos.tracking.v1 import tracking_pb2
from tests.attacks.rows.telemetry import ghost
from tests.attacks.strike import ANSWER_S, OWN_CONNECTION, Strike, attack, code_of
from tests.booking.rpc.large_requests import IGNORED, attacks
from tests.malformed import MALFORMED, SHARED_SERVICES, Method, methods_of, refusal_of

LISTING: Final = "/booking.v1.BookingService/ListBookings"
CONTRACT: Final = (booking_pb2, catalog_pb2, payment_pb2, review_pb2, profile_pb2)
PATHS: Final = {
    method.input_type.full_name: f"/{service.full_name}/{method.name}"
    for file in CONTRACT
    for service in file.DESCRIPTOR.services_by_name.values()
    for method in service.methods
}


@asynccontextmanager
async def channel_to(address: str) -> AsyncIterator[Any]:
    async with grpc.aio.insecure_channel(address, options=OWN_CONNECTION) as channel:
        yield channel


def states(number: int) -> bytes:
    """A ListBookingsRequest of so many states."""
    request = booking_pb2.ListBookingsRequest(
        user_id="ana", states=[booking_pb2.Booking.HELD] * number
    )
    return request.SerializeToString()


@attack(4, "as many states as a request may hold", bare=True)
async def many_states(strike: Strike) -> None:
    data = states(250_000)
    async with channel_to(strike.at.booking) as channel:
        async for _ in strike.paced(20):
            call = channel.unary_unary(LISTING)(data, timeout=ANSWER_S)
            await strike.refused(call, "INVALID_ARGUMENT")


@attack(4, "1 MB and 4 MB of states", bare=True)
async def too_many_states(strike: Strike) -> None:
    large, larger = states(1_040_000), states(4_000_000)
    async with channel_to(strike.at.booking) as channel:
        async for number in strike.paced(8):
            data = larger if number % 4 == 0 else large
            call = channel.unary_unary(LISTING)(data, timeout=ANSWER_S)
            await strike.refused(call, "INVALID_ARGUMENT", "RESOURCE_EXHAUSTED")


@attack(4, "the largest content of every field of every request", bare=True)
async def every_field(strike: Strike) -> None:
    large = [
        (PATHS[each.request.DESCRIPTOR.full_name], _bytes(each.request))
        for each in attacks()
        if each.field not in IGNORED.get(each.name, ())
    ]
    async with channel_to(strike.at.booking) as channel:
        async for number in strike.paced(25):
            path, data = large[number * 7 % len(large)]
            call = channel.unary_unary(path)(data, timeout=ANSWER_S)
            await strike.refused(call, "INVALID_ARGUMENT")


def _bytes(request: Message) -> bytes:
    return request.SerializeToString()


@attack(14, "bytes that are no message, to every method")
async def malformed(strike: Strike) -> None:
    async with channel_to(strike.at.booking) as booking, channel_to(strike.at.metrics) as metrics:
        sides = (booking, methods_of(*_services(CONTRACT))), (metrics, METRICS_METHODS)
        async for number in strike.paced(200):
            channel, methods = sides[number % 2]
            method = methods[number // 2 % len(methods)]
            data = MALFORMED[number % len(MALFORMED)]
            refusal = await refusal_of(channel, method, data)
            strike.tally.check(
                refusal == ("INVALID_ARGUMENT", "MALFORMED_REQUEST"),
                f"{method.name} answered {refusal}",
            )


@attack(14, "the same malformed bytes, a thousand at a time", bare=True)
async def malformed_at_once(strike: Strike) -> None:
    path = "/booking.v1.BookingService/StartBooking"
    async with channel_to(strike.at.booking) as channel:
        async for _ in strike.paced(8):
            calls = (channel.unary_unary(path)(b"\xff" * 100, timeout=ANSWER_S) for _ in range(40))
            await strike.together(*(strike.refused(call, "INVALID_ARGUMENT") for call in calls))


@attack(14, "tracking streams that begin well and end in malformed bytes")
async def malformed_frames(strike: Strike) -> None:
    async with channel_to(strike.at.metrics) as channel:
        async for number in strike.paced(40):
            call = channel.stream_stream("/tracking.v1.TrackingService/Stream")()
            await call.write(ghost("malformed"))
            await call.read()
            await call.write(MALFORMED[number % len(MALFORMED)])
            code = await code_of(_end_of(call))
            strike.tally.check(code == "INVALID_ARGUMENT", f"the stream ended with {code}")


async def _end_of(call: Any) -> None:
    while await call.read() is not grpc.aio.EOF:
        pass


def _services(files: Any) -> list[Any]:
    return [each for file in files for each in file.DESCRIPTOR.services_by_name.values()]


METRICS_METHODS: Final[list[Method]] = methods_of(
    *_services((metrics_pb2, health_pb2, tracking_pb2)), *SHARED_SERVICES
)
