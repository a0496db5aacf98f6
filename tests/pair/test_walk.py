"""docs/walk.md describes what one StartBooking does: it is traced and compared step by step."""

from __future__ import annotations

import asyncio
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from types import FrameType
from typing import NamedTuple

import pytest

from booking_service.storage.clock import DatabaseClock
from tests.booking.running_service import FIRST_DAY, day, running

ROOT = Path(__file__).resolve().parents[2]
SERVICE = ROOT / "booking_service"
WALK = ROOT / "docs/walk.md"

# Days that are still to come by the database's own clock.
FAR = timedelta(36_500)

MAX_FILES = 6
COMMIT = "**COMMIT**"
# A step at the margin; its calls of functions in other files are indented below it.
STEP = re.compile(rf"^(?P<indent> *)(?:- `(?P<name>\S+::\S+)`|(?P<commit>{re.escape(COMMIT)}))")


class Walk(NamedTuple):
    """Steps as "file::function", and the functions of other files that each step calls.

    Both in the order in which each is first reached.
    """

    steps: list[str]
    calls: dict[str, list[str]]


def documented() -> Walk:
    walk = Walk([], {})
    for line in WALK.read_text().splitlines():
        found = STEP.match(line)
        if found is None:
            continue
        if found["indent"]:
            walk.calls.setdefault(walk.steps[-1], []).append(found["name"])
        else:
            walk.steps.append(found["commit"] or found["name"])
    return walk


def files_of(walk: Walk) -> set[str]:
    return {step.partition("::")[0] for step in walk.steps if step != COMMIT}


class Tracer:
    """Records the functions of booking_service that the RPC's task and the main queue's task enter.

    Other tasks, such as the sweeper and the probe, are left out.
    """

    def __init__(self, files: set[str]) -> None:
        self.walk = Walk([], {})
        self._files = files
        self._others = {
            task for task in asyncio.all_tasks() if not task.get_name().startswith("commands/")
        }

    def __call__(self, frame: FrameType, event: str, arg: object) -> None:
        task = asyncio.current_task()
        if event != "call" or task is None or task in self._others:
            return
        name = name_of(frame)
        if frame.f_code.co_qualname == "Transaction.__commit" and COMMIT not in self.walk.steps:
            self.walk.steps.append(COMMIT)
        if name is None:
            return
        if name.partition("::")[0] in self._files:
            if name not in self.walk.steps:
                self.walk.steps.append(name)
        elif frame.f_back is not None and (caller := name_of(frame.f_back)) in self.walk.steps:
            calls = self.walk.calls.setdefault(caller, [])
            if name not in calls:
                calls.append(name)


def name_of(frame: FrameType) -> str | None:
    """Return "file::function" of a frame; a comprehension belongs to its function."""
    path = Path(frame.f_code.co_filename)
    if not path.is_relative_to(SERVICE):
        return None
    function = frame.f_code.co_qualname.partition(".<locals>")[0]
    return f"{path.relative_to(SERVICE)}::{function}"


@contextmanager
def traced(tracer: Tracer) -> Iterator[None]:
    sys.setprofile(tracer)
    try:
        yield
    finally:
        sys.setprofile(None)


@pytest.mark.processes
async def test_a_start_goes_the_way_that_the_document_says(booking_dsn: str) -> None:
    expected = documented()
    async with running(booking_dsn) as service:
        package = await service.package()
        database = service.server.database
        await database.pool.execute("UPDATE package_days SET day = day + $1::integer", FAR.days)
        database.clock = DatabaseClock()
        tracer = Tracer(files_of(expected))
        start, end = FIRST_DAY + FAR, FIRST_DAY + FAR + timedelta(2)
        with traced(tracer):
            held = await service.held(package.id, start_date=day(start), end_date=day(end))
        stored = await database.pool.fetchval("SELECT id::text FROM bookings")
    assert held.id == stored
    assert tracer.walk.steps == expected.steps
    assert tracer.walk.calls == expected.calls


def test_the_way_from_the_servicer_to_the_commit_is_through_six_files_at_most() -> None:
    walk = documented()
    assert len(files_of(walk)) <= MAX_FILES
    assert walk.steps[0] == "rpc/booking.py::BookingService.StartBooking"
    assert COMMIT in walk.steps
    assert all((SERVICE / file).exists() for file in files_of(walk))
