"""grpc.health.v1 of booking_service while its database comes and goes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import asyncpg
import grpc
import pytest
from google.rpc import error_details_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc

from booking_service.monitoring.probe import ProbeState
from protos.booking.v1 import booking_pb2
from servicekit import binaries
from servicekit.postgres import PostgresServer
from tests.booking.running_service import RunningService, refusal_of, running, start_of
from tests.booking.seed import eventually

pytestmark = pytest.mark.processes

ROOT = Path(__file__).resolve().parents[3]
SERVICES = (
    "booking.v1.CatalogService",
    "booking.v1.BookingService",
    "booking.v1.PaymentService",
    "booking.v1.ReviewService",
    "booking.v1.ProfileService",
)
SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
PATIENCE_S = 20.0
# Without them a probe that found the machine at a standstill would show for a minute.
AT_ONCE = {"BOOKING_HEALTH_UP_AFTER_S": "0", "BOOKING_HEALTH_GAP_S": "0"}


@pytest.fixture
def own_postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PostgresServer]:
    """A separate server on one port, so that it can be stopped and started."""
    base = tmp_path_factory.mktemp("health")
    base.chmod(0o711)
    server = PostgresServer(base / "data", durable=False, port=binaries.free_port())
    server.start()
    try:
        server.create_database("booking")
        server.migrate("booking", ROOT / "migrations" / "booking")
        yield server
    finally:
        server.stop()
        binaries.remove_home(base / "data")


@pytest.fixture
async def watched(own_postgres: PostgresServer) -> AsyncIterator[RunningService]:
    async with running(own_postgres.dsn("booking"), **AT_ONCE) as running_service:
        yield running_service


def stub(running_service: RunningService) -> Any:
    """Its types know the blocking stub alone."""
    return health_pb2_grpc.HealthStub(running_service.channel)


async def status(running_service: RunningService, service: str) -> Any:
    request = health_pb2.HealthCheckRequest(service=service)
    return (await stub(running_service).Check(request)).status


async def turned(running_service: RunningService, service: str, wanted: int) -> None:
    """Returns when a service's status is this one."""
    watch = stub(running_service).Watch(health_pb2.HealthCheckRequest(service=service))
    async with asyncio.timeout(PATIENCE_S):
        async for answer in watch:
            if answer.status == wanted:
                break
    watch.cancel()


async def test_a_service_that_started_serves(booking_dsn: str) -> None:
    async with running(booking_dsn, **AT_ONCE) as running_service:
        for service in ("", *SERVICES, "database"):
            await turned(running_service, service, SERVING)
        refusal = await refusal_of(
            stub(running_service).Check(health_pb2.HealthCheckRequest(service="unknown"))
        )
    assert refusal.code is grpc.StatusCode.NOT_FOUND


async def test_the_process_outlives_its_database_and_recovers_by_itself(
    watched: RunningService, own_postgres: PostgresServer
) -> None:
    package = await watched.package()
    held = await watched.held(package.id)
    own_postgres.kill()

    await turned(watched, "database", NOT_SERVING)
    for service in SERVICES:
        await turned(watched, service, NOT_SERVING)
    # Whoever restarts processes must leave this one alone.
    assert await status(watched, "") == SERVING
    for call in (
        watched.booking.GetBooking(booking_pb2.GetBookingRequest(booking_id=held.id)),
        watched.booking.StartBooking(start_of(package.id)),
        watched.booking.CompleteBooking(booking_pb2.CompleteBookingRequest(booking_id=held.id)),
    ):
        refusal = await refusal_of(call)
        assert refusal.code is grpc.StatusCode.UNAVAILABLE
        assert refusal.reason == "DATABASE_UNAVAILABLE"
        assert refusal.detail(error_details_pb2.RetryInfo).retry_delay.ToTimedelta()

    own_postgres.start()
    for service in (*SERVICES, "database"):
        await turned(watched, service, SERVING)
    got = await watched.booking.GetBooking(booking_pb2.GetBookingRequest(booking_id=held.id))
    assert got == held
    assert (await watched.held(package.id)).state == booking_pb2.Booking.HELD


async def test_a_missing_schema_is_distinguished_from_a_missing_server(booking_dsn: str) -> None:
    connection = await asyncpg.connect(booking_dsn)
    async with running(booking_dsn) as running_service:
        await connection.execute("ALTER TABLE schema_migrations RENAME TO elsewhere")
        for service in (*SERVICES, "database"):
            await turned(running_service, service, NOT_SERVING)
        assert await status(running_service, "") == SERVING

        async def reported() -> bool:
            # A probe that comes too late says UNREACHABLE, for once.
            result = running_service.server.probe.result
            return result is not None and result.state is ProbeState.SCHEMA_MISSING

        await eventually(reported)
        await connection.execute("ALTER TABLE elsewhere RENAME TO schema_migrations")
        for service in SERVICES:
            await turned(running_service, service, SERVING)
    await connection.close()


async def test_nothing_serves_once_the_process_drains(booking_dsn: str) -> None:
    async with running(booking_dsn, **AT_ONCE) as running_service:
        watches = {
            service: stub(running_service).Watch(health_pb2.HealthCheckRequest(service=service))
            for service in ("", *SERVICES, "database")
        }
        async with asyncio.timeout(PATIENCE_S):
            for watch in watches.values():
                while (await watch.read()).status != SERVING:
                    pass
        draining = asyncio.ensure_future(running_service.server.stop())
        for watch in watches.values():
            assert (await watch.read()).status == NOT_SERVING
        await draining
