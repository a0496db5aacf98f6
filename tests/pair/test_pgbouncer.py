"""Both services behind a real PgBouncer: refused in one line, or at work as without it."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import urlsplit

import asyncpg
import pytest
from rich.console import Console

from booking_service.demo.calls import Client
from booking_service.demo.screen import Screen
from booking_service.demo.session import Order, replay_file
from metrics_service.client import connect
from servicekit import binaries
from tests.pair.real_pair import ROOT, Pair, first_rows, running
from tests.requires import program

pytestmark = [pytest.mark.full, pytest.mark.processes, pytest.mark.timeout(120)]

BOUND_S = 30.0
REFUSED = {
    "transaction": "a transaction pooler in between keeps no session",
    "statement": "a statement pooler in between allows no transaction",
}


@contextmanager
def pgbouncer(mode: str, *dsns: str) -> Iterator[list[str]]:
    """Pool these databases of one server in a mode; gives the URLs of the pooler."""
    with tempfile.TemporaryDirectory() as folder:
        # The account that it runs as must be able to enter.
        Path(folder).chmod(0o711)
        yield from _pgbouncer(mode, dsns, Path(folder))


def _pgbouncer(mode: str, dsns: tuple[str, ...], folder: Path) -> Iterator[list[str]]:
    path = program("pgbouncer")
    server, port = urlsplit(dsns[0]), binaries.free_port()
    config = folder / "pgbouncer.ini"
    config.write_text(
        "[databases]\n"
        f"* = host={server.hostname} port={server.port} user={server.username}"
        f" password={server.password}\n"
        "[pgbouncer]\n"
        f"listen_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\n"
        f"auth_type = any\npool_mode = {mode}\ndefault_pool_size = 40\n"
        # Poolers are often told to leave out what they do not know.
        "ignore_startup_parameters = statement_timeout\n"
    )
    config.chmod(0o644)
    # It refuses to run as root.
    user = "nobody" if os.getuid() == 0 else None
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [path, str(config)],
            stdout=log,
            stderr=log,
            preexec_fn=binaries.end_with_parent,
            user=user,
        )
    try:
        give_up_s = time.monotonic() + BOUND_S
        while b"process up" not in (folder / "log").read_bytes():
            assert process.poll() is None, (folder / "log").read_text()
            assert time.monotonic() < give_up_s
            time.sleep(0.02)
        yield [urlsplit(dsn)._replace(netloc=f"postgres@127.0.0.1:{port}").geturl() for dsn in dsns]
    finally:
        process.terminate()
        process.wait(BOUND_S)


@pytest.mark.parametrize("mode", REFUSED)
def test_a_pooler_without_sessions_is_refused_in_one_line(
    booking_dsn: str, metrics_dsn: str, mode: str, tmp_path: Path
) -> None:
    with pgbouncer(mode, booking_dsn, metrics_dsn) as [booking, metrics]:
        pair = Pair(booking, metrics, tmp_path)
        for name in ("booking", "metrics"):
            ended = subprocess.run(
                [sys.executable, "-m", f"{name}_service", "serve"],
                cwd=ROOT,
                env=pair.environ,
                capture_output=True,
                text=True,
                timeout=BOUND_S,
                check=False,
            )
            assert ended.returncode == 1
            # Log lines are JSON.
            [line] = [line for line in ended.stderr.splitlines() if not line.startswith("{")]
            assert REFUSED[mode] in line
            assert f"set {name.upper()}_DATABASE_URL to the server itself" in line


async def test_the_pair_works_through_a_pooler_of_sessions(
    booking_dsn: str, metrics_dsn: str, tmp_path: Path
) -> None:
    with (
        pgbouncer("session", booking_dsn, metrics_dsn) as dsns,
        running(Pair(dsns[0], dsns[1], tmp_path)) as pair,
    ):
        assert "session_pooler_found" in pair.log("booking_service")
        assert "session_pooler_found" in pair.log("metrics_service")
        order = Order(first_rows(tmp_path, 40), speed=200.0)
        screen = Screen(Console(file=io.StringIO()))
        async with Client(pair.booking) as booking, Client(pair.metrics) as metrics:
            # Every figure of the metrics is that of the bookings.
            assert await replay_file(order, booking, metrics, datetime.now(UTC).date(), screen)
        assert "outbox_relay_interrupted" not in pair.log("booking_service")
        assert "log_lost" not in pair.log("metrics_service")


async def test_a_running_query_is_looked_at_by_the_id_of_its_server_process(
    empty_dsn: str,
) -> None:
    with pgbouncer("session", empty_dsn) as [pooled]:
        connection = await connect(pooled, session_settings={"timezone": "UTC"})
        told = asyncpg.Connection.get_server_pid(connection)
        true = await connection.fetchval("SELECT pg_backend_pid()")
        assert connection.get_server_pid() == true != told
        await connection.close()
