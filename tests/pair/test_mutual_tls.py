"""The real pair over mutual TLS: authorities and certificates are replaced, and both services
restarted in turn, while 20 callers book. No call is lost or doubled, no fact is lost, and no
listener takes plaintext.
"""

from __future__ import annotations

import asyncio
import contextlib
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import asyncpg
import pytest
import trustme

from booking_service.demo.calls import Client
from protos.booking.v1 import booking_pb2, booking_pb2_grpc
from protos.metrics.v1 import metrics_pb2, metrics_pb2_grpc
from servicekit.channels import PLAINTEXT
from tests.attacks.town import Town, in_days
from tests.pair.real_pair import Pair, running, serves
from tests.servicekit.identity.certificates import Folder

pytestmark = [pytest.mark.processes, pytest.mark.full]

CALLERS = 20
BOOKINGS_A_CONNECTION = 3
BOUND_S = 120.0
POLL_S = 0.1
IDENTITIES = """
["desk.example.test"]
roles = ["service", "payment"]

["ops.example.test"]
roles = ["ops", "monitor"]

["booking.example.test"]
roles = ["producer"]
services = ["booking_service"]
lanes = ["facts", "telemetry"]
"""


class Plaintext:
    """Asks every listener in plaintext, and counts those that answer."""

    def __init__(self, pair: Pair) -> None:
        self._pair = pair
        self.asked = 0
        self.answered: list[str] = []

    async def run(self) -> None:
        while True:
            for target in (self._pair.booking, self._pair.metrics):
                if await asyncio.to_thread(serves, target, "", PLAINTEXT):
                    self.answered.append(target)
            if await self._http():
                self.answered.append(self._pair.http)
            self.asked += 3
            await asyncio.sleep(POLL_S)

    async def _http(self) -> bool:
        host, port = self._pair.http.split(":")
        try:
            reader, writer = await asyncio.open_connection(host, int(port))
        except OSError:
            return False
        try:
            writer.write(b"GET /api/health/database HTTP/1.1\r\nHost: x\r\n\r\n")
            async with asyncio.timeout(10):
                return (await reader.read(8)).startswith(b"HTTP/")
        except (OSError, TimeoutError):
            return False
        finally:
            writer.close()


class Caller:
    """Books and pays over connections that it opens anew, as the files are now."""

    def __init__(self, pair: Pair, folder: Folder, town: Town, number: int) -> None:
        self._pair, self._folder, self._town = pair, folder, town
        self._number = number
        self.confirmed: list[str] = []
        self.connections = 0
        self.stopping = False

    async def run(self) -> None:
        while not self.stopping:
            files = self._folder.client("desk")
            self.connections += 1
            async with Client(self._pair.booking, give_up_s=BOUND_S, files=files) as client:
                for _ in range(BOOKINGS_A_CONNECTION):
                    await self._book(client)

    async def _book(self, client: Client) -> None:
        bookings = booking_pb2_grpc.BookingServiceStub(client.channel)
        turn = self._number + len(self.confirmed)
        start: Any = booking_pb2.StartBookingRequest(
            booking_id=str(uuid.uuid4()),
            package_id=self._town.packages[turn % len(self._town.packages)],
            user_id=f"user {self._number}",
            start_date=in_days(2 + turn % 20),
            end_date=in_days(3 + turn % 20),
            request_id=str(uuid.uuid4()),
        )
        held: Any = await client.call(bookings.StartBooking, start)
        await client.call(
            bookings.CompleteBooking, booking_pb2.CompleteBookingRequest(booking_id=held.id)
        )
        paid = booking_pb2.ConfirmBookingRequest(
            booking_id=held.id,
            provider="test",
            payment_id=held.id,
            amount=held.price,
            request_id=str(uuid.uuid4()),
        )
        await client.call(bookings.ConfirmBooking, paid)
        self.confirmed.append(held.id)


def settings(folder: Folder) -> dict[str, str]:
    own = {
        f"BOOKING_METRICS_{name}": str(folder.path / file)
        for name, file in (
            ("TLS_CA", "ca.pem"),
            ("TLS_CERT", "booking.pem"),
            ("TLS_KEY", "booking.key"),
        )
    }
    return own | folder.environ("BOOKING_") | folder.environ("METRICS_")


