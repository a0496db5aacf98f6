"""SIGHUP, by which other programs read their files again, ends no service."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Final

import pytest

pytestmark = pytest.mark.processes

# Sends itself the signal, and says whether it was told to stop.
PROGRAM: Final = """
import asyncio, os, signal
from servicekit.start import run

async def main(stop):
    os.kill(os.getpid(), signal.SIGHUP)
    for _ in range(10):
        await asyncio.sleep(0)
    await asyncio.sleep(0.1)
    print("stops" if stop.is_set() else "goes on")

raise SystemExit(run(main))
"""


def said(stdin: int) -> tuple[int, str]:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], stdin=stdin, capture_output=True, text=True, check=False
    )
    return done.returncode, done.stdout.strip() or done.stderr


def test_it_changes_nothing() -> None:
    assert said(subprocess.DEVNULL) == (0, "goes on")


def test_in_a_terminal_that_is_closed_it_is_a_stop() -> None:
    ours, its = os.openpty()
    try:
        assert said(its) == (0, "stops")
    finally:
        os.close(ours)
        os.close(its)
