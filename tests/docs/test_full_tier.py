"""The full tier keeps its budgets, and what it needs is installed by .ci/setup."""

from __future__ import annotations

import re
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests import full_tier, requires
from tests.full_tier import Group

ROOT = Path(__file__).resolve().parents[2]
# Those of the embedded PostgreSQL are there already.
ASKED = re.compile(r"(?<!binaries\.)\bprogram\(\s*\"([\w.-]+)\"")
# Tests of the helper itself, which ask for what is and what is not there.
OWN = Path(__file__)

FAILS = "def test(): assert False"
PASSES = """
import os

def test():
    assert os.environ["TEST_SIZE"] == "middle"
    assert os.environ["TEST_SLOWNESS"] == "2"
"""
HANGS = """
import time
import pytest

@pytest.fixture
def server():
    yield
    open(f"{__file__}.stopped", "w").close()

def test(server):
    open(f"{__file__}.started", "w").close()
    time.sleep(600)
"""


def test_the_budgets_are_within_25_minutes() -> None:
    assert sum(group.budget_s for group in full_tier.GROUPS) <= full_tier.MAX_BUDGET_S == 1500


def test_every_group_has_its_folder_and_its_line_of_help() -> None:
    paths = [each for group in full_tier.GROUPS for each in group.arguments if "tests/" in each]
    assert len(paths) > 5
    assert [path for path in paths if not (ROOT / path.removeprefix("--ignore=")).exists()] == []


@pytest.fixture
def group(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, int], Group]:
    """Makes a group of one file."""
    monkeypatch.delenv("TEST_SIZE", raising=False)
    monkeypatch.delenv("TEST_SLOWNESS", raising=False)

    def made(text: str, budget_s: int) -> Group:
        (tmp_path / "test_one.py").write_text(text)
        (tmp_path / "pytest.ini").write_text("[pytest]\n")
        return Group("one", budget_s, ("-c", str(tmp_path / "pytest.ini"), str(tmp_path)))

    return made


@pytest.mark.processes
@pytest.mark.parametrize(("text", "passed"), [(PASSES, True), (FAILS, False)])
def test_a_group_passes_when_its_tests_do(
    group: Callable[[str, int], Group], text: str, passed: bool
) -> None:
    assert full_tier.run(group(text, 60), slowness=2).passed is passed


@pytest.mark.processes
def test_a_group_is_interrupted_at_the_end_of_its_budget(
    group: Callable[[str, int], Group], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    budgets_s: list[float] = []

    class Patient(subprocess.Popen[bytes]):
        """Its budget ends when its test has begun, and no sooner."""

        def wait(self, timeout: float | None = None) -> int:
            if not budgets_s and timeout is not None:
                budgets_s.append(timeout)
                while not (tmp_path / "test_one.py.started").exists():
                    time.sleep(0.01)
                raise subprocess.TimeoutExpired("pytest", timeout)
            return super().wait(timeout)

    monkeypatch.setattr(subprocess, "Popen", Patient)
    outcome = full_tier.run(group(HANGS, 7), slowness=3)
    assert budgets_s == [outcome.budget_s] == [21]
    assert not outcome.passed
    assert str(outcome).endswith("FAILED: interrupted at the end of its budget")
    # What it had started was taken down.
    assert (tmp_path / "test_one.py.stopped").exists()


def test_an_unknown_group_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        full_tier.main(["nonsense"])
    assert ended.value.code == 2
    assert "no group is named nonsense" in capsys.readouterr().err


def test_a_program_that_is_there_is_found() -> None:
    assert Path(requires.program("sh")).exists()


def test_an_absent_program_is_a_skip_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CI", raising=False)
    with pytest.raises(pytest.skip.Exception, match="no-such-program is not installed"):
        requires.program("no-such-program")


def test_an_absent_program_is_a_failure_in_ci(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CI", "true")
    with pytest.raises(
        pytest.fail.Exception, match=r"no-such-program is not installed; \.ci/setup"
    ):
        requires.program("no-such-program")


def listed() -> set[str]:
    """The programs of .ci/packages."""
    lines = (ROOT / ".ci/packages").read_text().splitlines()
    return {line.split()[0] for line in lines if line and not line.startswith("#")}


def test_every_program_that_a_test_asks_for_is_installed_by_setup() -> None:
    files = [path for path in (ROOT / "tests").rglob("*.py") if path != OWN]
    asked = {name for path in files for name in ASKED.findall(path.read_text())}
    assert asked == listed()


@pytest.mark.processes
@pytest.mark.parametrize(
    ("packages", "status", "said"),
    [
        ("# nothing\n", 0, "nothing is missing"),
        ("sh dash\n", 0, "nothing is missing"),
        ("sh dash\nno-such-program no-such-package\n", 0, "installing no-such-package"),
    ],
)
def test_setup_installs_what_is_missing_and_nothing_else(
    tmp_path: Path, packages: str, status: int, said: str
) -> None:
    (tmp_path / "packages").write_text(packages)
    (tmp_path / "setup").write_bytes((ROOT / ".ci/setup").read_bytes())
    for name, text in {"apt-get": 'echo "apt-get $*" >> called', "id": "echo 0"}.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{text}\n")
        (tmp_path / name).chmod(0o755)
    done = subprocess.run(
        ["bash", str(tmp_path / "setup")],
        cwd=tmp_path,
        env={"PATH": f"{tmp_path}:/usr/bin:/bin"},
        check=False,
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stderr) == (status, "")
    assert said in done.stdout
    called = tmp_path / "called"
    assert called.exists() is ("installing" in said)
    if called.exists():
        assert called.read_text().splitlines()[-1].endswith("no-such-package")


@pytest.mark.processes
def test_setup_without_root_names_what_to_install(tmp_path: Path) -> None:
    (tmp_path / "packages").write_text("no-such-program no-such-package\n")
    (tmp_path / "setup").write_bytes((ROOT / ".ci/setup").read_bytes())
    (tmp_path / "id").write_text("#!/bin/sh\necho 1000\n")
    (tmp_path / "id").chmod(0o755)
    done = subprocess.run(
        ["bash", str(tmp_path / "setup")],
        env={"PATH": f"{tmp_path}:/usr/bin:/bin"},
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    assert "as root: apt-get install --no-install-recommends no-such-package" in done.stderr
