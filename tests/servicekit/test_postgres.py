"""The embedded server: starts, survives crashes with its data, and leaves nothing behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path

import asyncpg
import pytest

from servicekit import binaries
from servicekit import postgres as module
from servicekit.postgres import PostgresServer
from servicekit.start import StartError

pytestmark = pytest.mark.processes

BOUND_S = 30.0


@pytest.fixture
def data_dir(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path / "postgres"
    binaries.remove_home(tmp_path / "postgres")


def test_a_durable_server_keeps_what_was_committed_before_a_crash(data_dir: Path) -> None:
    server = PostgresServer(data_dir)
    server.start()
    try:
        assert server.psql("postgres", "SHOW fsync") == "on"
        server.create_database("shop")
        server.psql("shop", "CREATE TABLE sold AS SELECT 7 AS amount")
        server.kill()
        server.start()
        assert server.psql("shop", "SELECT amount FROM sold") == "7"
    finally:
        server.stop()


def test_a_server_that_is_stopped_by_a_signal_is_still_ended(
    data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = PostgresServer(data_dir)
    server.start()
    pid = server.running_pid()
    assert pid is not None
    monkeypatch.setattr(module, "STOP_TIMEOUT_S", 0.1)
    monkeypatch.setattr(module, "QUIT_TIMEOUT_S", 0.1)
    os.kill(pid, signal.SIGSTOP)
    server.stop()
    assert server.running_pid() is None
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_a_stale_pid_file_does_no_harm(data_dir: Path) -> None:
    server = PostgresServer(data_dir, durable=False)
    server.start()
    server.stop()
    # A crash leaves the file behind, and its number may by now belong to any other process.
    pid_file = data_dir / "postmaster.pid"
    pid_file.write_text(f"{os.getpid()}\n{data_dir}\n1\n1\n\n127.0.0.1\n1 1\nready   \n")
    assert server.running_pid() is None
    os.chown(pid_file, data_dir.stat().st_uid, data_dir.stat().st_gid)
    server.start()
    assert server.running_pid() is not None
    server.stop()


def test_a_second_server_in_one_directory_is_one_clear_line(data_dir: Path) -> None:
    server = PostgresServer(data_dir, durable=False)
    server.start()
    try:
        with pytest.raises(StartError, match=rf"already running .*process {server.running_pid()}"):
            PostgresServer(data_dir, durable=False).start()
    finally:
        server.stop()


def test_an_attached_server_is_used_and_left_running(data_dir: Path) -> None:
    server = PostgresServer(data_dir, durable=False)
    other = PostgresServer(data_dir)
    assert not other.attach()
    server.start()
    try:
        assert other.attach()
        assert other.psql("postgres", "SELECT 1") == "1"
        other.stop()
        assert server.psql("postgres", "SELECT 1") == "1"
    finally:
        server.stop()
    assert server.running_pid() is None


def test_the_server_ends_when_the_process_that_started_it_is_killed(data_dir: Path) -> None:
    program = textwrap.dedent(
        f"""
        from pathlib import Path
        from servicekit.postgres import PostgresServer
        server = PostgresServer(Path({str(data_dir)!r}), durable=False)
        server.start()
        print("up", flush=True)
        input()
        """
    )
    with subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as starter:
        assert starter.stdout is not None
        assert starter.stdout.readline() == "up\n"
        server = PostgresServer(data_dir)
        assert server.running_pid() is not None
        starter.kill()
    give_up = time.monotonic() + BOUND_S
    while server.running_pid() is not None:
        assert time.monotonic() < give_up, "the server outlives its parent"
        time.sleep(0.02)


def test_a_directory_that_the_account_cannot_reach_is_linked_elsewhere(tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only as root does the server run as another account")
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    data_dir = closed / "postgres"
    server = PostgresServer(data_dir, durable=False)
    try:
        server.start()
        assert server.psql("postgres", "SELECT 1") == "1"
        server.stop()
        assert data_dir.is_symlink()
        assert closed.stat().st_mode & 0o777 == 0o700
    finally:
        server.stop()
        home = data_dir.resolve()
        binaries.remove_home(data_dir)
    assert not home.exists()
    assert not data_dir.is_symlink()


def test_programs_that_the_account_cannot_run_are_copied_beside_the_data(
    data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if os.geteuid() != 0:
        pytest.skip("only as root does the server run as another account")
    installed = binaries._installed() / "pginstall" / "bin"
    may_enter = binaries._can_enter

    def closed(directory: Path, account: binaries.Account) -> bool:
        return directory != installed and may_enter(directory, account)

    monkeypatch.setattr(binaries, "_can_enter", closed)
    home = binaries.reachable_directory(data_dir)
    programs = binaries.reachable_binaries(home)
    assert programs.is_relative_to(home.with_name(f"{home.name}-programs"))
    server = PostgresServer(data_dir, durable=False)
    server.start()
    try:
        assert server.psql("postgres", "SELECT 1") == "1"
    finally:
        server.stop()


def test_a_bad_migration_is_named_with_its_error(
    postgres: PostgresServer, empty_dsn: str, tmp_path: Path
) -> None:
    database = empty_dsn.rsplit("/", 1)[1].split("?")[0]
    postgres.migrate(database, tmp_path)
    (tmp_path / "0001_bad.sql").write_text("-- migrate:up\nCREATE TABEL x ();\n-- migrate:down\n")
    with pytest.raises(StartError, match=r"could not be migrated: .*TABEL"):
        postgres.migrate(database, tmp_path)


async def test_every_test_has_its_own_database(empty_dsn: str) -> None:
    connection = await asyncpg.connect(empty_dsn)
    try:
        assert await connection.fetchval("SHOW fsync") == "off"
        assert int(await connection.fetchval("SHOW max_connections")) >= 200
        assert await connection.fetchval("SELECT count(*) FROM pg_stat_statements") >= 0
        tables = "SELECT count(*) FROM pg_tables WHERE schemaname = 'public'"
        assert await connection.fetchval(tables) == 0
    finally:
        await connection.close()


def test_no_url_or_password_is_among_the_arguments_of_a_process(postgres: PostgresServer) -> None:
    password = postgres.dsn("postgres").split(":")[2].split("@")[0]
    pid = postgres.running_pid()
    assert password not in Path(f"/proc/{pid}/cmdline").read_text()
    assert (postgres.data_dir / "farehold.password").stat().st_mode & 0o077 == 0
