"""While the disk of the metrics is full no booking fails; health says so until there is room."""

from __future__ import annotations

import asyncio
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import asyncpg
import pytest

from metrics_service.client.stream import lane_sender
from protos.metrics.v1 import health_pb2, metrics_pb2
from servicekit import binaries
from servicekit.postgres import PostgresServer
from tests.booking.running_service import RunningService
from tests.booking.running_service import running as running_booking
from tests.docs.snippets import ROOT
from tests.full_disk import fill, limit_files, may_mount, small_disk
from tests.metrics.running_service import Service, until
from tests.metrics.running_service import running as running_metrics

pytestmark = [pytest.mark.processes, pytest.mark.full]

MEGABYTES = 160
SAID = {"log", "undelivered"}


class Disk:
    """The disk of a database server; `fill` and `free` as often as one likes."""

    def __init__(self, place: Path, server: PostgresServer, *, own: bool) -> None:
        self.server = server
        self._place = place
        self._own = own
        self._filler: Path | None = None

    def fill(self) -> None:
        if self._own:
            self._filler = fill(self._place)
        else:
            # In place of a file system of its own: no file may grow.
            limit_files(self._pids(), 8192)

    def free(self) -> None:
        if self._filler is not None:
            self._filler.unlink()
        else:
            limit_files(self._pids(), -1)
        if self.server.running_pid() is None:
            # It ends when it cannot write its log; a person starts it again.
            self.server.start()

    def _pids(self) -> list[int]:
        pid = self.server.running_pid()
        found = [] if pid is None else [pid]
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit() and found:
                status = (entry / "stat").read_text().rsplit(")", 1)[1].split()
                if int(status[1]) == found[0]:
                    found.append(int(entry.name))
        return found


@pytest.fixture
def disk() -> Iterator[Disk]:
    place = Path(tempfile.mkdtemp(prefix="farehold-disk-", dir="/var/tmp"))
    place.chmod(0o711)
    with ExitStack() as stack:
        stack.callback(shutil.rmtree, place)
        own = os.geteuid() == 0 and may_mount()
        if own:
            stack.enter_context(small_disk(place, MEGABYTES))
        server = PostgresServer(
            place / "data",
            durable=False,
            port=binaries.free_port(),
            settings={"min_wal_size": "32MB", "max_wal_size": "32MB"},
        )
        stack.callback(server.stop)
        server.start()
        server.create_database("metrics")
        server.migrate("metrics", ROOT / "migrations" / "metrics")
        yield Disk(place, server, own=own)


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
        disk.fill()
        made = 5
        while verdict().status != health_pb2.DatabaseHealth.UNHEALTHY:
            await book(booking, package.id, 5)
            made += 5
            assert made < 3_000, "the disk was never full"
        assert SAID & {each.criterion for each in verdict().reasons}
        await book(booking, package.id, 5)
        disk.free()
        await until(lambda: metrics.server.event_log.leading, "the lead")
        await book(booking, package.id, 1)
        expected = await facts(booking_dsn)
        async with asyncio.timeout(60):
            while await counted(metrics) < expected:  # noqa: ASYNC110 - by RPC
                await asyncio.sleep(0.1)
        assert await counted(metrics) == expected
        await until(lambda: not SAID & {each.criterion for each in verdict().reasons}, "its end")
