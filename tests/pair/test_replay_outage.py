"""With PostgreSQL stopped and started again the pair says so, stays up, and loses nothing."""

from __future__ import annotations

import asyncio
import io
from collections.abc import Awaitable, Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from rich.console import Console

from booking_service.demo.calls import Client
from booking_service.demo.screen import Screen
from booking_service.demo.session import Order, replay_file
from protos.metrics.v1 import health_pb2, health_pb2_grpc
from servicekit import binaries
from servicekit.devstack import PostgresServer
from servicekit.migrations import MIGRATIONS, migrate
from tests.allowance import Stopwatch, in_time
from tests.pair.real_pair import Pair, first_rows, running, serves

HEARTBEAT_S = 2.0
SERVICES = ("booking_service", "metrics_service")
pytestmark = [pytest.mark.processes, pytest.mark.timeout(180)]


@pytest.fixture
def server(postgres: PostgresServer) -> Iterator[PostgresServer]:
    """A server of the test's own that keeps its port when it is started again."""
    # Beside the session's server, where the account that both run as can pass.
    data_dir = postgres.data_dir.parent / "stoppable"
    server = PostgresServer(data_dir, durable=False, port=binaries.free_port())
    server.start()
    yield server
    server.stop()
    binaries.remove_home(data_dir)


@pytest.fixture
def pair(server: PostgresServer, tmp_path: Path) -> Iterator[Pair]:
    for name in ("booking", "metrics"):
        server.create_database(name)
        migrate(server.dsn(name), MIGRATIONS / name)
    settings = {
        "METRICS_HEARTBEAT_MS": str(int(HEARTBEAT_S * 1000)),
        **{
            f"{prefix}_HEALTH_{name}": "2"
            for prefix in ("METRICS", "BOOKING")
            for name in ("UP_AFTER_S", "GAP_S")
        },
    }
    with running(Pair(server.dsn("booking"), server.dsn("metrics"), tmp_path, settings)) as pair:
        yield pair


@pytest.mark.timed
async def test_stopped_database_is_told_at_once_and_all_recovers(
    pair: Pair, server: PostgresServer, tmp_path: Path
) -> None:
    async with Client(pair.booking) as booking, Client(pair.metrics) as metrics:
        stub = health_pb2_grpc.HealthServiceStub(metrics.channel)

        async def status() -> health_pb2.DatabaseHealth:
            return await metrics.call(stub.GetDatabaseHealth, health_pb2.GetDatabaseHealthRequest())

        async def database_serves() -> list[bool]:
            targets = (pair.booking, pair.metrics)
            return [await asyncio.to_thread(serves, target, "database") for target in targets]

        async def healthy() -> bool:
            verdict = (await status()).status
            return verdict == health_pb2.DatabaseHealth.HEALTHY and all(await database_serves())

        async def unhealthy() -> bool:
            verdict = (await status()).status
            return verdict == health_pb2.DatabaseHealth.UNHEALTHY and not any(
                await database_serves()
            )

        await _within(60.0, healthy)
        order = Order(first_rows(tmp_path, 150), speed=20.0)
        screen = Screen(Console(file=io.StringIO()))
        replay = asyncio.create_task(
            replay_file(order, booking, metrics, datetime.now(UTC).date(), screen)
        )
        await asyncio.to_thread(server.kill)
        # The probe looks every second and gives up after one; then a heartbeat carries it.
        with Stopwatch() as passed:
            await _within(30.0, unhealthy)
        assert in_time(passed, 1.0 + HEARTBEAT_S)
        for target in (pair.booking, pair.metrics):
            assert await asyncio.to_thread(serves, target)

        async def recovered() -> bool:
            """Healthy, but for queries that failed in the outage: they count for five minutes."""
            return {reason.criterion for reason in (await status()).reasons} <= {"failed"}

        await asyncio.to_thread(server.start)
        assert await replay
        assert booking.retries > 0
        await _within(60.0, recovered)


async def _within(bound_s: float, condition: Callable[[], Awaitable[bool]]) -> None:
    """Waits until `condition` holds; fails after `bound_s`."""
    async with asyncio.timeout(bound_s):
        while not await condition():  # noqa: ASYNC110 - any condition
            await asyncio.sleep(0.05)
