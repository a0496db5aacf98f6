"""`--watch` asks again and again: lines elsewhere, one picture in place on a terminal."""

from __future__ import annotations

import asyncio
import contextlib
import csv
import io
import json
import os
import pty
import re
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, Final

import pytest
from typer.testing import CliRunner

from metrics_service.cli import running
from metrics_service.cli.asking import NotReachableError
from metrics_service.cli.commands import app
from protos.metrics.v1.metrics_pb2 import ErrorMetrics
from tests.metrics.cli.asked import served

ROOT: Final = Path(__file__).resolve().parents[3]
BOUND_S: Final = 30.0
SEQUENCE: Final = re.compile(r"\x1b\[[0-9;?]*[a-zA-Z]")
COLOUR: Final = re.compile(r"\x1b\[[0-9;]*m")


class Errors:
    """Answers of one after the other; None is an outage, and Ctrl-C comes with the last one."""

    target = "m:1"

    def __init__(self, *counts: int | None) -> None:
        self._counts = list(counts)
        self.metrics = self

    def __getattr__(self, name: str) -> str:
        return name

    async def ask(self, _: str, __: object) -> ErrorMetrics:
        """The next answer."""
        count = self._counts.pop(0)
        if not self._counts:
            os.kill(os.getpid(), signal.SIGINT)
        if count is None:
            raise NotReachableError("m:1 does not answer")
        answer = ErrorMetrics(revision=count)
        answer.breakdown.add(reason="SOLD_OUT", count=count)
        return answer


@pytest.fixture
def watch(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    def watch(errors: Errors, *arguments: str) -> Any:
        @contextlib.asynccontextmanager
        async def asking(*_: object) -> AsyncIterator[Errors]:
            yield errors

        monkeypatch.setattr(running, "asking", asking)
        return CliRunner().invoke(app, ["errors", "--watch", "0.5", *arguments])

    return watch


def test_csv_has_its_names_once_and_json_a_line_for_each(watch: Callable[..., Any]) -> None:
    result = watch(Errors(1, 2), "-o", "csv")
    assert (result.exit_code, result.stderr) == (0, "")
    names, *rows = csv.reader(io.StringIO(result.stdout))
    assert [row[names.index("count")] for row in rows] == ["1", "2"]
    result = watch(Errors(1, 2), "-o", "json")
    assert [json.loads(line)["revision"] for line in result.stdout.splitlines()] == [1, 2]


def test_a_service_that_goes_away_is_waited_for_but_at_first(watch: Callable[..., Any]) -> None:
    result = watch(Errors(1, None, 3), "-o", "json")
    assert (result.exit_code, result.stderr) == (0, "m:1 does not answer\n")
    assert [json.loads(line)["revision"] for line in result.stdout.splitlines()] == [1, 3]
    result = watch(Errors(None, 2))
    assert (result.exit_code, result.stdout) == (4, "")


def test_ctrl_c_before_an_answer_is_no_good_verdict(monkeypatch: pytest.MonkeyPatch) -> None:
    class Silent(Errors):
        async def ask(self, _: str, __: object) -> ErrorMetrics:
            """No answer."""
            os.kill(os.getpid(), signal.SIGINT)
            await asyncio.Event().wait()
            raise AssertionError

    @contextlib.asynccontextmanager
    async def asking(*_: object) -> AsyncIterator[Errors]:
        yield Silent()

    monkeypatch.setattr(running, "asking", asking)
    result = CliRunner().invoke(app, ["errors"])
    assert (result.exit_code, result.output) == (130, "")


@pytest.mark.processes
@pytest.mark.parametrize("no_color", [True, False])
def test_on_a_terminal_the_picture_is_drawn_in_place(metrics_dsn: str, no_color: bool) -> None:
    with served(metrics_dsn) as asked:
        ours, theirs = pty.openpty()
        command = ["status", "--target", asked.target, "--watch", "0.5"]
        with subprocess.Popen(
            [sys.executable, "-m", "metrics_service", *command],
            cwd=ROOT,
            env={**os.environ, "TERM": "xterm-256color", "COLUMNS": "100", "LINES": "24"}
            | ({"NO_COLOR": "1"} if no_color else {}),
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
        ) as process:
            os.close(theirs)
            shown = read_until(ours, lambda text: text.count("database healthy") >= 2)
            process.send_signal(signal.SIGINT)
            shown += read_until(ours, lambda _: False)
            assert process.wait(BOUND_S) == 0
        os.close(ours)
    # The cursor goes up to draw over what was there.
    assert re.search(r"\x1b\[1A", shown)
    styled = {found for found in COLOUR.findall(shown) if re.search(r"[;\[]3[0-7]", found)}
    assert bool(styled) is not no_color
    bare = SEQUENCE.sub("", shown)
    assert [each for each in bare if not each.isprintable() and each not in "\r\n"] == []


def read_until(terminal: int, enough: Callable[[str], bool]) -> str:
    """What is written to a terminal until it is enough, or the writer has gone."""
    shown, give_up = b"", time.monotonic() + BOUND_S
    while time.monotonic() < give_up:
        try:
            more = os.read(terminal, 65_536)
        except OSError:
            break
        shown += more
        if not more or enough(SEQUENCE.sub("", shown.decode(errors="replace"))):
            break
    return shown.decode(errors="replace")
