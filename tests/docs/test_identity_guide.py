"""docs/identity.md: its blocks are run as they are written, in one shell, around a real pair."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from servicekit import binaries
from servicekit.channels import ClientFiles
from tests.docs.snippet_runner import here, until
from tests.docs.snippets import ROOT, blocks_of
from tests.pair.real_pair import Pair, serves

pytestmark = [pytest.mark.processes, pytest.mark.full, pytest.mark.timeout(300)]

BOUND_S = 60.0
STARTED = "service_started"


class Shell:
    """One shell, whose variables and folder go from block to block."""

    def __init__(self, pair: Pair, folder: Path) -> None:
        self._pair = pair
        self._folder = folder
        # The commands run in the folder, and find the packages of this tree.
        programs = f"{Path(sys.executable).parent}:{binaries.program('psql').parent}"
        self._environ = {
            **pair.environ,
            "PATH": f"{programs}:{os.environ['PATH']}",
            "PYTHONPATH": str(ROOT),
        }

    def run(self, block: str) -> str:
        """Run a block; returns what it printed. The services are started where it says so."""
        printed = ""
        for part in re.split(r"^(# start .*)\n", block, flags=re.MULTILINE):
            if part.startswith("# start "):
                self._start(part.removeprefix("# start "))
            elif part:
                printed += self._shell(part)
        return printed

    def _shell(self, text: str) -> str:
        script = f"set -eu\n{here(text, self._pair)}\nenv -0 > environ"
        done = subprocess.run(
            ["bash", "-c", script],
            cwd=self._folder,
            env=self._environ,
            capture_output=True,
            text=True,
            timeout=BOUND_S,
            check=False,
        )
        assert done.returncode == 0, f"{text}\n{done.stdout}\n{done.stderr}"
        pairs = (self._folder / "environ").read_text().split("\0")
        self._environ = dict(each.split("=", 1) for each in pairs if each)
        return done.stdout

    def _start(self, service: str) -> None:
        pair = self._pair
        pair.stop_one(service)
        settings = {
            name: str(self._folder / value)
            if name.startswith(("BOOKING_", "METRICS_")) and (self._folder / value).is_file()
            else value
            for name, value in self._environ.items()
        }
        pair.environ = settings
        tls = self._folder / "tls"
        pair.files = ClientFiles("", tls / "ca.pem", tls / "ops.pem", tls / "ops.key")
        pair.start(service)
        if service == "booking_service":
            until(lambda: serves(pair.metrics, "database", pair.files))


@pytest.fixture
def pair(booking_dsn: str, metrics_dsn: str, tmp_path: Path) -> Iterator[Pair]:
    logs = tmp_path / "logs"
    logs.mkdir()
    made = Pair(booking_dsn, metrics_dsn, logs)
    try:
        yield made
    finally:
        made.stop()


def test_the_page_sets_up_certificates_callers_rotation_and_tokens(
    pair: Pair, tmp_path: Path
) -> None:
    folder = tmp_path / "shop"
    folder.mkdir()
    shell = Shell(pair, folder)
    printed = [shell.run(block.text) for block in blocks_of("docs/identity.md")]
    assert len(printed) == 7
    setup = blocks_of("docs/identity.md")[0].text
    assert sum(1 for line in setup.splitlines() if line.strip()) <= 10
    services, commands, rotation, tokens, trail = printed[2:]
    assert services.count("settings are good") == 2
    assert commands.count('"HEALTHY"') >= 2
    assert '"funnel"' in commands
    assert '"HEALTHY"' in rotation
    assert tokens.count('"HEALTHY"') >= 2
    # Both were started with certificates, and with tokens.
    assert trail.count("STARTED") == 4
    assert trail.count('"spiffe://shop.example/ops": "roles=monitor,ops"') >= 2
    # The booking_service of before has no token, and may try until the new one takes its place.
    started = max(
        line["timestamp"] for line in lines(pair, "booking_service") if line["event"] == STARTED
    )
    refused = [
        line
        for line in lines(pair, "metrics_service")
        if line.get("code") == "UNAUTHENTICATED" and line["timestamp"] > started
    ]
    assert refused == []


def lines(pair: Pair, service: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in pair.log(service).splitlines() if line.startswith("{")]
