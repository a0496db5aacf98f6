"""Runs the groups of the full tier one after the other, each within a time of its own.

The budgets are of a machine with two cores that does nothing else.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parent.parent
MAX_BUDGET_S: Final = 25 * 60
# What an interrupted group has to take its servers down.
END_TIMEOUT_S: Final = 30.0


@dataclass(frozen=True, slots=True)
class Group:
    """Tests that run together: the paths and options that pytest takes, and their seconds."""

    name: str
    budget_s: int
    arguments: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a group ended, and what it took."""

    group: Group
    # The exit status; None where the budget ended before the tests.
    status: int | None
    spent_s: float
    budget_s: float

    @property
    def passed(self) -> bool:
        return self.status == 0

    def __str__(self) -> str:
        words = {0: "passed", None: "FAILED: interrupted at the end of its budget"}
        word = words.get(self.status, "FAILED")
        return f"{self.group.name:<10}{self.spent_s:>6.0f} s of {self.budget_s:>5.0f}  {word}"


_FOLDERS: Final = (
    Group("races", 100, ("tests/booking/races",)),
    Group("crash", 60, ("tests/booking/crash",)),
    Group("scripts", 90, ("tests/booking/scripts", "tests/metrics/state/test_refold.py")),
    Group("replay", 190, ("tests/pair/test_replay_totals.py",)),
    Group("attacks", 500, ("tests/attacks",)),
    Group("wheel", 60, ("tests/wheel",)),
    Group("prometheus", 70, ("tests/prometheus",)),
    Group("browser", 120, ("tests/browser",)),
)
# Wherever else tests are marked.
_MARKED: Final = Group(
    "marked",
    310,
    (
        *("tests", "-m", "full or timed"),
        *(f"--ignore={path}" for group in _FOLDERS for path in group.arguments),
    ),
)
GROUPS: Final = (*_FOLDERS, _MARKED)


def run(group: Group, slowness: float) -> Outcome:
    """Run a group to its end or to that of its budget, on a machine so many times slower."""
    budget_s = group.budget_s * slowness
    print(f"== {group.name}: at most {budget_s:.0f} s", flush=True)
    begun_s = time.monotonic()
    # Of the session: later than its end here, which also comes in the middle of a test.
    environ = {"TEST_SIZE": "middle", "TEST_SLOWNESS": str(slowness)} | os.environ
    options = ("-q", "--timeout=900", f"--session-timeout={budget_s + END_TIMEOUT_S}")
    status = _status(
        [sys.executable, "-m", "pytest", *options, *group.arguments], environ, budget_s
    )
    return Outcome(group, status, time.monotonic() - begun_s, budget_s)


def _status(command: Sequence[str], environ: Mapping[str, str], budget_s: float) -> int | None:
    """The exit status of a command; None where it did not end in time and was ended."""
    with subprocess.Popen(command, cwd=ROOT, env=environ) as process:
        try:
            return process.wait(budget_s)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGINT)
        try:
            process.wait(END_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
    return None


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="make test-full", description=__doc__)
    parser.add_argument(
        "--slowness", type=float, default=1.0, help="how many times as long everything may take"
    )
    names = [group.name for group in GROUPS]
    parser.add_argument("groups", nargs="*", help=f"of {', '.join(names)}; all where none is named")
    options = parser.parse_args(arguments)
    if unknown := set(options.groups) - set(names):
        parser.error(f"no group is named {', '.join(sorted(unknown))}")
    chosen = [group for group in GROUPS if group.name in (options.groups or names)]
    outcomes = [run(group, options.slowness) for group in chosen]
    print("", *outcomes, sep="\n")
    return 0 if all(outcome.passed for outcome in outcomes) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
