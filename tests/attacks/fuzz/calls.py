"""Calls every method of both services with such requests, many at a time; counts the answers."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from random import Random
from typing import Any, Final

import grpc
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message_factory import GetMessageClass

from protos.booking.v1 import (
    booking_pb2,
    booking_pb2_grpc,
    catalog_pb2,
    payment_pb2,
    profile_pb2,
    review_pb2,
)
from protos.metrics.v1 import alert_pb2, deployment_pb2, health_pb2, metrics_pb2
from protos.tracking.v1 import tracking_pb2
from tests.attacks.fuzz.requests import request
from tests.attacks.fuzz.tracking import stream_of
from tests.attacks.fuzz.values import Known, Values
from tests.attacks.town import Town, in_days
from tests.booking.running_service import start_of
from tests.malformed import SHARED_SERVICES
from tests.pair.real_pair import Pair

CONTRACTS: Final[dict[str, tuple[Any, ...]]] = {
    "booking": (booking_pb2, catalog_pb2, payment_pb2, review_pb2, profile_pb2),
    "metrics": (metrics_pb2, alert_pb2, deployment_pb2, health_pb2, tracking_pb2),
}
CHANNELS: Final = 4
IN_FLIGHT: Final = 48
ANSWER_S: Final = 20.0
"""A call that is not answered within this counts as one that the service has lost."""

# What gRPC says at the client's side of a message that it wrote as the server ended the stream.
WRITTEN_AT_THE_END: Final = "Internal error from Core"
FAULTS: Final = frozenset({"INTERNAL", "UNKNOWN", "UNIMPLEMENTED", "UNAVAILABLE", "LOST"})
OFTEN: Final = {
    # What makes bookings that later calls can go on with.
    "StartBooking": 6,
    "CompleteBooking": 4,
    "ConfirmBooking": 4,
    "RecordPayment": 2,
    "CancelBooking": 2,
    # What has more to it than fields.
    "GetSeries": 3,
    "LintRules": 3,
    "CreateSilence": 2,
}
PACKAGES: Final = 12
LEARNT: Final = ("Booking", "Package", "Vendor", "Payment", "Refund", "Silence", "Deployment")


@dataclass(frozen=True)
class Method:
    """A method, as the descriptors have it."""

    side: str
    path: str
    descriptor: Any

    @property
    def name(self) -> str:
        return str(self.descriptor.name)


@dataclass
class Answers:
    """What was answered."""

    codes: Counter[str] = field(default_factory=Counter)
    methods: Counter[str] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)
    slowest_s: float = 0.0
    spent_s: float = 0.0

    @property
    def calls(self) -> int:
        return self.codes.total()

    def __str__(self) -> str:
        by_code = ", ".join(f"{code} {count:,}" for code, count in self.codes.most_common())
        return (
            f"{self.calls:,} calls of {len(self.methods)} methods in {self.spent_s:.0f} s, "
            f"{self.calls / self.spent_s:,.0f} a second: {by_code}"
        )


def methods() -> list[Method]:
    """Return every method of both services."""
    found: list[Method] = []
    for side, files in CONTRACTS.items():
        own = [each for file in files for each in file.DESCRIPTOR.services_by_name.values()]
        for service in (*own, *SHARED_SERVICES):
            name = service.full_name
            found += [Method(side, f"/{name}/{each.name}", each) for each in service.methods]
    return found


class Fuzz:
    """One run of calls; the same seed makes the same choices."""

    def __init__(self, pair: Pair, seed: int) -> None:
        self._targets = {"booking": pair.booking, "metrics": pair.metrics}
        self._seed = seed
        self._known = Known()
        self._methods = [each for each in methods() for _ in range(OFTEN.get(each.name, 1))]
        self._channels: dict[str, list[Any]] = {}
        self.answers = Answers()

    async def run(self, calls: int) -> Answers:
        """Make this many calls and return what was answered."""
        begun_s = time.monotonic()
        numbers = iter(range(calls))
        async with AsyncExitStack() as stack:
            for side, target in self._targets.items():
                self._channels[side] = [
                    await stack.enter_async_context(
                        grpc.aio.insecure_channel(
                            target, options=[("grpc.use_local_subchannel_pool", 1)]
                        )
                    )
                    for _ in range(CHANNELS)
                ]
            await self._prepare()
            await asyncio.gather(*(self._work(numbers) for _ in range(IN_FLIGHT)))
        self.answers.spent_s = time.monotonic() - begun_s
        return self.answers

    async def _prepare(self) -> None:
        """Make packages that can be booked, with a booking in each."""
        random = Random(self._seed)
        channel = self._channels["booking"][0]
        bookings = booking_pb2_grpc.BookingServiceStub(channel)
        for capacity in (3, 100, 100_000):
            # Holds of a minute, so that some expire in a long run.
            fields = {"hold_ttl": Duration(seconds=60)} if capacity == 100 else {}
            town = await Town.built(
                channel, packages=PACKAGES // 3, days=60, capacity=capacity, **fields
            )
            self._known.add("vendor", town.vendor, random)
            for package in town.packages:
                self._known.add("package", package, random)
                days = {"start_date": in_days(1), "end_date": in_days(2)}
                booking = await bookings.StartBooking(start_of(package, **days))
                self._known.add("booking", booking.id, random)
                self._known.prices[booking.id] = booking.price

    async def _work(self, numbers: Any) -> None:
        for number in numbers:
            # Each call has its own choices, whatever came before it.
            random = Random(self._seed * 1_000_003 + number)
            await self._call(random.choice(self._methods), Values(random, self._known), number)

    async def _call(self, method: Method, values: Values, number: int) -> None:
        channel = values.random.choice(self._channels[method.side])
        data = [request(method.descriptor.input_type, values)]
        begun_s = time.monotonic()
        code, said = "OK", ""
        try:
            async with asyncio.timeout(ANSWER_S):
                if method.name == "Stream":
                    data = await stream_of(channel, method.path, values, number)
                else:
                    await self._answer(channel, method, data, values)
        except grpc.aio.AioRpcError as error:
            code, said = error.code().name, error.details() or ""
            if said == WRITTEN_AT_THE_END:
                code = "ENDED"
        except TimeoutError:
            code = "LOST"
        answers = self.answers
        answers.codes[code] += 1
        answers.methods[method.path] += 1
        answers.slowest_s = max(answers.slowest_s, time.monotonic() - begun_s)
        if code in FAULTS:
            sent = " ".join(each[:1000].hex() for each in data)
            answers.faults.append(f"{number}: {method.path} {code} {said}: {sent}")

    async def _answer(
        self, channel: Any, method: Method, data: list[bytes], values: Values
    ) -> None:
        if method.descriptor.client_streaming:
            # Reflection, which answers each request of a stream.
            data += [
                request(method.descriptor.input_type, values)
                for _ in range(values.random.randrange(3))
            ]
            async for _ in channel.stream_stream(method.path)(_each(data)):
                pass
        elif method.descriptor.server_streaming:
            call = channel.unary_stream(method.path)(data[0])
            try:
                await call.read()
            finally:
                call.cancel()
        else:
            answer = await channel.unary_unary(method.path)(data[0])
            self._learn(method, answer, values)

    def _learn(self, method: Method, answer: bytes, values: Values) -> None:
        output = method.descriptor.output_type
        random = values.random
        if "next_page_token" in output.fields_by_name and random.random() < 0.2:
            message: Any = GetMessageClass(output)()
            message.ParseFromString(answer)
            self._known.add("page_token", message.next_page_token, random)
        elif output.name in LEARNT:
            message = GetMessageClass(output)()
            message.ParseFromString(answer)
            if method.name.startswith(("Start", "Create", "Record", "Refund", "Mark")):
                self._known.add(output.name.lower(), message.id, random)
            if output.name == "Booking":
                self._known.prices[message.id] = message.price
            if "etag" in output.fields_by_name:
                self._known.add("etag", message.etag, random)


async def _each(data: list[bytes]) -> AsyncIterator[bytes]:
    for one in data:
        yield one
