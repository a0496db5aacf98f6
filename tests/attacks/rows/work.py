"""Rows 11 and 18: work that is heavy, and rows for ever."""

from __future__ import annotations

import asyncio
import itertools
import secrets
from typing import Any, Final
from uuid import uuid4

import grpc
from google.type.money_pb2 import Money

from protos.booking.v1 import (
    booking_pb2,
    booking_pb2_grpc,
    catalog_pb2,
    catalog_pb2_grpc,
    payment_pb2,
    payment_pb2_grpc,
)
from protos.tracking.v1.event_pb2 import EventList
from tests.attacks.rows.requests import channel_to
from tests.attacks.rows.telemetry import columns
from tests.attacks.strike import ANSWER_S, Strike, attack, code_of
from tests.attacks.town import Town, in_days
from tests.metrics.delivery_pair import TELEMETRY
from tests.metrics.raw_client import raw_client

CALLERS: Final = 8
LONGEST_STAY: Final = 366
MAX_DAYS: Final = 3660
BY_RULE: Final = ("OK", "RESOURCE_EXHAUSTED")
"""What is over a budget is refused, with the delay after which it may be taken."""


@attack(11, "eight callers reconciling their own package")
async def reconciling(strike: Strike) -> None:
    async with channel_to(strike.at.booking) as channel:
        town = await Town.built(channel, packages=CALLERS, days=MAX_DAYS)
        stub: Any = booking_pb2_grpc.BookingServiceStub(channel)

        async def caller(package: str) -> None:
            request = booking_pb2.ReconcileInventoryRequest(package_id=package)
            async for _ in strike.paced(4):
                try:
                    answer = await stub.ReconcileInventory(request, timeout=ANSWER_S)
                except grpc.aio.AioRpcError as error:
                    code = error.code().name
                    strike.tally.check(code in BY_RULE, f"ReconcileInventory answered {code}")
                else:
                    strike.tally.check(not answer.drifts, "a package has drifted")
                    request.start_date.CopyFrom(answer.next_date)

        await strike.together(*(caller(package) for package in town.packages))


async def _batches(strike: Strike, *, stays: int, days: int, all_or_nothing: bool) -> None:
    """Batches of as many days as one may have, beside others."""
    async with channel_to(strike.at.booking) as channel:
        town = await Town.built(channel, packages=2, days=days + 1)
        stub: Any = booking_pb2_grpc.BookingServiceStub(channel)
        names = itertools.count()
        async for _ in strike.paced(2):
            batch = booking_pb2.BatchStartBookingsRequest(
                all_or_nothing=all_or_nothing,
                requests=[
                    booking_pb2.StartBookingRequest(
                        package_id=town.packages[number % 2],
                        user_id=f"batch {next(names)}",
                        start_date=in_days(1),
                        end_date=in_days(1 + days),
                    )
                    for number in range(stays)
                ],
            )
            code = await code_of(stub.BatchStartBookings(batch, timeout=ANSWER_S))
            strike.tally.check(code in BY_RULE, f"BatchStartBookings answered {code}")


@attack(11, "batches of a hundred stays, as long as may be")
async def batches(strike: Strike) -> None:
    await _batches(strike, stays=100, days=MAX_DAYS // 100, all_or_nothing=False)


@attack(11, "batches of ten stays of a year, all or nothing")
async def whole_batches(strike: Strike) -> None:
    await _batches(strike, stays=MAX_DAYS // LONGEST_STAY, days=LONGEST_STAY, all_or_nothing=True)


@attack(11, "stays of a year, many at once")
async def years(strike: Strike) -> None:
    async with channel_to(strike.at.booking) as channel:
        town = await Town.built(channel, packages=1, days=LONGEST_STAY + 1)
        stub: Any = booking_pb2_grpc.BookingServiceStub(channel)

        async def one(number: int) -> None:
            year = booking_pb2.StartBookingRequest(
                package_id=town.packages[0],
                user_id=f"year {number}",
                start_date=in_days(1),
                end_date=in_days(1 + LONGEST_STAY),
            )
            code = await code_of(stub.StartBooking(year, timeout=ANSWER_S))
            strike.tally.check(code in BY_RULE, f"StartBooking answered {code}")

        async for _ in strike.paced(2):
            await strike.together(*(one(number) for number in range(10)))


@attack(11, "capacity of ten years set repeatedly")
async def capacities(strike: Strike) -> None:
    async with channel_to(strike.at.booking) as channel:
        town = await Town.built(channel, packages=2, days=1)
        stub: Any = catalog_pb2_grpc.CatalogServiceStub(channel)
        async for number in strike.paced(2):
            days = catalog_pb2.CapacityRange(
                start_date=in_days(0), end_date=in_days(MAX_DAYS), capacity=10 + number
            )
            request = catalog_pb2.SetCapacityRequest(
                package_id=town.packages[number % 2], ranges=[days]
            )
            code = await code_of(stub.SetCapacity(request, timeout=ANSWER_S))
            strike.tally.check(code in BY_RULE, f"SetCapacity answered {code}")


@attack(18, "a new producer for each batch")
async def producers(strike: Strike) -> None:
    payload = EventList(events=[columns(1)]).SerializeToString()

    async def one() -> None:
        name = secrets.token_hex(8)
        async with raw_client(strike.at.metrics) as client:
            await client.welcome(name, lane=TELEMETRY, service="ghosts", instance="many")
            await client.batch(1, payload, lane=TELEMETRY)
            ack = await client.acked(1)
            strike.tally.check(ack.durable_seq == 1, "a batch was not acknowledged")

    async for _ in strike.paced(15):
        await strike.together(one(), one())
    await strike.readers_are_served()


@attack(18, "payments of bookings that do not exist")
async def early_payments(strike: Strike) -> None:
    async with channel_to(strike.at.booking) as channel:
        stub: Any = payment_pb2_grpc.PaymentServiceStub(channel)
        async for _ in strike.paced(100):
            payment = payment_pb2.RecordPaymentRequest(
                booking_id=str(uuid4()),
                provider="stripe",
                payment_id=secrets.token_hex(8),
                kind=payment_pb2.RecordPaymentRequest.CAPTURED,
                amount=Money(currency_code="EUR", units=1),
            )
            code = await code_of(stub.RecordPayment(payment, timeout=ANSWER_S))
            strike.tally.check(code in (*BY_RULE, "NOT_FOUND"), f"RecordPayment answered {code}")


@attack(18, "vendors and packages for ever")
async def vendors(strike: Strike) -> None:
    async with channel_to(strike.at.booking) as channel:
        async for _ in strike.paced(15):
            async with asyncio.timeout(ANSWER_S):
                town = await Town.built(channel, packages=1, days=10)
            strike.tally.check(town.packages, "no package was made")
