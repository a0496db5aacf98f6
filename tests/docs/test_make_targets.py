"""Every target that runs a part of the tests runs all that belongs to it, and nothing else."""

from __future__ import annotations

import re
import subprocess
from functools import cache
from pathlib import Path

import pytest

from tests.tiers import MARKERS

ROOT = Path(__file__).resolve().parents[2]
TIMED_OR_JUDGED = re.compile(
    r"^from (metrics_service\.(client\.(tracked|health|inspector|queries)|alerts|health)"
    r"|booking_service\.monitoring)\b",
    re.MULTILINE,
)
# Timing is their means, not what they are about.
OTHERS = {
    "tests/attacks/test_deep.py",
    "tests/booking/group_commit/test_query_counts.py",
    "tests/booking/storage/test_database.py",
    "tests/docs/test_deployment.py",
    "tests/docs/test_metrics_page.py",
    "tests/docs/test_names.py",
    "tests/docs/test_tracking_guide.py",
    "tests/metrics/cli/test_ask.py",
    "tests/metrics/rpc/test_worst_requests.py",
    "tests/metrics/web/scrape/test_suppressed.py",
    "tests/metrics/web/test_live.py",
    "tests/pair/test_lane_forks.py",
    "tests/pair/test_poolers.py",
    "tests/servicekit/test_faults.py",
}
SELECTION = re.compile(r" -[mk] (\"[^\"]*\"|\S+)")


pytestmark = pytest.mark.processes


@cache
def command_of(target: str) -> str:
    """The command of a target, without running it."""
    done = subprocess.run(
        ["make", "-n", target], cwd=ROOT, check=True, capture_output=True, text=True
    )
    # Before it come those that install what development needs, where that has changed.
    return done.stdout.splitlines()[-1]


def named(target: str) -> tuple[frozenset[str], frozenset[str]]:
    """The files and folders that a target runs and those it leaves out."""
    command = command_of(target)
    ignored = frozenset(re.findall(r"--ignore (tests/\S+)", command))
    return frozenset(re.findall(r"(?<!--ignore )\btests/\S+", command)), ignored


def targets_of_tests() -> list[str]:
    """Every target that runs tests."""
    return re.findall(r"^(test[a-z-]*):", (ROOT / "Makefile").read_text(), re.MULTILINE)


def files_below(names: frozenset[str]) -> set[str]:
    """The test files that lie at or below these names."""
    found = {path for name in names for path in [ROOT / name, *(ROOT / name).rglob("test_*.py")]}
    return {str(path.relative_to(ROOT)) for path in found if path.suffix == ".py"}


def selected(target: str) -> set[str]:
    run, ignored = named(target)
    return files_below(run) - files_below(ignored)


@pytest.mark.parametrize(
    "target", ["test-db-performance", "test-db-monitor", "test-booking-metrics"]
)
def test_target_names_what_exists(target: str) -> None:
    run, ignored = named(target)
    assert run
    assert [name for name in run | ignored if not (ROOT / name).exists()] == []


@pytest.mark.parametrize("target", targets_of_tests())
def test_targets_select_by_paths_and_marks(target: str) -> None:
    command = command_of(target)
    assert not set("*?[") & set(command)
    for expression in SELECTION.findall(command):
        words = set(re.findall(r"\w+", expression))
        assert words <= {"and", "not", "pytest", "tests", "full_tier", "attacks", *MARKERS}, (
            expression
        )


def test_a_word_is_no_selection() -> None:
    assert SELECTION.findall('pytest tests -k "health and not slow" -m db') == [
        '"health and not slow"',
        "db",
    ]


def test_monitoring_has_every_test_of_what_times_queries_and_judges_health() -> None:
    about = {
        str(path.relative_to(ROOT))
        for path in (ROOT / "tests").rglob("test_*.py")
        if TIMED_OR_JUDGED.search(path.read_text())
    }
    assert len(about) > 10
    assert about - selected("test-db-monitor") - OTHERS == set()


def test_metrics_have_every_test_of_the_state_that_monitoring_has_not() -> None:
    of_state = files_below(frozenset({"tests/metrics/state"}))
    assert len(of_state) > 10
    assert selected("test-booking-metrics") & selected("test-db-monitor") == set()
    assert of_state <= selected("test-booking-metrics") | selected("test-db-monitor")
    for word in ("query", "queries", "health", "tracking"):
        assert not [name for name in selected("test-booking-metrics") if word in name]
