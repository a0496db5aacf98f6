"""The run command brings up the whole pair, replays, and leaves nothing behind on Ctrl-C."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

from servicekit import binaries
from servicekit.devstack import PostgresServer
from tests.allowance import Stopwatch, in_time
from tests.pair.real_pair import ROOT, first_rows, serves

END_TIMEOUT_S = 5.0
pytestmark = [pytest.mark.processes, pytest.mark.timeout(180)]


class Run:
    """One `python -m booking_service.demo run` and what it says; ended with the block."""

    def __init__(self, folder: Path, *options: str, **environ: str) -> None:
        names = ("BOOKING", "BOOKING_HTTP", "METRICS", "METRICS_HTTP")
        ports = {name: binaries.free_port() for name in names}
        self.booking = f"127.0.0.1:{ports['BOOKING']}"
        self.scraped = [f"127.0.0.1:{ports[name]}" for name in ("BOOKING_HTTP", "METRICS_HTTP")]
        clean = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("BOOKING_", "METRICS_", "DATABASE_URL"))
        }
        own = {f"{name}_PORT": str(port) for name, port in ports.items()}
        self._output = folder / "run.txt"
        self._errors = folder / "run-errors.txt"
        with self._output.open("wb") as output, self._errors.open("wb") as errors:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "booking_service.demo", "run", *options],
                cwd=ROOT,
                env=clean | own | environ,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=errors,
                preexec_fn=binaries.end_with_parent,
            )

    def __enter__(self) -> Run:
        return self

    def __exit__(self, *_: object) -> None:
        # Its children go with it, whatever the test did.
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()

    @property
    def output(self) -> str:
        return self._output.read_text()

    @property
    def errors(self) -> str:
        return self._errors.read_text()

    def wait_for(self, text: str, timeout_s: float = 90.0) -> None:
        give_up = time.monotonic() + timeout_s
        while text not in self.output:
            assert self.process.poll() is None, self.output + self.errors
            assert time.monotonic() < give_up, f"{text!r} is not in {self.output}"
            time.sleep(0.02)

    def children(self) -> list[int]:
        path = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        return [int(pid) for pid in path.read_text().split()]

    def interrupt(self) -> None:
        """Ctrl-C; asserts a clean end of the process and all its children within 5 s."""
        children = self.children()
        with Stopwatch() as passed:
            self.process.send_signal(signal.SIGINT)
            status = self.process.wait(60)
        assert status == 0, self.output + self.errors
        assert in_time(passed, END_TIMEOUT_S)
        assert self.errors == ""
        assert children
        assert [pid for pid in children if _alive(pid)] == []


@pytest.mark.timed
def test_bare_folder_to_equal_figures_and_a_second_run_from_there(tmp_path: Path) -> None:
    data = tmp_path / "data"
    options = ("--file", str(first_rows(tmp_path, 60)), "--speed", "0", "--data", str(data))
    try:
        with Run(tmp_path, *options) as first:
            first.wait_for("Three things to try")
            assert serves(first.booking)
            page = re.search(r"The page: (http://\S+)", first.output.partition("Serving:")[0])
            assert page is not None
            with urllib.request.urlopen(page[1], timeout=10) as answer:
                assert b"<title>Farehold</title>" in answer.read()
            for address in first.scraped:
                with urllib.request.urlopen(f"http://{address}/metrics", timeout=10) as answer:
                    assert b"farehold_build_info{" in answer.read()
            first.wait_for("All figures are equal.")
            assert "60 bookings, 0 of them already there" in first.output
            first.interrupt()
        assert PostgresServer(data / "postgres").running_pid() is None

        with Run(tmp_path, *options) as second:
            second.wait_for("All figures are equal.")
            assert "60 bookings, 60 of them already there" in second.output
            second.interrupt()
    finally:
        binaries.remove_home(data / "postgres")


@pytest.mark.timed
def test_ctrl_c_in_the_middle_leaves_no_process_and_no_connection(
    postgres: PostgresServer, booking_dsn: str, metrics_dsn: str, tmp_path: Path
) -> None:
    with Run(
        tmp_path,
        *("--file", str(first_rows(tmp_path, 200)), "--speed", "10"),
        *("--data", str(tmp_path / "data")),
        BOOKING_DATABASE_URL=booking_dsn,
        METRICS_DATABASE_URL=metrics_dsn,
    ) as run:
        run.wait_for(" days")
        run.interrupt()
        assert "All figures" not in run.output
    names = [dsn.rpartition("/")[2].partition("?")[0] for dsn in (booking_dsn, metrics_dsn)]
    listed = ", ".join(f"'{name}'" for name in names)
    query = (
        "SELECT count(*) FROM pg_stat_activity "
        f"WHERE datname IN ({listed}) AND backend_type = 'client backend'"
    )
    # A server process ends when it has read that its client is gone.
    give_up = time.monotonic() + 10
    while (left := postgres.psql("postgres", query)) != "0":
        assert time.monotonic() < give_up, left


def test_taken_port_is_one_line_and_ends_what_was_started(
    booking_dsn: str, metrics_dsn: str, tmp_path: Path
) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        with Run(
            tmp_path,
            *("--file", str(first_rows(tmp_path, 5)), "--data", str(tmp_path / "data")),
            BOOKING_DATABASE_URL=booking_dsn,
            METRICS_DATABASE_URL=metrics_dsn,
            BOOKING_PORT=port,
        ) as run:
            assert run.process.wait(60) == 1
    (line,) = run.errors.splitlines()
    assert port in line
    assert "Traceback" not in line


@pytest.mark.parametrize(
    ("environ", "content", "says"),
    [
        ({}, "hotel,adr\n", "missing columns: lead_time"),
        ({"METRICS_PORT": "many"}, None, "METRICS_PORT is 'many'; it must be a port"),
    ],
)
def test_mistake_is_one_line_before_anything_starts(
    tmp_path: Path, environ: dict[str, str], content: str | None, says: str
) -> None:
    path = first_rows(tmp_path, 5)
    if content is not None:
        path.write_text(content)
    with Run(tmp_path, "--file", str(path), "--data", str(tmp_path / "data"), **environ) as run:
        assert run.process.wait(30) == 1
    (line,) = run.errors.splitlines()
    assert says in line
    assert not (tmp_path / "data").exists()


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
