"""The process as a whole: how it starts, what it reports when it cannot, and how it ends."""

from __future__ import annotations

import asyncio
import gzip
import os
import signal
import socket
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import asyncpg
import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from protos.booking.v1 import booking_pb2, booking_pb2_grpc, catalog_pb2, catalog_pb2_grpc
from servicekit.binaries import free_port
from tests.allowance import Stopwatch, in_time
from tests.booking.running_service import day, package_of, refusal_of, start_of

pytestmark = pytest.mark.processes

ROOT = Path(__file__).resolve().parents[2]
READY_S = 30.0
GONE_S = 20.0
DRAIN_S = 5.0
# As long as may be set, and longer than any wait here.
NEVER_S = "600"
Status = health_pb2.HealthCheckResponse


def later_of(package_id: str) -> booking_pb2.StartBookingRequest:
    """For a day that is not past by the database's own clock."""
    soon = datetime.now(UTC).date() + timedelta(days=30)
    return start_of(package_id, start_date=day(soon), end_date=day(soon + timedelta(days=1)))


def environment(**settings: str) -> dict[str, str]:
    """The environment of this process without settings of the service, and these."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("BOOKING_") and name != "DATABASE_URL"
    }
    return kept | settings


async def launch(*arguments: str, **settings: str) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "booking_service",
        *arguments,
        cwd=ROOT,
        env=environment(**settings),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )


async def ended(*arguments: str, **settings: str) -> tuple[int | None, str]:
    """Exit status and standard error of a process that ends by itself."""
    process = await launch(*arguments, **settings)
    try:
        async with asyncio.timeout(READY_S):
            _, errors = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    return process.returncode, errors.decode()


class Process:
    """A serving process, with a channel to it."""

    def __init__(self, process: asyncio.subprocess.Process, channel: grpc.aio.Channel) -> None:
        self.process = process
        self.channel = channel
        self.booking: booking_pb2_grpc.BookingServiceAsyncStub = (
            booking_pb2_grpc.BookingServiceStub(channel)
        )
        self.catalog: catalog_pb2_grpc.CatalogServiceAsyncStub = (
            catalog_pb2_grpc.CatalogServiceStub(channel)
        )
        # Its types know the blocking stub alone.
        self.health: Any = health_pb2_grpc.HealthStub(channel)

    async def end(self, number: signal.Signals = signal.SIGTERM) -> tuple[int, str]:
        """Exit status and standard error after a signal."""
        self.process.send_signal(number)
        async with asyncio.timeout(READY_S):
            _, errors = await self.process.communicate()
        assert self.process.returncode is not None
        return self.process.returncode, errors.decode()

    async def package(self) -> catalog_pb2.Package:
        vendor = await self.catalog.CreateVendor(
            catalog_pb2.CreateVendorRequest(vendor=catalog_pb2.Vendor(name="Costa Tours"))
        )
        package = await self.catalog.CreatePackage(
            catalog_pb2.CreatePackageRequest(package=package_of(vendor.id))
        )
        request = later_of(package.id)
        await self.catalog.SetCapacity(
            catalog_pb2.SetCapacityRequest(
                package_id=package.id,
                ranges=[
                    catalog_pb2.CapacityRange(
                        start_date=request.start_date, end_date=request.end_date, capacity=9
                    )
                ],
            )
        )
        return package


@asynccontextmanager
async def serving(dsn: str, **settings: str) -> AsyncIterator[Process]:
    port = free_port()
    process = await launch(
        "serve",
        **{
            "BOOKING_DATABASE_URL": dsn,
            "BOOKING_PORT": str(port),
            # Nobody listens there: the service does not need anybody to.
            "BOOKING_METRICS_TARGET": f"127.0.0.1:{free_port()}",
            **settings,
        },
    )
    try:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            async with asyncio.timeout(READY_S):
                await channel.channel_ready()
            yield Process(process, channel)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def left_in(dsn: str) -> list[str]:
    """The sessions, in any state, and locks that the service left in the database."""
    connection = await asyncpg.connect(dsn)
    try:
        sessions = await connection.fetch(
            "SELECT application_name || ': ' || coalesce(state, '') FROM pg_stat_activity "
            "WHERE datname = current_database() AND application_name LIKE 'booking_service%'"
        )
        locks = await connection.fetch(
            "SELECT locktype || ' ' || mode FROM pg_locks "
            "WHERE pid <> pg_backend_pid() AND database = "
            "(SELECT oid FROM pg_database WHERE datname = current_database())"
        )
    finally:
        await connection.close()
    return [row[0] for row in [*sessions, *locks]]


async def gone_from(dsn: str) -> list[str]:
    """`left_in` once the server has noticed that its clients are gone."""
    give_up_s = time.monotonic() + GONE_S
    while left := await left_in(dsn):
        if time.monotonic() > give_up_s:
            break
        await asyncio.sleep(0.02)
    return left


async def test_a_settings_mistake_is_one_line_and_status_2() -> None:
    status, errors = await ended("serve", BOOKING_PORT="70000", DATABASE_URL="postgresql://a@b/c")
    assert status == 2
    assert errors == "BOOKING_PORT='70000': must be a whole number from 0 to 65535\n"


async def test_a_taken_port_is_one_line(booking_dsn: str) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        status, errors = await ended(
            "serve",
            BOOKING_DATABASE_URL=booking_dsn,
            BOOKING_PORT=str(port),
            BOOKING_METRICS_TARGET="",
            BOOKING_LOG_LEVEL="error",
        )
    assert status == 1
    assert errors.count("\n") == 1
    assert f"127.0.0.1:{port}" in errors
    assert "BOOKING_PORT" in errors
    assert await gone_from(booking_dsn) == []


async def test_a_database_that_is_not_migrated_is_one_line(empty_dsn: str) -> None:
    status, errors = await ended("serve", BOOKING_DATABASE_URL=empty_dsn)
    assert status == 1
    assert errors.count("\n") == 1
    assert "make migrate" in errors


async def test_an_absent_database_is_one_line_without_the_password() -> None:
    address = f"127.0.0.1:{free_port()}"
    status, errors = await ended(
        "serve", BOOKING_DATABASE_URL=f"postgresql://ana:s3cret@{address}/booking"
    )
    assert status == 1
    assert errors.count("\n") == 1
    assert address in errors
    assert "s3cret" not in errors


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_an_idle_process_ends_at_once(booking_dsn: str, number: signal.Signals) -> None:
    async with serving(booking_dsn, BOOKING_DRAIN_TIMEOUT_S=NEVER_S) as process:
        await process.package()
        status, errors = await process.end(number)
    assert status == 0
    assert "Traceback" not in errors
    assert await gone_from(booking_dsn) == []


async def test_an_rpc_in_flight_is_finished_while_no_new_one_is_taken(booking_dsn: str) -> None:
    async with serving(booking_dsn, BOOKING_DRAIN_TIMEOUT_S=NEVER_S) as process:
        package = await process.package()
        locker = await asyncpg.connect(booking_dsn)
        watch = process.health.Watch(health_pb2.HealthCheckRequest(service=""))
        assert (await watch.read()).status == Status.SERVING
        async with locker.transaction():
            await locker.execute("SELECT id FROM packages FOR UPDATE")
            started = asyncio.ensure_future(process.booking.StartBooking(later_of(package.id)))
            await _blocked(booking_dsn)
            ending = asyncio.ensure_future(process.end())
            assert (await watch.read()).status == Status.NOT_SERVING
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await process.booking.ListBookings(booking_pb2.ListBookingsRequest())
            assert refused.value.code() is grpc.StatusCode.UNAVAILABLE
            assert not started.done()
        await locker.close()
        assert (await started).state == booking_pb2.Booking.HELD
        status, errors = await ending
    assert status == 0
    assert "Traceback" not in errors
    assert await gone_from(booking_dsn) == []


@pytest.mark.timed
async def test_an_rpc_that_cannot_end_does_not_hold_up_the_end(booking_dsn: str) -> None:
    async with serving(booking_dsn) as process:
        package = await process.package()
        locker = await asyncpg.connect(booking_dsn)
        async with locker.transaction():
            await locker.execute("SELECT id FROM packages FOR UPDATE")
            started = asyncio.ensure_future(process.booking.StartBooking(later_of(package.id)))
            await _blocked(booking_dsn)
            with Stopwatch() as passed:
                status, errors = await process.end()
            with pytest.raises(grpc.aio.AioRpcError):
                await started
        bookings = await locker.fetchval("SELECT count(*) FROM bookings")
        await locker.close()
    assert status == 0
    assert in_time(passed, DRAIN_S)
    assert "Traceback" not in errors
    assert bookings == 0
    assert await gone_from(booking_dsn) == []


@pytest.mark.timed
async def test_a_database_that_hangs_does_not_hold_up_the_end(booking_dsn: str) -> None:
    async with serving(booking_dsn, BOOKING_DRAIN_TIMEOUT_S="1") as process:
        package = await process.package()
        connection = await asyncpg.connect(booking_dsn)
        sessions = await connection.fetch(
            "SELECT pid FROM pg_stat_activity "
            "WHERE datname = current_database() AND application_name LIKE 'booking_service%'"
        )
        await connection.close()
        for row in sessions:
            os.kill(row["pid"], signal.SIGSTOP)
        try:
            started = asyncio.ensure_future(process.booking.StartBooking(later_of(package.id)))
            # Sent after it on the same connection, so that it is under way by then.
            await process.health.Check(health_pb2.HealthCheckRequest())
            with Stopwatch() as passed:
                status, _ = await process.end()
            with pytest.raises(grpc.aio.AioRpcError):
                await started
        finally:
            for row in sessions:
                os.kill(row["pid"], signal.SIGCONT)
    assert status == 0
    assert in_time(passed, DRAIN_S)
    assert await gone_from(booking_dsn) == []


async def test_a_fault_is_logged_in_full_and_hidden_from_the_caller(booking_dsn: str) -> None:
    """The caller gets a correlation id; the text is in the log; Sentry gets no personal data."""
    envelopes: asyncio.Queue[bytes] = asyncio.Queue()

    async def take(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        length = next(
            int(line.split(b":")[1])
            for line in head.splitlines()
            if line.lower().startswith(b"content-length")
        )
        body = await reader.readexactly(length)
        envelopes.put_nowait(gzip.decompress(body) if b"gzip" in head else body)
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\n{}")
        await writer.drain()
        writer.close()

    endpoint = await asyncio.start_server(take, "127.0.0.1", 0)
    port = endpoint.sockets[0].getsockname()[1]
    settings = {"BOOKING_SENTRY_DSN": f"http://key@127.0.0.1:{port}/1"}
    async with endpoint, serving(booking_dsn, **settings) as process:
        package = await process.package()
        connection = await asyncpg.connect(booking_dsn)
        await connection.execute("ALTER TABLE bookings RENAME user_id TO someone")
        await connection.close()
        request = later_of(package.id)
        request.user_id = "canary@example.org"
        refusal = await refusal_of(
            process.booking.StartBooking(request, metadata=[("x-request-id", "find-me")])
        )
        assert (refusal.code, refusal.reason) == (grpc.StatusCode.INTERNAL, "INTERNAL")
        assert refusal.metadata == {"correlation_id": "find-me"}
        assert "someone" not in refusal.message
        async with asyncio.timeout(READY_S):
            envelope = await envelopes.get()
        _, errors = await process.end()
    assert b"StartBooking" in envelope
    assert b"find-me" in envelope
    password = urlsplit(booking_dsn).password
    assert password is not None
    for text in (envelope.decode(), errors):
        assert "canary" not in text
        assert password not in text
    assert "find-me" in errors
    assert "42703" in errors


async def _blocked(dsn: str) -> None:
    """Returns when a session of the service waits for a lock."""
    connection = await asyncpg.connect(dsn)
    try:
        async with asyncio.timeout(10):
            while True:
                blocked = await connection.fetchval(
                    "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() "
                    "AND application_name LIKE 'booking_service%' AND wait_event_type = 'Lock'"
                )
                if blocked:
                    return
                await asyncio.sleep(0.005)
    finally:
        await connection.close()
