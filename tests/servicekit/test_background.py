"""A background task runs once, ends on request, and raises nothing when it has failed."""

from __future__ import annotations

import asyncio

import pytest

from servicekit.background import BackgroundTask


class Work:
    """Counts its starts, and waits until it is cancelled."""

    def __init__(self) -> None:
        self.begun = asyncio.Event()
        self.starts = 0
        self.cleaned = False

    async def run(self) -> None:
        self.starts += 1
        self.begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            self.cleaned = True


async def test_stop_waits_until_the_work_has_cleaned_up_and_it_can_start_again() -> None:
    task, work = BackgroundTask("work"), Work()
    for starts in (1, 2):
        work.begun.clear()
        work.cleaned = False
        task.start(work.run())
        await work.begun.wait()
        await task.stop()
        assert (work.starts, work.cleaned) == (starts, True)
    assert [each.get_name() for each in asyncio.all_tasks() if each.get_name() == "work"] == []


async def test_stop_before_start_and_twice_does_nothing() -> None:
    task, work = BackgroundTask("work"), Work()
    await task.stop()
    task.start(work.run())
    await work.begun.wait()
    await task.stop()
    await task.stop()
    assert work.starts == 1


async def test_a_second_start_is_refused_and_the_first_goes_on() -> None:
    task, work = BackgroundTask("work"), Work()
    task.start(work.run())
    await work.begun.wait()
    with pytest.raises(RuntimeError, match="work runs already"):
        task.start(work.run())
    assert work.starts == 1
    await task.stop()


async def test_work_that_failed_is_ended_without_its_failure() -> None:
    async def fail() -> None:
        raise ValueError

    task = BackgroundTask("work")
    task.start(fail())
    await asyncio.sleep(0)
    await task.stop()
