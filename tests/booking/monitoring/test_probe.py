"""The probe distinguishes a dead server, a missing schema and a busy pool."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from functools import partial
from itertools import count
from pathlib import Path

import asyncpg
import pytest

from booking_service.cli.indexes import FOLDER
from booking_service.monitoring import probe as module
from booking_service.monitoring import startup
from booking_service.monitoring.probe import SCHEMA_VERSION, DatabaseProbe, ProbeResult, ProbeState
from booking_service.monitoring.startup import require_database
from booking_service.storage.clock import SetClock
from booking_service.storage.database import Database
from protos.tracking.v1 import tracking_pb2
from servicekit.binaries import remove_home
from servicekit.postgres import PostgresServer
from servicekit.start import StartError
from tests.booking.seed import NOW


@pytest.fixture(autouse=True)
def _patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """A pause of the machine does not look like a dead server."""
    monkeypatch.setattr(module, "DEADLINE_S", 30.0)


@pytest.fixture
async def database(booking_dsn: str) -> AsyncIterator[Database]:
    database = Database(booking_dsn, pool_size=1)
    await database.open()
    yield database
    await database.close()


async def test_reachable(database: Database) -> None:
    # Each reading of the clock is 1.5 ms after the one before.
    probe = DatabaseProbe(database, monotonic_ns=partial(next, count(0, 1_500_000)))
    result = await probe.check()
    await probe.stop()
    assert result.ok
    assert result is probe.result
    assert result.latency_us == 1500
    proto = result.to_proto(result.checked_ns + 1_500_000_000)
    assert proto.result == tracking_pb2.Probe.REACHABLE
    assert proto.age_ms == 1500


async def test_a_slow_answer_moves_the_offset_only_as_far_as_it_must(booking_dsn: str) -> None:
    database = Database(booking_dsn, clock=SetClock(NOW))
    there_us = round(NOW.timestamp() * 1e6)
    # Asked 10 s before the database's time and answered 20 s after it: nothing is disproved.
    times = iter([there_us, there_us, there_us - 10_000_000, there_us + 20_000_000])
    probe = DatabaseProbe(database, now_us=lambda: next(times))
    offsets = [(await probe.check()).clock_offset_us for _ in range(2)]
    await probe.stop()
    assert offsets == [0, 0]


async def test_offset_is_that_of_the_databases_clock(booking_dsn: str) -> None:
    database = Database(booking_dsn, clock=SetClock(NOW))
    process_us = round(NOW.timestamp() * 1e6) - 7_000_000
    probe = DatabaseProbe(database, now_us=lambda: process_us)
    result = await probe.check()
    await probe.stop()
    assert result.clock_offset_us == 7_000_000


async def test_exhausted_pool_is_not_a_dead_database(database: Database) -> None:
    probe = DatabaseProbe(database)
    async with database.connection():
        assert (await probe.check()).ok
    await probe.stop()


async def test_schema_missing(empty_dsn: str) -> None:
    probe = DatabaseProbe(Database(empty_dsn))
    result = await probe.check()
    await probe.stop()
    assert result.state is ProbeState.SCHEMA_MISSING


async def test_server_that_does_not_answer_in_time_is_unreachable(
    database: Database, booking_dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    probe = DatabaseProbe(database)
    blocker = await asyncpg.connect(booking_dsn)
    async with blocker.transaction():
        await blocker.execute("LOCK TABLE schema_migrations")
        with monkeypatch.context() as hurried:
            hurried.setattr(module, "DEADLINE_S", 0.1)
            result = await probe.check()
        assert result.state is ProbeState.UNREACHABLE
    assert (await probe.check()).ok
    await probe.stop()
    await blocker.close()


@pytest.mark.processes
async def test_stopped_server_shows_and_recovers_by_itself(tmp_path: Path) -> None:
    server = PostgresServer(tmp_path / "data", durable=False)
    server.start()
    results: asyncio.Queue[ProbeResult] = asyncio.Queue()
    dsn = server.create_database("booking")
    server.migrate("booking", FOLDER)
    probe = DatabaseProbe(Database(dsn), interval_s=0.02, on_result=results.put_nowait)
    probe.start()
    try:
        assert (await asyncio.wait_for(results.get(), 20)).ok
        server.kill()
        await _until(results, ProbeState.UNREACHABLE)
        port = server.port
        server = PostgresServer(server.data_dir, durable=False, port=port)
        server.start()
        await _until(results, ProbeState.REACHABLE)
    finally:
        await probe.stop()
        server.stop()
        remove_home(server.data_dir)


async def test_start_without_a_server_is_one_line() -> None:
    with pytest.raises(StartError) as caught:
        await require_database(Database("postgresql://u:secret@127.0.0.1:1/booking"))
    line = str(caught.value)
    assert "127.0.0.1:1/booking" in line
    assert "BOOKING_DATABASE_URL" in line
    assert "secret" not in line
    assert "\n" not in line


async def test_start_without_the_database_says_make_migrate(booking_dsn: str) -> None:
    with pytest.raises(StartError, match="no such database; run `make migrate`"):
        await require_database(Database(booking_dsn.replace("/test_", "/no_such_")))


async def test_start_without_the_schema_says_make_migrate(empty_dsn: str) -> None:
    with pytest.raises(StartError, match="not migrated: run `make migrate`"):
        await require_database(Database(empty_dsn))


async def test_start_on_an_old_server_is_refused(
    booking_dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(startup, "OLDEST_SERVER", 990000)
    with pytest.raises(StartError, match=r"is PostgreSQL \d+: 16 or newer is needed"):
        await require_database(Database(booking_dsn))


async def test_start_on_a_migrated_database_is_silent(booking_dsn: str) -> None:
    await require_database(Database(booking_dsn))


def test_schema_version_is_that_of_the_newest_table_migration() -> None:
    tables = [path.name.split("_")[0] for path in FOLDER.glob("*.sql") if path.name < "9"]
    assert max(tables) == SCHEMA_VERSION


async def test_a_probe_during_which_the_process_was_paused_is_repeated(database: Database) -> None:
    now_ns = probes = 0

    class Paused(DatabaseProbe):
        async def _observe(self) -> tuple[ProbeState, int]:
            nonlocal now_ns, probes
            probes += 1
            if probes == 1:
                now_ns += 3 * int(module.DEADLINE_S * 1e9)
                raise TimeoutError
            return await super()._observe()

    probe = Paused(database, monotonic_ns=lambda: now_ns)
    result = await probe.check()
    await probe.stop()
    assert (probes, result.state) == (2, ProbeState.REACHABLE)


async def _until(results: asyncio.Queue[ProbeResult], state: ProbeState) -> None:
    async with asyncio.timeout(20):
        while (await results.get()).state is not state:
            pass
