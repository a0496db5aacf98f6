"""`make test-attacks`, within the full tier: every attack holds. p99 is not judged, since others
may use the machine.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

pytestmark = [pytest.mark.processes, pytest.mark.full, pytest.mark.timeout(900)]


def test_every_attack_holds() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.attacks", "--errors-only"],
        cwd=ROOT,
        check=False,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    print(done.stdout)
    assert done.returncode == 0, done.stdout
