"""Sorts tests into tiers by what they use, and fails a test that uses more than its tier may.

Pure tests run first, then those marked `db`, which use the PostgreSQL server of the session, then
those marked `processes`, which start programs. `db` is set here, from the fixtures of a test;
`processes` is set in the test files.
"""

from __future__ import annotations

import sys
from collections.abc import Generator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import pytest

MARKERS: Final = {
    "db": "uses the PostgreSQL server of the session",
    "processes": "starts programs, such as a service or a PostgreSQL server",
    "full": "takes longer or needs more than `make test` may: for `make test-full`",
    "timed": "judges seconds where TEST_SIZE is set, as `make test-full` sets it",
}
SERVER_FIXTURE: Final = "postgres"
# What the fixtures of databases run.
DATABASE_PROGRAMS: Final = frozenset({"dbmate", "psql"})
_STARTS: Final = frozenset(
    {
        "subprocess.Popen",
        "os.exec",
        "os.fork",
        "os.forkpty",
        "os.posix_spawn",
        "os.system",
    }
)


@dataclass(slots=True)
class Guard:
    """Knows which test runs now, and what it did that its marks do not allow."""

    # None outside of tests, where everything is allowed.
    marks: frozenset[str] | None = None
    refused: list[str] = field(default_factory=list)
    # Of servers that outlive the test that started them.
    database_ports: set[int] = field(default_factory=set)

    def audit(self, event: str, arguments: tuple[Any, ...]) -> None:
        """Note what the running test must not do; called as `sys.addaudithook` says."""
        if self.marks is None:
            return
        if event in _STARTS and "processes" not in self.marks:
            # A fork has no arguments.
            program = Path(_text(arguments[0])).name if arguments else event
            if program not in DATABASE_PROGRAMS:
                self._refuse(f"starts {program}", "processes")
            elif "db" not in self.marks:
                self._refuse(f"starts {program}", "db")
        elif event == "socket.connect" and "db" not in self.marks:
            address = arguments[1]
            if isinstance(address, tuple) and address[1] in self.database_ports:
                self._refuse("connects to a database", "db")

    def _refuse(self, act: str, mark: str) -> None:
        self.refused.append(f"the test {act} and is not marked `{mark}`")

    def check(self) -> None:
        """Fail for what was noted."""
        # Not where it is done: a fixture of the session would be broken for all tests.
        if self.refused:
            pytest.fail(self.refused[0], pytrace=False)


GUARD: Final = Guard()


def pytest_configure(config: pytest.Config) -> None:
    for name, meaning in MARKERS.items():
        config.addinivalue_line("markers", f"{name}: {meaning}")
    sys.addaudithook(GUARD.audit)


# Before tests are chosen by marks.
@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if SERVER_FIXTURE in getattr(item, "fixturenames", ()):
            item.add_marker("db")
    items.sort(key=_tier)


@pytest.hookimpl(wrapper=True)
def pytest_fixture_setup(fixturedef: pytest.FixtureDef[Any]) -> Generator[None, Any, Any]:
    if fixturedef.argname != SERVER_FIXTURE:
        return (yield)
    # Started within the first test that needs it, for all.
    marks, GUARD.marks = GUARD.marks, None
    try:
        server = yield
    finally:
        GUARD.marks = marks
    GUARD.database_ports.add(server.port)
    return server


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    GUARD.marks = frozenset(mark.name for mark in item.iter_markers())
    GUARD.refused.clear()
    try:
        return (yield)
    finally:
        GUARD.marks = None


@pytest.hookimpl(wrapper=True)
def pytest_runtest_setup() -> Generator[None, None, None]:
    yield
    GUARD.check()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call() -> Generator[None, None, None]:
    yield
    GUARD.check()


def _tier(item: pytest.Item) -> int:
    if item.get_closest_marker("processes"):
        return 2
    return 1 if item.get_closest_marker("db") else 0


def _text(argument: object) -> str:
    return argument.decode() if isinstance(argument, bytes) else str(argument)
