"""The targets that run a part of the tests run what belongs to it, and all of that."""

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
OTHERS = {"tests/unit/test_booking_db_database.py"}

# What a make leaves to the makes below it.
OF_MAKE = {"MAKEFLAGS", "MFLAGS", "MAKELEVEL", "ARGS"}


@cache
def selected(target: str) -> frozenset[str]:
    """The files and folders that a target names, without running it."""
    # Not with the options of the make that runs the tests.
    environ = {name: value for name, value in os.environ.items() if name not in OF_MAKE}
    done = subprocess.run(
        ["make", "-n", target], cwd=ROOT, env=environ, check=True, capture_output=True, text=True
    )
    return frozenset(re.findall(r"\btests/\S+", done.stdout))


@pytest.mark.parametrize(
    "target", ["test-db-performance", "test-db-monitor", "test-booking-metrics"]
)
def test_target_names_what_exists(target: str) -> None:
    assert selected(target)
    assert [name for name in selected(target) if not (ROOT / name).exists()] == []


def test_monitoring_has_every_test_of_what_times_queries_and_judges_health() -> None:
    about = {
        str(path.relative_to(ROOT))
        for path in (ROOT / "tests").rglob("test_*.py")
        if TIMED_OR_JUDGED.search(path.read_text())
    }
    assert len(about) > 10
    assert about - selected("test-db-monitor") - OTHERS == set()


def test_metrics_have_every_test_of_the_state_that_monitoring_has_not() -> None:
    of_state = {f"tests/unit/{path.name}" for path in (ROOT / "tests/unit").glob("test_state_*.py")}
    assert selected("test-booking-metrics") & selected("test-db-monitor") == frozenset()
    assert of_state <= selected("test-booking-metrics") | selected("test-db-monitor")
    for word in ("query", "queries", "health", "tracking"):
        assert not [name for name in selected("test-booking-metrics") if word in name]
