"""Timeouts that a pause of the process does not use up."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest

from servicekit.pauses import pause_between, pause_tolerant_timeout, shift_by_pause


async def test_what_arrived_during_a_pause_is_not_late() -> None:
    arrived = asyncio.Event()
    loop = asyncio.get_running_loop()

    async def soon() -> str:
        await arrived.wait()
        # What comes from the network takes some turns of the loop.
        for _ in range(5):
            await asyncio.sleep(0)
        return "answer"

    loop.call_soon(time.sleep, 0.4)
    loop.call_soon(arrived.set)
    assert await pause_tolerant_timeout(0.3, soon()) == "answer"


async def test_work_that_takes_too_long_is_cancelled() -> None:
    ended = asyncio.Event()

    async def never() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    with pytest.raises(TimeoutError):
        await pause_tolerant_timeout(0.05, never())
    assert ended.is_set()


async def test_a_failure_is_passed_on() -> None:
    async def fails() -> None:
        raise ConnectionResetError("gone")

    with pytest.raises(ConnectionResetError, match="gone"):
        await pause_tolerant_timeout(20, fails())


async def test_cancelling_the_wait_cancels_the_work() -> None:
    begun, ended = asyncio.Event(), asyncio.Event()

    async def never() -> None:
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    waiting = asyncio.create_task(pause_tolerant_timeout(20, never()))
    async with asyncio.timeout(20):
        await begun.wait()
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
    assert waiting.cancelled()
    assert ended.is_set()


async def test_work_that_fails_as_the_wait_is_cancelled_is_no_error_that_nobody_saw() -> None:
    begun, lost = asyncio.Event(), asyncio.Event()

    async def fails() -> None:
        begun.set()
        await lost.wait()
        raise ConnectionResetError("gone")

    work: Any = asyncio.create_task(fails())
    waiting = asyncio.create_task(pause_tolerant_timeout(20, work))
    await begun.wait()
    lost.set()
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    assert waiting.cancelled()
    # What asyncio logs once the task is garbage, which a timer of the wait may put off.
    assert work.done()
    assert not work._log_traceback


@pytest.mark.parametrize(
    ("moment", "due", "now", "shifted"),
    [
        (80, 100, 100, 80),  # in time
        (80, 100, 95, 80),  # early
        (80, 100, 160, 140),  # a pause of 60 after it
        (120, 100, 160, 160),  # within the pause
    ],
)
def test_a_moment_is_shifted_by_the_pause_after_it(
    moment: int, due: int, now: int, shifted: int
) -> None:
    assert shift_by_pause(moment, due, now) == shifted


def test_a_pause_is_the_lateness_of_a_check() -> None:
    assert pause_between(100, 160) == 60
    assert pause_between(100, 90) == 0
