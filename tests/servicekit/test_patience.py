"""Time limits that a stop of the process does not use up."""

from __future__ import annotations

import asyncio
import time

import pytest

from servicekit.patience import within


async def test_what_came_during_a_stop_is_not_late() -> None:
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
    assert await within(0.3, soon()) == "answer"


async def test_what_does_not_come_is_cancelled() -> None:
    ended = asyncio.Event()

    async def never() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    with pytest.raises(TimeoutError):
        await within(0.05, never())
    assert ended.is_set()


async def test_a_failure_is_passed_on() -> None:
    async def fails() -> None:
        raise ConnectionResetError("gone")

    with pytest.raises(ConnectionResetError, match="gone"):
        await within(20, fails())


async def test_whoever_is_cancelled_takes_the_work_along() -> None:
    begun, ended = asyncio.Event(), asyncio.Event()

    async def never() -> None:
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    waiting = asyncio.create_task(within(20, never()))
    async with asyncio.timeout(20):
        await begun.wait()
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
    assert waiting.cancelled()
    assert ended.is_set()
