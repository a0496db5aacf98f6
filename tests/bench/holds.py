"""Holds per second on one hot package: groups against groups of one, through gRPC.

Two copies of booking_service that differ only in BOOKING_GROUP_SIZE_MAX take turns, round by round,
on one PostgreSQL with fsync. In each round 64 clients in another process start bookings of one day
until it is sold out; the seats sold are then counted in the database. Exit status 1 when a day was
oversold.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from statistics import median
from typing import Any, Final
from uuid import UUID, uuid4

import grpc
from google.type import date_pb2, money_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc

from booking_service.demo.calls import Client
from protos.booking.v1 import booking_pb2, catalog_pb2, catalog_pb2_grpc
from servicekit import binaries
from servicekit.devstack import PostgresServer
from servicekit.migrations import MIGRATIONS, migrate

CLIENTS: Final = 64
ROUNDS: Final = 3
SEATS: Final = 1000
SIDES: Final = {"grouped": "256", "one by one": "1"}
START: Final = "/booking.v1.BookingService/StartBooking"
READY_TIMEOUT_S: Final = 30.0


class Side:
    """One copy of the service with its database and one package on sale."""

    def __init__(self, name: str, target: str, server: PostgresServer, database: str) -> None:
        self.name = name
        self.target = target
        self.package_id = str(uuid4())
        self.rates: list[float] = []
        self.oversold = 0
        self._server = server
        self._database = database

    async def put_on_sale(self, days: list[date]) -> None:
        """Create a package with SEATS units on each day."""
        async with Client(self.target) as client:
            catalog = catalog_pb2_grpc.CatalogServiceStub(client.channel)
            vendor_id = str(uuid4())
            vendor = catalog_pb2.Vendor(name="Bench")
            await client.call(
                catalog.CreateVendor,
                catalog_pb2.CreateVendorRequest(vendor=vendor, vendor_id=vendor_id),
            )
            package = catalog_pb2.Package(
                vendor_id=vendor_id,
                title="Hot",
                type="tour",
                location="Lisbon",
                time_zone="Europe/Lisbon",
                base_price=money_pb2.Money(currency_code="EUR", units=10),
            )
            await client.call(
                catalog.CreatePackage,
                catalog_pb2.CreatePackageRequest(package=package, package_id=self.package_id),
            )
            capacity = catalog_pb2.SetCapacityRequest(package_id=self.package_id)
            for day in days:
                capacity.ranges.add(start_date=_day(day), capacity=SEATS)
            await client.call(catalog.SetCapacity, capacity)

    def round(self, day: date) -> None:
        """Sell out a day from another process and count the seats sold."""
        command = [sys.executable, "-m", "tests.bench.holds", "load", self.target, self.package_id]
        done = subprocess.run(
            [*command, day.isoformat()], check=True, capture_output=True, text=True
        )
        report = json.loads(done.stdout)
        self.rates.append(report["holds"] / report["seconds"])
        sold = int(
            self._server.psql(
                self._database,
                "SELECT count(*) FROM bookings"
                f" WHERE package_id = '{UUID(self.package_id)}' AND start_date = '{day}'",
            )
        )
        self.oversold += max(0, sold - SEATS)
        if sold != report["holds"]:
            raise SystemExit(f"{self.name}: {report['holds']} holds answered, {sold} stored")


def main() -> int:
    """Run all rounds and print both rates, their ratio, and the oversold seats."""
    first = datetime.now(UTC).date() + timedelta(days=30)
    days = [first + timedelta(days=number) for number in range(ROUNDS + 1)]
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="farehold-bench-")))
        # The account of the server must be able to enter the folder.
        folder.chmod(0o711)
        server = PostgresServer(folder / "postgres")
        stack.callback(server.stop)
        server.start()
        sides = []
        for number, (name, group_size) in enumerate(SIDES.items()):
            database = f"bench_{number}"
            server.create_database(database)
            migrate(server.dsn(database), MIGRATIONS / "booking")
            target = stack.enter_context(_service(server.dsn(database), group_size, folder))
            side = Side(name, target, server, database)
            asyncio.run(side.put_on_sale(days))
            # Warm up connections, statements and caches.
            side.round(days[-1])
            side.rates.clear()
            sides.append(side)
        for day in days[:-1]:
            for side in sides:
                side.round(day)
                print(f"{side.name:12} {side.rates[-1]:8.0f} holds/s", flush=True)
    grouped, single = sides
    ratio = median(grouped.rates) / median(single.rates)
    print(f"\n{CLIENTS} clients, {SEATS} seats a day, {ROUNDS} rounds each, median:")
    for side in sides:
        print(f"{side.name:12} {median(side.rates):8.0f} holds/s, oversold {side.oversold}")
    print(f"ratio        {ratio:8.1f}")
    return 1 if grouped.oversold or single.oversold else 0


def load(target: str, package_id: str, day: date) -> None:
    """The load: 64 clients start bookings until each is refused with SOLD_OUT; prints JSON."""

    async def client(channel: grpc.aio.Channel) -> int:
        # No serialisation, so that the load costs as little as possible.
        start: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(START)
        holds = 0
        while True:
            request = booking_pb2.StartBookingRequest(
                package_id=package_id, user_id=str(uuid4()), start_date=_day(day)
            )
            try:
                await start(request.SerializeToString(), timeout=60.0)
            except grpc.aio.AioRpcError as error:
                if error.code() is not grpc.StatusCode.FAILED_PRECONDITION:
                    raise
                return holds
            holds += 1

    async def clients() -> None:
        async with grpc.aio.insecure_channel(target) as channel:
            await channel.channel_ready()
            begin = time.perf_counter()
            holds = await asyncio.gather(*(client(channel) for _ in range(CLIENTS)))
            seconds = time.perf_counter() - begin
        print(json.dumps({"holds": sum(holds), "seconds": seconds}))

    asyncio.run(clients())


@contextmanager
def _service(dsn: str, group_size: str, folder: Path) -> Iterator[str]:
    port = binaries.free_port()
    environ = {
        **os.environ,
        "BOOKING_DATABASE_URL": dsn,
        "BOOKING_PORT": str(port),
        "BOOKING_METRICS_TARGET": "",
        "BOOKING_GROUP_SIZE_MAX": group_size,
        # No deadline matters here: the benchmark measures work, not refusals.
        "BOOKING_QUEUE_WAIT_MAX_MS": "60000",
        "BOOKING_LOG_LEVEL": "error",
    }
    target = f"127.0.0.1:{port}"
    with (folder / f"service-{group_size}.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "booking_service", "serve"],
            env=environ,
            stdout=log,
            stderr=log,
            preexec_fn=binaries.end_with_parent,
        )
    try:
        give_up = time.monotonic() + READY_TIMEOUT_S
        while not _serves(target):
            if process.poll() is not None or time.monotonic() > give_up:
                raise SystemExit((folder / f"service-{group_size}.log").read_text())
            time.sleep(0.05)
        yield target
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait()


def _serves(target: str) -> bool:
    with grpc.insecure_channel(target) as channel:
        stub: Any = health_pb2_grpc.HealthStub(channel)  # its types name no methods
        try:
            answer = stub.Check(health_pb2.HealthCheckRequest(), timeout=2.0)
        except grpc.RpcError:
            return False
    return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)


def _day(value: date) -> date_pb2.Date:
    return date_pb2.Date(year=value.year, month=value.month, day=value.day)


if __name__ == "__main__":
    if sys.argv[1:2] == ["load"]:
        load(sys.argv[2], sys.argv[3], date.fromisoformat(sys.argv[4]))
    else:
        sys.exit(main())