def issue_all(folder: Folder) -> None:
    folder.issue("server", "localhost", "127.0.0.1")
    folder.issue("desk", "desk.example.test")
    folder.issue("ops", "ops.example.test")
    folder.issue("booking", "booking.example.test")


async def rotate(folder: Folder, callers: list[Caller]) -> None:
    """Replace the authority and every certificate, as an operator does: trust both, issue, then
    trust the new one alone.
    """

    async def all_connect_again() -> None:
        # A connection keeps the files with which it began, and one may just begin with old ones.
        wanted = [caller.connections + 2 for caller in callers]
        await until(
            lambda: all(
                caller.connections >= number for caller, number in zip(callers, wanted, strict=True)
            )
        )

    old, new = folder.authority, trustme.CA()
    folder.write("ca.pem", old.cert_pem.bytes() + new.cert_pem.bytes())
    await all_connect_again()
    folder.authority = new
    issue_all(folder)
    await all_connect_again()
    folder.write("ca.pem", new.cert_pem.bytes())


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(BOUND_S):
        while not condition():  # noqa: ASYNC110 - of other processes
            await asyncio.sleep(0.05)


async def test_nothing_is_lost_while_certificates_and_services_are_replaced(
    booking_dsn: str, metrics_dsn: str, tmp_path: Path
) -> None:
    folder = Folder(tmp_path / "tls")
    issue_all(folder)
    folder.write("callers.toml", IDENTITIES)
    ops = folder.client("ops")
    pair = Pair(booking_dsn, metrics_dsn, tmp_path, settings(folder), files=ops)
    with contextlib.ExitStack() as stack:
        await asyncio.to_thread(stack.enter_context, running(pair))
        async with folder.client("desk").open(pair.booking) as channel:
            town = await Town.built(channel, packages=4, days=30)
        callers = [Caller(pair, folder, town, number) for number in range(CALLERS)]
        plaintext = Plaintext(pair)
        asking = asyncio.create_task(plaintext.run())
        booking = asyncio.gather(*(caller.run() for caller in callers))

        def booked() -> int:
            return sum(len(caller.confirmed) for caller in callers)

        async def more() -> None:
            """So many further bookings, so that every phase has its calls."""
            wanted = booked() + CALLERS
            await until(lambda: booked() >= wanted or booking.done())

        await more()
        await rotate(folder, callers)
        await more()
        for service in ("metrics_service", "booking_service"):
            await asyncio.to_thread(pair.stop_one, service)
            await asyncio.to_thread(pair.start, service)
            await more()
        await rotate(folder, callers)
        await more()
        for caller in callers:
            caller.stopping = True
        await booking
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)
        await every_one_counts_once(pair, folder, booking_dsn, callers)
    assert plaintext.answered == []
    assert plaintext.asked > 30


async def every_one_counts_once(
    pair: Pair, folder: Folder, booking_dsn: str, callers: list[Caller]
) -> None:
    confirmed = sorted(each for caller in callers for each in caller.confirmed)
    database = await asyncpg.connect(booking_dsn)
    try:
        stored = await database.fetch("SELECT id FROM bookings WHERE state = 'CONFIRMED'")
        origins = await database.fetch("SELECT DISTINCT caller FROM booking_events")
        everything = await database.fetchval("SELECT count(*) FROM bookings")
    finally:
        await database.close()
    assert sorted(str(row["id"]) for row in stored) == confirmed
    assert everything == len(confirmed)
    assert [row["caller"] for row in origins] == ["desk.example.test"]

    async with folder.client("ops").open(pair.metrics) as channel:
        stub: Any = metrics_pb2_grpc.MetricsServiceStub(channel)
        counted = 0
        async with asyncio.timeout(BOUND_S):
            while counted < len(confirmed):
                answer = await stub.GetMetrics(metrics_pb2.GetMetricsRequest(), timeout=10)
                counted = answer.business.confirmed
                await asyncio.sleep(0.05)
    assert counted == len(confirmed)
