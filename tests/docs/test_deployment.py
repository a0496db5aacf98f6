"""docs/deployment.md: every line of it is carried out on a real pair, and ends as it says."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from metrics_service.alerts.rules.load import shipped
from servicekit import binaries
from tests.docs.snippet_runner import put_on_sale, until
from tests.docs.snippets import ROOT, blocks_of
from tests.pair.real_pair import Pair, first_rows

pytestmark = [pytest.mark.processes, pytest.mark.full, pytest.mark.timeout(300)]

DOCUMENT: Final = "docs/deployment.md"
ROWS: Final = 40
COMMAND_TIMEOUT_S: Final = 120.0
STATUS: Final = re.compile(r"\s+# ([0-4]) [^#]*$")


@pytest.fixture
def pair(booking_dsn: str, metrics_dsn: str, tmp_path: Path) -> Iterator[Pair]:
    made = Pair(booking_dsn, metrics_dsn, tmp_path)
    rules = tmp_path / "rules.toml"
    rules.write_bytes(shipped())
    programs = f"{Path(sys.executable).parent}:{binaries.program('psql').parent}"
    made.environ |= {
        "BOOKING_HTTP_PORT": str(binaries.free_port()),
        "METRICS_ALERT_RULES": str(rules),
        "BOOKINGS": str(first_rows(tmp_path, ROWS)),
        "VERSION": "v7",
        "PATH": f"{programs}:{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
    }
    try:
        yield made
    finally:
        made.stop()


def well(pair: Pair) -> bool:
    """Whether all is well again after a start, which takes seconds: all have heard each other, and
    the rules were judged.
    """
    ended = subprocess.run(
        ["bash", "-c", "farehold doctor"],
        env=pair.environ,
        capture_output=True,
        timeout=COMMAND_TIMEOUT_S,
        check=False,
    )
    return ended.returncode == 0


def test_the_checklist_is_carried_out(pair: Pair, tmp_path: Path) -> None:
    done = 0
    for block in blocks_of(DOCUMENT):
        for line in block.text.splitlines():
            act, _, what = line.removeprefix("# ").partition(" ")
            if act == "stop":
                pair.stop_one(what)
            elif act == "start":
                pair.start(what)
                if what == "booking_service":
                    until(lambda: well(pair))
                    if not done:
                        put_on_sale(pair)
            else:
                shell(line, pair, tmp_path)
                done += 1
    assert done > 30


def shell(line: str, pair: Pair, folder: Path) -> None:
    expected = STATUS.search(line)
    ended = subprocess.run(
        ["bash", "-c", line],
        cwd=folder,
        env=pair.environ,
        capture_output=True,
        text=True,
        timeout=COMMAND_TIMEOUT_S,
        check=False,
    )
    said = f"{line}\n{ended.stdout}{ended.stderr}"
    assert ended.returncode == (int(expected[1]) if expected else 0), said
