"""The data folder: one user at a time, both databases there, nothing left running."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from servicekit import devstack
from servicekit.start import StartError
from tests.allowance import Stopwatch, in_time

pytestmark = pytest.mark.processes

BOUND_S = 30.0
SHOW_URLS = (
    "import os; print(os.environ['BOOKING_DATABASE_URL'], os.environ['METRICS_DATABASE_URL'])"
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("devstack") / "data"
    yield folder
    devstack.remove(folder)
    assert not folder.exists()


def command_line(folder: Path, *arguments: str) -> list[str]:
    return [sys.executable, "-m", "servicekit.devstack", "--data", str(folder), *arguments]


def run_devstack(folder: Path, *arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
    clean = {name: value for name, value in os.environ.items() if "DATABASE_URL" not in name}
    return subprocess.run(
        command_line(folder, *arguments),
        env={**clean, **environ},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_both_databases_exist_and_keep_their_data(folder: Path) -> None:
    with devstack.databases(folder, {}) as urls:
        assert set(urls) == {"BOOKING_DATABASE_URL", "METRICS_DATABASE_URL"}
        server = devstack.PostgresServer(folder / "postgres")
        assert server.attach()
        assert server.databases() >= {"booking", "metrics"}
        server.psql("booking", "CREATE TABLE kept ()")
    assert server.running_pid() is None
    with devstack.databases(folder, {}):
        server.attach()
        assert server.psql("booking", "SELECT count(*) FROM kept") == "0"


def test_given_urls_are_passed_on_and_nothing_is_started(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    given = {"DATABASE_URL": "postgresql://db/b", "METRICS_DATABASE_URL": "postgresql://db/m"}
    with devstack.databases(folder, given) as urls:
        assert urls == {
            "BOOKING_DATABASE_URL": "postgresql://db/b",
            "METRICS_DATABASE_URL": "postgresql://db/m",
        }
    assert not folder.exists()


def test_a_folder_in_use_is_one_line_naming_the_process(folder: Path) -> None:
    with (
        devstack.sole_user(folder),
        pytest.raises(StartError, match=rf"in use by process {os.getpid()}: stop it first"),
        devstack.sole_user(folder),
    ):
        pytest.fail("two users of one folder")
    with devstack.sole_user(folder):
        assert run_devstack(folder, "clean").returncode == 1


def test_exec_gives_a_command_both_urls_and_passes_its_status_on(folder: Path) -> None:
    done = run_devstack(folder, "exec", "--", sys.executable, "-c", SHOW_URLS)
    assert done.returncode == 0, done.stderr
    booking, metrics = done.stdout.split()
    assert "/booking?" in booking
    assert "/metrics?" in metrics
    assert run_devstack(folder, "exec", "--", "sh", "-c", "exit 7").returncode == 7
    assert devstack.PostgresServer(folder / "postgres").running_pid() is None


def test_exec_uses_the_server_of_a_running_stack_and_leaves_it(folder: Path) -> None:
    with devstack.sole_user(folder), devstack.databases(folder, {}) as urls:
        done = run_devstack(folder, "exec", "--", sys.executable, "-c", SHOW_URLS)
        assert done.stdout.split() == [urls["BOOKING_DATABASE_URL"], urls["METRICS_DATABASE_URL"]]
        assert devstack.PostgresServer(folder / "postgres").running_pid() is not None


@pytest.mark.timed
def test_an_interrupted_exec_lets_the_command_end_and_then_stops_the_server(folder: Path) -> None:
    command = "trap 'echo ended; exit 3' INT; echo up; while :; do sleep 0.05; done"
    with subprocess.Popen(
        command_line(folder, "exec", "--", "sh", "-c", command),
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "up\n"
        with Stopwatch() as taken:
            os.killpg(process.pid, signal.SIGINT)
            assert process.stdout.readline() == "ended\n"
            assert process.wait(BOUND_S) == 3
        assert in_time(taken, 5)
    assert devstack.PostgresServer(folder / "postgres").running_pid() is None
