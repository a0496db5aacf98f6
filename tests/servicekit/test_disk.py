"""A data folder on a full or read-only disk is one line that names the folder and the cause."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from servicekit import binaries
from servicekit.postgres import PostgresServer
from tests.docs.snippets import ROOT
from tests.full_disk import may_mount

pytestmark = pytest.mark.processes

START = "python -m servicekit.devstack --data {data} exec -- true"
MOUNT = "mount -t tmpfs -o size={size},mode=711 tmpfs {place}"
SCENES = {
    "read-only": ("64m,ro", "", "Read-only file system"),
    "too small for a new database": ("8m", "", "No space left on device"),
    "read-only since": ("200m", START + "; mount -o remount,ro {place}", "Read-only file system"),
    "full since": (
        "200m",
        START + "; dd if=/dev/zero of={place}/filler bs=64k 2>/dev/null || true",
        "No space left on device",
    ),
}


@pytest.fixture
def place() -> Iterator[Path]:
    """A folder that the account of the server reaches, unlike those of pytest."""
    folder = Path(tempfile.mkdtemp(prefix="farehold-disk-", dir="/var/tmp"))
    folder.chmod(0o711)
    yield folder
    shutil.rmtree(folder)


def attempt(place: Path, script: str, *around: str) -> subprocess.CompletedProcess[str]:
    """Run a shell script in which {data} is a data folder at a place."""
    text = script.format(data=place / "data", place=place)
    return subprocess.run(
        [*around, "bash", "-c", text.replace("python", sys.executable)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


def is_one_line(done: subprocess.CompletedProcess[str], data: Path, cause: str) -> None:
    assert done.returncode == 1, done.stderr
    [line] = done.stderr.strip().splitlines()
    assert str(data) in line
    assert cause in line


def test_a_place_where_nobody_may_write_is_one_line() -> None:
    place = Path("/sys/farehold")
    done = attempt(place, START)
    assert done.returncode == 1
    [line] = done.stderr.strip().splitlines()
    assert line.startswith(f"the data folder {place}/data cannot be used: {place}")


@pytest.mark.parametrize("scene", SCENES)
def test_a_disk_that_takes_nothing_is_one_line(scene: str, place: Path) -> None:
    size, before, cause = SCENES[scene]
    if may_mount():
        mount = MOUNT.format(size=size, place=place)
        script = f"set -e; {mount}; {before or ':'}; exec {START}"
        is_one_line(attempt(place, script, "unshare", "-m"), place / "data", cause)
    else:
        # No file system of its own: no file may be larger than 1 MB, or any at all.
        limit = "ulimit -f 1024" if "No space" in cause else "ulimit -f 0"
        done = attempt(place, f"{before.split(';')[0] or ':'}; {limit}; exec {START}")
        is_one_line(done, place / "data", "File too large")


def test_the_servers_messages_begin_anew_once_they_are_long(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(binaries, "MAX_MESSAGES_BYTES", 10_000)
    server = PostgresServer(tmp_path / "postgres", durable=False)
    for expected in (True, False):
        server.start()
        server.stop()
        kept = "a line of before" in server.log_path.read_text()
        assert kept is (not expected)
        size = 10_001 if not expected else 9_000
        with server.log_path.open("a") as log:
            log.write("a line of before\n" + "." * size)
    server.start()
    server.stop()
    assert "a line of before" not in server.log_path.read_text()
