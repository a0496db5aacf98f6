"""The targets that run a part of the tests run what belongs to it, and all of that."""

from __future__ import annotations

import os
import re
import subprocess
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
TIMED_OR_JUDGED = re.compile(
    r"^from (metrics_service\.client\.(tracked|health|inspector|normalise|statements)"
    r"|metrics_service\.alerts|booking_service\.(probe|health))\b",
    re.MULTILINE,
)
# Timing is their means, not what they are about.
OTHERS = {"tests/booking/storage/test_database.py"}

# What a make leaves to the makes below it.
OF_MAKE = {"MAKEFLAGS", "MFLAGS", "MAKELEVEL", "ARGS"}


@cache
def named(target: str) -> tuple[frozenset[str], frozenset[str]]:
    """The files and folders that a target runs and those it leaves out, without running it."""
    # Not with the options of the make that runs the tests.
    environ = {name: value for name, value in os.environ.items() if name not in OF_MAKE}
    done = subprocess.run(
        ["make", "-n", target], cwd=ROOT, env=environ, check=True, capture_output=True, text=True
    )
    ignored = frozenset(re.findall(r"--ignore (tests/\S+)", done.stdout))
    return frozenset(re.findall(r"(?<!--ignore )\btests/\S+", done.stdout)), ignored


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
