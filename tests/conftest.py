"""Gives tests a real PostgreSQL: one throwaway server a session, one fresh database a test.

Nothing survives a session: the server ends with the process, and what a killed session left behind
is removed by the next one.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from servicekit import binaries
from servicekit.devstack import PostgresServer
from tests.sizes import SIZE

pytest_plugins = ["tests.tiers"]

# Servers are started as children by a process that already runs gRPC, whose own handling of forks
# can crash them.
os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")
# Else sentry_sdk asks git for it.
os.environ.setdefault("SENTRY_RELEASE", "tests")
# Tests that run make must not hand it the options of the make that runs them.
for _name in ("ARGS", "MAKEFLAGS", "MAKELEVEL", "MFLAGS"):
    os.environ.pop(_name, None)

# How long an example takes says how busy the machine is. A run at full size looks for new examples;
# any other tries the same ones each time, so that it fails for what has changed alone.
settings.register_profile(
    "tests",
    deadline=None,
    derandomize=SIZE != "full",
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("tests")

ROOT = Path(__file__).resolve().parent.parent
PREFIX = "farehold-test-"
# A copy of a database is a thousand small files: in memory it takes a tenth of the time.
IN_MEMORY = Path("/dev/shm")
IN_MEMORY_BYTES = 4 << 30
_names = count(1)


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """A running server without fsync, at least 200 connections, pg_stat_statements loaded."""
    _remove_stale()
    base = Path(tempfile.mkdtemp(prefix=f"{PREFIX}{os.getpid()}-", dir=_roomiest()))
    # The server's account must pass through; what lies inside is closed to everybody else.
    base.chmod(0o711)
    server = PostgresServer(base / "data", durable=False)
    try:
        server.start()
        yield server
    finally:
        server.stop()
        _remove(base)


@pytest.fixture(scope="session")
def booking_template(postgres: PostgresServer) -> str:
    """The name of a database with every file of migrations/booking applied; do not connect."""
    return _template(postgres, "booking")


@pytest.fixture(scope="session")
def metrics_template(postgres: PostgresServer) -> str:
    """The name of a database with every file of migrations/metrics applied; do not connect."""
    return _template(postgres, "metrics")


@pytest.fixture
def empty_dsn(postgres: PostgresServer) -> Iterator[str]:
    """The URL of a database of the test's own without any table."""
    yield from _database(postgres, None)


@pytest.fixture
def booking_dsn(postgres: PostgresServer, booking_template: str) -> Iterator[str]:
    """The URL of a migrated booking database of the test's own."""
    yield from _database(postgres, booking_template)


@pytest.fixture
def metrics_dsn(postgres: PostgresServer, metrics_template: str) -> Iterator[str]:
    """The URL of a migrated metrics database of the test's own."""
    yield from _database(postgres, metrics_template)


def _template(postgres: PostgresServer, service: str) -> str:
    name = f"template_{service}"
    postgres.create_database(name)
    postgres.migrate(name, ROOT / "migrations" / service)
    return name


def _database(postgres: PostgresServer, template: str | None) -> Iterator[str]:
    name = f"test_{next(_names)}"
    yield postgres.create_database(name, template=template)
    postgres.drop_database(name)


def _roomiest() -> Path:
    """Memory where the machine has enough of it, else the folder for temporary files."""
    if IN_MEMORY.is_dir() and shutil.disk_usage(IN_MEMORY).free >= IN_MEMORY_BYTES:
        return IN_MEMORY
    return Path(tempfile.gettempdir())


def _remove_stale() -> None:
    for folder in (IN_MEMORY, Path(tempfile.gettempdir())):
        for base in folder.glob(f"{PREFIX}*"):
            owner = base.name.removeprefix(PREFIX).split("-")[0]
            if owner.isdecimal() and not _alive(int(owner)):
                _remove(base)


def _remove(base: Path) -> None:
    binaries.remove_home(base / "data")
    # Whatever else a killed session left in it; sessions that begin at once do this side by side.
    shutil.rmtree(base, ignore_errors=True)


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
