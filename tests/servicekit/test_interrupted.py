"""A start that is killed or interrupted at any step leaves a folder from which the next goes on."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from servicekit import binaries, devstack
from servicekit.postgres import PASSWORD_FILE, PostgresServer
from servicekit.start import StartError

pytestmark = pytest.mark.processes

# Each replaces one step of the start by one that kills the process, before or after the real step.
STEPS = {
    "directory made": "after(binaries, 'unfinished_directory')",
    "initdb has written files": "initdb_writes()",
    "initdb has ended": "after(subprocess, 'run', 'initdb')",
    "password file moved": "after(Path, 'rename')",
    "renamed": "after(Path, 'replace')",
    "server up": "after(PostgresServer, '_launch')",
    "extension made": "before(Path, 'touch', postgres.TEMPLATE_FILE)",
    "one database made": "after(PostgresServer, 'create_database')",
}

KILLED = """
import os, signal, subprocess, sys, threading, time
from pathlib import Path
from servicekit import binaries, devstack, postgres
from servicekit.postgres import PostgresServer

folder, number = Path(sys.argv[1]), int(sys.argv[2])

def end():
    # Again, as a person would: a signal that comes just before a sleep does not end it.
    for _ in range(600):
        os.kill(os.getpid(), number)
        time.sleep(0.1)

def after(owner, name, word=""):
    real = getattr(owner, name)
    def step(*args, **kwargs):
        done = real(*args, **kwargs)
        if word in str(args):
            end()
        return done
    setattr(owner, name, step)

def before(owner, name, word):
    real = getattr(owner, name)
    def step(*args, **kwargs):
        if word in str(args):
            end()
        return real(*args, **kwargs)
    setattr(owner, name, step)

def initdb_writes():
    def watch():
        written = False
        while not written:
            time.sleep(0.001)
            home = (folder / "postgres").resolve()
            written = list(home.parent.glob(f"{{home.name}}-unfinished-*/data/PG_VERSION"))
        os.kill(os.getpid(), number)
    threading.Thread(target=watch, daemon=True).start()

{step}
with devstack.sole_user(folder), devstack.databases(folder, {{}}):
    print("it was not ended", flush=True)
"""


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path / "data"
    binaries.remove_home(tmp_path / "data" / "postgres")


@pytest.mark.parametrize(
    ("step", "number"),
    [
        *((step, signal.SIGKILL) for step in STEPS),
        *((step, signal.SIGINT) for step in ("initdb has written files", "server up")),
    ],
)
def test_the_next_start_goes_on(folder: Path, step: str, number: signal.Signals) -> None:
    program = KILLED.format(step=STEPS[step])
    ended = subprocess.run(
        [sys.executable, "-c", program, str(folder), str(int(number))],
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert "it was not ended" not in ended.stdout
    assert ended.returncode == -number, ended.stderr
    # The kernel ends the server of a killed starter; the next start may come before that.
    _wait_ended(folder)
    with devstack.sole_user(folder), devstack.databases(folder, {}):
        server = PostgresServer(folder / "postgres")
        assert server.attach()
        assert {"booking", "metrics"} <= server.databases()
        for name in ("booking", "metrics"):
            assert server.psql(name, "SELECT count(*) > 0 FROM pg_stat_statements") == "t"
    assert sorted(path.name for path in folder.iterdir()) == ["lock", "postgres"]
    # As root it may be a link to a folder elsewhere.
    home = (folder / "postgres").resolve()
    assert not list(home.parent.glob(f"{home.name}{binaries.UNFINISHED}*"))


def test_an_interrupted_removal_leaves_nothing_that_looks_complete(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = folder / "postgres"
    home.mkdir(parents=True)
    (home / PASSWORD_FILE).touch()

    def interrupted(_home: Path) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(binaries, "remove_unfinished", interrupted)
        with pytest.raises(KeyboardInterrupt):
            devstack.remove(folder)
    assert not home.exists()
    devstack.remove(folder)
    assert not folder.exists()


def test_a_directory_of_something_else_is_left_alone(folder: Path) -> None:
    (folder / "postgres").mkdir(parents=True)
    (folder / "postgres" / "letter.txt").touch()
    with pytest.raises(StartError, match=r"neither empty nor a complete .*make clean-data"):
        PostgresServer(folder / "postgres").start()
    assert [path.name for path in (folder / "postgres").iterdir()] == ["letter.txt"]


def test_a_target_beside_a_start_that_is_under_way_is_one_line(folder: Path) -> None:
    with devstack.sole_user(folder):
        done = _exec(folder)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == f"{folder} is in use by process {os.getpid()}: stop it first\n"


def test_a_data_folder_that_cannot_be_used_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    # Nobody, root included, may make a folder in /proc.
    for place in (tmp_path / "file" / "data", Path("/proc/farehold")):
        done = _exec(place)
        assert (done.returncode, done.stdout) == (1, "")
        assert done.stderr.count("\n") == 1
        assert done.stderr.startswith(f"the data folder {place} cannot be used: ")
    # A folder whose lock can be taken, but whose database directory cannot be made.
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "postgres").touch()
    done = _exec(tmp_path / "data")
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert "data/postgres" in done.stderr


def _exec(folder: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "servicekit.devstack", "--data", str(folder), "exec", "true"]
    urls = ("BOOKING_DATABASE_URL", "METRICS_DATABASE_URL", "DATABASE_URL")
    environ = {name: value for name, value in os.environ.items() if name not in urls}
    return subprocess.run(
        command, check=False, capture_output=True, text=True, env=environ, timeout=60
    )


def _wait_ended(folder: Path) -> None:
    program = textwrap.dedent("""
        import sys, time
        from pathlib import Path
        from servicekit.postgres import PostgresServer
        server = PostgresServer(Path(sys.argv[1]))
        while server.running_pid() is not None:
            time.sleep(0.02)
    """)
    command = [sys.executable, "-c", program, str(folder / "postgres")]
    subprocess.run(command, check=True, timeout=60)
    # An initdb whose starter was killed ends, and what it runs, while it still writes.
    home = (folder / "postgres").resolve()
    give_up = time.monotonic() + 60
    while _has_process(f"{home.name}{binaries.UNFINISHED}"):
        assert time.monotonic() < give_up
        time.sleep(0.02)


def _has_process(part: str) -> bool:
    """Whether a process has this in its command line."""
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        # A process may end at any moment.
        with contextlib.suppress(OSError):
            if part.encode() in file.read_bytes():
                return True
    return False
