"""Tests run in the order of their tiers, and one that does more than its marks allow fails."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

CONFTEST = """
import os
from types import SimpleNamespace
import pytest

pytest_plugins = ["tests.tiers"]

@pytest.fixture(scope="session")
def postgres():
    return SimpleNamespace(port=1)

@pytest.fixture
def database(postgres):
    return postgres

def pytest_runtest_setup(item):
    with open("begun", "a") as begun:
        begun.write(f"{item.name}\\n")
"""
# By their names and places, the last tier would be the first.
SUITE = {
    "a/test_processes.py": """
import pytest
pytestmark = pytest.mark.processes

@pytest.mark.parametrize("number", range(4))
def test_processes(number, database): ...
""",
    "test_b.py": """
import pytest

@pytest.mark.parametrize("number", range(4))
def test_db(number, database): ...

@pytest.mark.parametrize("number", range(4))
def test_pure(number): ...
""",
    "test_c.py": """
import pytest

@pytest.mark.parametrize("number", range(4))
def test_pure(number): ...
""",
}
TIERS = ["pure", "db", "processes"]
SETTINGS = """
[pytest]
addopts = --strict-markers
filterwarnings = error
asyncio_default_fixture_loop_scope = function
"""

pytestmark = pytest.mark.processes


def run(folder: Path, *options: str) -> str:
    """What pytest says of the tests in `folder`, which it runs with the plugin of the tiers."""
    (folder / "conftest.py").write_text(CONFTEST)
    (folder / "pytest.ini").write_text(SETTINGS)
    environ = {name: each for name, each in os.environ.items() if not name.startswith("PYTEST")}
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--tb=short", *options],
        cwd=folder,
        env=environ | {"PYTHONPATH": str(ROOT), "COLUMNS": "200"},
        check=False,
        capture_output=True,
        text=True,
    )
    return done.stdout + done.stderr


def write_suite(folder: Path) -> None:
    for name, text in SUITE.items():
        path = folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)


def begun(folder: Path) -> list[int]:
    """The tiers of the tests in the order in which they began."""
    names = (folder / "begun").read_text().splitlines()
    return [TIERS.index(name.removeprefix("test_").partition("[")[0]) for name in names]


def test_one_process_runs_a_tier_after_the_other(tmp_path: Path) -> None:
    write_suite(tmp_path)
    said = run(tmp_path, "-p", "no:xdist")
    assert "16 passed" in said, said
    assert begun(tmp_path) == [0] * 8 + [1] * 4 + [2] * 4


def test_several_processes_do_so_but_for_what_a_process_was_given_already(tmp_path: Path) -> None:
    write_suite(tmp_path)
    said = run(tmp_path, *options_of_make(), "--numprocesses=2")
    assert "16 passed" in said, said
    order = begun(tmp_path)
    assert sorted(order) == [0] * 8 + [1] * 4 + [2] * 4
    # Each process is given two tests at once: those of the other may begin late.
    overtaken = [sum(later < tier for later in order[n:]) for n, tier in enumerate(order)]
    assert max(overtaken) <= 2, order


def options_of_make() -> list[str]:
    """How `make test` distributes the tests."""
    (options,) = re.findall(r"^IN_ORDER := (.*)$", (ROOT / "Makefile").read_text(), re.M)
    return str(options).split()


REFUSED = {
    "def test(): subprocess.run(['true'])": "starts true and is not marked `processes`",
    "def test(): os.system('true')": "starts true and is not marked `processes`",
    "def test(): os.waitpid(os.fork() or os._exit(0), 0)": "starts os.fork and is not marked `proc",
    "def test(database): subprocess.run(['true'])": "starts true and is not marked `processes`",
    "def test(): subprocess.run(['./psql'])": "starts psql and is not marked `db`",
    "def test(program): ...": "starts true and is not marked `processes`",
    "@pytest.mark.processes\ndef test(): connect(1)": "connects to a database and is not marked",
}
ALLOWED = (
    "@pytest.mark.processes\ndef test(): subprocess.run(['true'])",
    "def test(database): subprocess.run(['./psql'])",
    "def test(database): connect(1)",
    "def test(): connect(2)",
    "@pytest.mark.processes\ndef test(program): ...",
)
GUARDED = """
import os, socket, subprocess
import pytest

def connect(port):
    with socket.socket() as side:
        side.connect_ex(("127.0.0.1", port))

@pytest.fixture
def program():
    subprocess.run(["true"])

"""


def test_what_the_marks_do_not_allow_fails_the_test_that_does_it(tmp_path: Path) -> None:
    (tmp_path / "psql").symlink_to("/bin/true")
    for number, test in enumerate([*REFUSED, *ALLOWED]):
        (tmp_path / f"test_{number}.py").write_text(GUARDED + test)
    said = run(tmp_path, "-p", "no:xdist", "-rA")
    results = {
        int(number): (result, why)
        for result, number, why in re.findall(r"^([A-Z]+) test_(\d+)\.py::test(.*)$", said, re.M)
    }
    assert len(results) == len(REFUSED) + len(ALLOWED), said
    for number, refusal in enumerate(REFUSED.values()):
        assert results[number][0] in ("FAILED", "ERROR"), said
        assert f"the test {refusal}" in results[number][1], said
    assert {results[number][0] for number in range(len(REFUSED), len(results))} == {"PASSED"}, said
