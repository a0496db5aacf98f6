"""docs/walk.md describes what one StartBooking does: it is traced and compared step by step."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from types import FrameType

import pytest

from booking_service.storage.clock import DatabaseClock
from tests.booking.running_service import FIRST_DAY, day, running
from tests.pair.walks import COMMIT, ROOT, Walk, documented, name_of, traced

SERVICE = ROOT / "booking_service"
WALK = ROOT / "docs/walk.md"

# Days that are still to come by the database's own clock.
FAR = timedelta(36_500)

MAX_FILES = 6


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
        name = name_of(frame, SERVICE)
        if frame.f_code.co_qualname == "Transaction.__commit" and COMMIT not in self.walk.steps:
            self.walk.steps.append(COMMIT)
        if name is None:
            return
        caller = None if frame.f_back is None else name_of(frame.f_back, SERVICE)
        self.walk.enter(name, caller, self._files)


@pytest.mark.processes
async def test_a_start_goes_the_way_that_the_document_says(booking_dsn: str) -> None:
    expected = documented(WALK.read_text())
    async with running(booking_dsn) as service:
        package = await service.package()
        database = service.server.database
        await database.pool.execute("UPDATE package_days SET day = day + $1::integer", FAR.days)
        database.clock = DatabaseClock()
        tracer = Tracer(expected.files)
        start, end = FIRST_DAY + FAR, FIRST_DAY + FAR + timedelta(2)
        with traced(tracer):
            held = await service.held(package.id, start_date=day(start), end_date=day(end))
        stored = await database.pool.fetchval("SELECT id::text FROM bookings")
    assert held.id == stored
    assert tracer.walk.steps == expected.steps
    assert tracer.walk.calls == expected.calls


def test_the_way_from_the_servicer_to_the_commit_is_through_six_files_at_most() -> None:
    walk = documented(WALK.read_text())
    assert len(walk.files) <= MAX_FILES
    assert walk.steps[0] == "rpc/booking.py::BookingService.StartBooking"
    assert COMMIT in walk.steps
    assert all((SERVICE / file).exists() for file in walk.files)
