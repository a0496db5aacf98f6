"""booking_service killed with -9 under load: what was answered is there once, nothing else is left.

Callers repeat what they got no answer to, with the same request_id, at whichever copy there is.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterator
from itertools import cycle
from pathlib import Path
from typing import Any
from uuid import uuid4

import grpc
import pytest

from protos.booking.v1 import booking_pb2
from tests.booking.races.clients import (
    CLEAN,
    DEADLINE_S,
    Client,
    audit,
    clients,
    left_over,
    rows,
    start_request,
    until,
)
from tests.booking.races.copies import Copies, copies_of_the_service
from tests.booking.running_service import confirm_of
from tests.sizes import size

pytestmark = pytest.mark.processes

KILLS = size(3, 50)
CALLERS = 12
ATTEMPTS = 100
STEADY = 20
"""Answers after which the load flows again."""

NO_ANSWER = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED)


class Load:
    """Callers that take bookings to an end, and all answers that they got."""

    def __init__(self, connected: list[Client], packages: list[str]) -> None:
        self._connected = connected
        self._packages = packages
        self.started: list[tuple[booking_pb2.StartBookingRequest, booking_pb2.Booking]] = []
        self.states: dict[str, str] = {}
        self.paid: set[str] = set()
        self.answers = 0
        self.unanswered = 0
        self.over = False

    async def run(self, seed: int) -> None:
        """One caller, until the load is over; it leaves nothing without an answer."""
        chance = random.Random(seed)
        while not self.over:
            start = start_request(chance.choice(self._packages), quantity=chance.randint(1, 3))
            held = await self.asked(chance, "StartBooking", start)
            assert held.id not in self.states
            self.started.append((start, held))
            self._note(held)
            names: dict[str, Any] = {"booking_id": held.id, "request_id": str(uuid4())}
            if chance.random() < 0.2:
                abandon = booking_pb2.AbandonBookingRequest(**names)
                self._note(await self.asked(chance, "AbandonBooking", abandon))
                continue
            complete = booking_pb2.CompleteBookingRequest(**names)
            self._note(await self.asked(chance, "CompleteBooking", complete))
            pay = confirm_of(held, request_id=names["request_id"])
            self._note(await self.asked(chance, "ConfirmBooking", pay))
            self.paid.add(held.id)
            if chance.random() < 0.3:
                cancel = booking_pb2.CancelBookingRequest(**names)
                self._note(await self.asked(chance, "CancelBooking", cancel))

    async def asked(self, chance: random.Random, method: str, request: Any) -> booking_pb2.Booking:
        """The answer of one of the copies, asked again as long as there is none; bounded."""
        for _ in range(ATTEMPTS):
            call = getattr(chance.choice(self._connected).booking, method)
            try:
                booking = await call(request, timeout=DEADLINE_S, wait_for_ready=True)
            except grpc.aio.AioRpcError as error:
                if error.code() not in NO_ANSWER:
                    # A refusal would be an answer, and there is no reason for one.
                    raise
                self.unanswered += 1
            else:
                assert isinstance(booking, booking_pb2.Booking)
                self.answers += 1
                return booking
        raise AssertionError(f"{method} was never answered")

    async def flows(self) -> None:
        """Returns when STEADY more answers have come."""
        wanted = self.answers + STEADY

        async def enough() -> bool:
            return self.answers >= wanted

        assert await until(enough), self.answers

    def _note(self, booking: booking_pb2.Booking) -> None:
        self.states[booking.id] = booking_pb2.Booking.State.Name(booking.state)


@pytest.fixture
def copies(booking_dsn: str, tmp_path: Path) -> Iterator[Copies]:
    with copies_of_the_service(booking_dsn, tmp_path, 2) as started:
        yield started


async def test_what_was_answered_exists_once_after_kills_at_random_moments(copies: Copies) -> None:
    chance = random.Random()
    victims = cycle([(0,), (0, 1), (1,)])
    async with clients(copies.targets, CALLERS) as connected:
        packages = [await connected[0].package(capacity=1_000_000, days=1) for _ in range(3)]
        load = Load(connected, packages)
        callers = [asyncio.create_task(load.run(seed)) for seed in range(CALLERS)]
        try:
            for _ in range(KILLS):
                await load.flows()
                await asyncio.sleep(chance.uniform(0, 0.1))
                killed = next(victims)
                for n in killed:
                    copies.kill(n)
                if len(killed) == len(copies.targets):
                    assert await left_over(copies.dsn, sessions=True) == []
                await asyncio.to_thread(copies.start)
                assert await audit(copies.dsn) == CLEAN
            await load.flows()
        finally:
            load.over = True
            await asyncio.gather(*callers)
        assert load.unanswered >= KILLS
        # The copies still run, idle.
        assert await left_over(copies.dsn) == []
        assert await audit(copies.dsn) == CLEAN
        await each_answer_is_stored_once(copies.dsn, load)
        await repeats_get_the_first_answer(load, chance)
        await each_answer_is_stored_once(copies.dsn, load)


async def each_answer_is_stored_once(dsn: str, load: Load) -> None:
    found = await rows(dsn, "SELECT id::text, state FROM bookings")
    assert {row["id"]: row["state"] for row in found} == load.states
    assert len(found) == len(load.started) == len(load.states)
    (counted,) = await rows(
        dsn,
        "SELECT count(*) AS starts, count(DISTINCT request_id) AS requests, "
        "(SELECT count(*) FROM booking_events) AS events, "
        "(SELECT sum(version) FROM bookings) AS versions "
        "FROM booking_events WHERE transition = 'STARTED'",
    )
    assert counted["starts"] == counted["requests"] == len(load.started)
    assert counted["events"] == counted["versions"]
    payments = await rows(dsn, "SELECT booking_id::text AS id, state FROM payments")
    assert len(payments) == len(load.paid)
    assert {row["id"] for row in payments} == load.paid
    assert {row["state"] for row in payments} == {"CAPTURED"}


async def repeats_get_the_first_answer(load: Load, chance: random.Random) -> None:
    waiting = iter(load.started)

    async def repeat() -> None:
        for start, first in waiting:
            assert await load.asked(chance, "StartBooking", start) == first

    await asyncio.gather(*(repeat() for _ in range(CALLERS)))
