"""`make test-attacks`, within the full tier: every attack holds. On a machine that may be slow, p99
is not judged.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.sizes import SLOWNESS

ROOT = Path(__file__).resolve().parents[2]

pytestmark = [pytest.mark.processes, pytest.mark.full, pytest.mark.timeout(900)]


def test_every_attack_holds() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.attacks", *(["--errors-only"] if SLOWNESS > 1 else [])],
        cwd=ROOT,
        check=False,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    print(done.stdout)
    assert done.returncode == 0, done.stdout
