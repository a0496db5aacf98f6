"""Provides a real PostgreSQL: one throwaway server per session, one new database per test.

Nothing survives a session: the server ends with its process, and the next session removes the files
that a killed session left.
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

# Servers are started as children of a process that already runs gRPC, whose handling of forks can
# crash them.
os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")
# Without it sentry_sdk runs git to find one.
os.environ.setdefault("SENTRY_RELEASE", "tests")
# Tests that run make must not hand it the options of the make that runs them.
for _name in ("ARGS", "MAKEFLAGS", "MAKELEVEL", "MFLAGS"):
    os.environ.pop(_name, None)

# No deadline: the time of an example depends on the load of the machine. A run at full size tries
# new examples; any other tries the same ones each time, so that only a change can make it fail.
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
# A copy of a database is a thousand small files; in memory it takes a tenth of the time.
IN_MEMORY = Path("/dev/shm")
IN_MEMORY_BYTES = 4 << 30
_names = count(1)


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """A running server without fsync, at least 200 connections, pg_stat_statements loaded."""
    _remove_stale()
    base = Path(tempfile.mkdtemp(prefix=f"{PREFIX}{os.getpid()}-", dir=_base_folder()))
    # The server's account must be able to enter; the folders inside are closed to other accounts.
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
    """The name of a template with all migrations of booking_service: do not connect to it."""
    return _template(postgres, "booking")


@pytest.fixture(scope="session")
def metrics_template(postgres: PostgresServer) -> str:
    """The name of a template with all migrations of metrics_service: do not connect to it."""
    return _template(postgres, "metrics")


@pytest.fixture
def empty_dsn(postgres: PostgresServer) -> Iterator[str]:
    """The URL of a new database without tables."""
    yield from _database(postgres, None)


@pytest.fixture
def booking_dsn(postgres: PostgresServer, booking_template: str) -> Iterator[str]:
    """The URL of a new migrated booking database."""
    yield from _database(postgres, booking_template)


@pytest.fixture
def metrics_dsn(postgres: PostgresServer, metrics_template: str) -> Iterator[str]:
    """The URL of a new migrated metrics database."""
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


def _base_folder() -> Path:
    """Memory if the machine has enough of it, else the folder for temporary files."""
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
    # Several sessions that begin at once may remove the same folder.
    shutil.rmtree(base, ignore_errors=True)


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
