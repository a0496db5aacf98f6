"""While the disk of the metrics is full no booking fails; health says so until there is room."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import asyncpg
import grpc
import pytest

from metrics_service.client.stream import lane_sender
from protos.booking.v1 import catalog_pb2
from protos.metrics.v1 import health_pb2, metrics_pb2
from servicekit import binaries
from servicekit.postgres import PostgresServer
from tests.booking.running_service import RunningService, after
from tests.booking.running_service import running as running_booking
from tests.docs.snippets import ROOT
from tests.full_disk import fill, may_mount, small_disk
from tests.metrics.running_service import Service, until
from tests.metrics.running_service import running as running_metrics

pytestmark = [pytest.mark.processes, pytest.mark.full]

MEGABYTES = 200
SAID = {"log", "undelivered"}


class Disk:
    """The disk of a database server, which fails in one of the WAYS, and is mended."""

    def __init__(self, place: Path, server: PostgresServer, way: str) -> None:
        self.server = server
        self._place = place
        self._way = way
        self._filler: Path | None = None

    def fail(self) -> None:
        if self._way == "full":
            self._filler = fill(self._place)
        else:
            self._each("ALTER DATABASE {0} SET default_transaction_read_only = on")
            self._each(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{0}'"
            )

    def mend(self) -> None:
        if self._filler is not None:
            self._filler.unlink()
            if not self.server.attach():
                # It ends when it cannot write its log; a person starts it again.
                self.server.kill()
                self.server.start()
        else:
            self._each("ALTER DATABASE {0} RESET default_transaction_read_only")

    def _each(self, statement: str) -> None:
        for name in NAMES:
            self.server.psql("postgres", statement.format(name))


NAMES = ("booking", "metrics")
WAYS = ("full", "read-only")
"""The second needs no right to mount, and stands for the first where there is none."""


@pytest.fixture(params=WAYS)
def disk(request: pytest.FixtureRequest) -> Iterator[Disk]:
    """A server with empty databases of both services."""
    way = request.param if may_mount() else WAYS[-1]
    place = Path(tempfile.mkdtemp(prefix="farehold-disk-", dir="/var/tmp"))
    place.chmod(0o711)
    with ExitStack() as stack:
        stack.callback(shutil.rmtree, place)
        if way != WAYS[-1]:
            stack.enter_context(small_disk(place, MEGABYTES))
        server = PostgresServer(
            place / "data",
            durable=False,
            port=binaries.free_port(),
            settings={"min_wal_size": "32MB", "max_wal_size": "32MB"},
        )
        stack.callback(server.kill)
        server.start()
        for name in NAMES:
            server.create_database(name)
            server.migrate(name, ROOT / "migrations" / name)
        yield Disk(place, server, way)


async def book(booking: RunningService, package_id: str, count: int) -> None:
    for number in range(count):
        await booking.confirmed(package_id, user_id=f"user-{number}" + "x" * 100)


async def facts(dsn: str) -> int:
    connection = await asyncpg.connect(dsn)
    try:
        return int(
            await connection.fetchval(
                "SELECT (SELECT count(*) FROM booking_events)"
                " + (SELECT count(*) FROM payment_events WHERE fact <> '')"
            )
        )
    finally:
        await connection.close()


async def counted(metrics: Service) -> int:
    answer = await metrics.metrics.GetMetrics(metrics_pb2.GetMetricsRequest())
    return int(answer.quality.facts)


@pytest.mark.timeout(180)
async def test_bookings_go_on_while_the_disk_of_the_metrics_is_full(
    booking_dsn: str, disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lane_sender, "REFUSED_RETRY_S", 0.2)
    dsn = disk.server.dsn("metrics")
    async with (
        running_metrics(dsn, METRICS_HEARTBEAT_MS="200") as metrics,
        running_booking(booking_dsn, BOOKING_METRICS_TARGET=metrics.target) as booking,
    ):
        verdict = metrics.server.health.verdict
        package = await booking.package(capacity=1000)
        await book(booking, package.id, 5)
        disk.fail()
        made = 5
        while verdict().status != health_pb2.DatabaseHealth.UNHEALTHY:
            await book(booking, package.id, 5)
            made += 5
            assert made < 3_000, "the disk was never full"
        assert SAID & {each.criterion for each in verdict().reasons}
        await book(booking, package.id, 5)
        disk.mend()
        await until(lambda: metrics.server.event_log.leading, "the lead")
        await book(booking, package.id, 1)
        expected = await facts(booking_dsn)
        async with asyncio.timeout(60):
            while await counted(metrics) < expected:  # noqa: ASYNC110 - by RPC
                await asyncio.sleep(0.1)
        assert await counted(metrics) == expected
        await until(lambda: not SAID & {each.criterion for each in verdict().reasons}, "its end")


@pytest.mark.timeout(180)
async def test_bookings_whose_disk_fails_are_unavailable_and_go_on_when_it_is_mended(
    disk: Disk,
) -> None:
    async with running_booking(disk.server.dsn("booking"), BOOKING_METRICS_TARGET="") as booking:
        package = await booking.package(capacity=1000, days=2)
        held = 0
        codes = set()
        disk.fail()
        for number in range(3_000):
            try:
                await booking.held(package.id, user_id=f"user-{number}" + "x" * 100)
                held += 1
            except grpc.aio.AioRpcError as error:
                codes.add(error.code())
                break
        assert codes == {grpc.StatusCode.UNAVAILABLE}
        disk.mend()

        async def booked() -> bool:
            with contextlib.suppress(grpc.aio.AioRpcError):
                await booking.held(package.id, user_id="last")
                return True
            return False

        async with asyncio.timeout(60):
            while not await booked():  # noqa: ASYNC110 - by RPC
                await asyncio.sleep(0.1)
        shown = await booking.catalog.CheckAvailability(
            catalog_pb2.CheckAvailabilityRequest(
                package_id=package.id, start_date=after(0), end_date=after(1)
            )
        )
        # What was answered is there, once, and what was refused may be.
        assert shown.days[0].free in (1000 - held - 1, 1000 - held - 2)
