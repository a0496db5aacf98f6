"""One target that refuses, is busy or breaks: tries, pauses, drops and counts, by a clock that is
set.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest

from metrics_service.alerts.targets.notice import Change, NotAcceptedError, Notice, Notification
from metrics_service.alerts.targets.sender import MAX_RETRY_AFTER_S, MAX_TRY_S, Sender
from tests.metrics.alerts.targets.incidents import Clock, Plain, firing

BOUND_S = 10.0


def notification(rule: str = "slow_query") -> Notification:
    alert = firing(rule=rule)
    return Notification(rule, (Notice(alert, "fired", 0, alert.id),))


class Flaky(Plain):
    """Raises what is in `errors`, one for each try, and then takes everything."""

    def __init__(self, *errors: Exception) -> None:
        super().__init__()
        self.errors = list(errors)
        self.tries = 0

    async def send(self, part: Notification) -> str:
        self.tries += 1
        if self.errors:
            raise self.errors.pop(0)
        return await super().send(part)


class World:
    def __init__(self, target: Plain, max_queued: int = 100) -> None:
        self.clock = Clock()
        self.took: list[str] = []
        self.settled: list[str] = []
        self.sender = Sender(
            target,
            lambda _, notice: self.took.append(notice.alert.rule),
            lambda _, rule: self.settled.append(rule),
            max_queued=max_queued,
            monotonic_s=self.clock.monotonic_s,
            sleep=self.clock.sleep,
        )

    async def until(self, done: Callable[[], bool]) -> None:
        async with asyncio.timeout(BOUND_S):
            while not done():  # noqa: ASYNC110
                await asyncio.sleep(0)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        self.sender.start()
        try:
            yield
        finally:
            await self.sender.stop(0.0)

    async def send(self, *rules: str) -> None:
        """Offer notifications, and wait until each is taken or dropped."""
        for rule in rules:
            self.sender.offer(notification(rule))
        async with self.running():
            await self.until(lambda: len(self.settled) == len(rules))

    def counts(self) -> tuple[int, int, int]:
        counts = self.sender.counts
        return counts["sent"], counts["failed"], counts["dropped"]


async def test_pauses_grow_with_chance_and_end_with_success() -> None:
    target = Flaky(*[NotAcceptedError("HTTP 500")] * 6)
    world = World(target)
    await world.send("a", "b")
    assert world.took == world.settled == ["a", "b"]
    assert world.counts() == (2, 6, 0)
    for pause_s, whole_s in zip(world.clock.pauses, [1, 2, 4, 8, 16, 32], strict=True):
        assert whole_s / 2 <= pause_s <= whole_s
    status = world.sender.status()
    assert (status.last_error, status.waiting) == ("HTTP 500", 0)
    assert status.last_error_time.seconds > 0


async def test_a_pause_that_the_target_asks_for_is_kept() -> None:
    world = World(Flaky(NotAcceptedError("HTTP 429", after_s=120.0)))
    await world.send("a")
    assert world.clock.pauses == [120.0]
    assert world.counts() == (1, 1, 0)


async def test_a_pause_that_is_too_long_is_bounded_and_costs_no_further_try() -> None:
    target = Flaky(NotAcceptedError("HTTP 429", after_s=1e9))
    world = World(target)
    await world.send("a", "b")
    assert (target.tries, world.counts()) == (1, (0, 1, 2))
    assert world.clock.pauses == []
    world.clock.now_s += MAX_RETRY_AFTER_S
    world.settled.clear()
    await world.send("c")
    assert world.took == ["c"]


async def test_a_target_that_stays_down_is_tried_for_a_bounded_time() -> None:
    target = Flaky(*[NotAcceptedError("HTTP 503")] * 1000)
    world = World(target)
    began_s = world.clock.now_s
    await world.send(*"abcdefghij")
    assert world.took == []
    assert world.settled == [*"abcdefghij"]
    assert world.clock.now_s - began_s <= MAX_TRY_S
    assert 7 <= target.tries <= 16
    assert world.counts() == (0, target.tries, 10)


async def test_a_refusal_is_not_tried_again() -> None:
    target = Flaky(NotAcceptedError("HTTP 401", again=False))
    world = World(target)
    await world.send("a")
    assert (target.tries, world.counts(), world.took) == (1, (0, 1, 1), [])


async def test_a_target_that_is_broken_ends_nothing() -> None:
    world = World(Flaky(RuntimeError("a secret")))
    await world.send("a", "b")
    assert (world.took, world.counts()) == (["b"], (1, 1, 1))
    assert world.sender.status().last_error == "cannot be made: RuntimeError"


async def test_what_does_not_fit_is_dropped_and_counted() -> None:
    world = World(Plain(), max_queued=3)
    for rule in "abcde":
        world.sender.offer(notification(rule))
    assert (world.settled, world.counts()) == (["d", "e"], (0, 0, 2))
    assert world.sender.status().waiting == 3
    async with world.running():
        await world.until(lambda: len(world.settled) == 5)
    assert world.took == ["a", "b", "c"]


async def test_a_part_that_is_refused_takes_no_other_with_it() -> None:
    class InParts(Plain):
        def parts(self, notification: Notification) -> list[Notification]:
            return notification.apart()

        async def send(self, part: Notification) -> str:
            if part.notices[0].alert.rule == "c":
                raise NotAcceptedError("HTTP 413", again=False)
            return await super().send(part)

    world = World(InParts())
    changes: list[Change] = ["fired", "unchanged", "fired", "resolved"]
    notices = tuple(
        Notice(firing(rule=rule), change, 0, "0" * 32)
        for rule, change in zip("abcd", changes, strict=True)
    )
    world.sender.offer(Notification("group", notices))
    async with world.running():
        await world.until(lambda: world.settled == ["group"])
    assert (world.took, world.counts()) == (["a", "d"], (2, 1, 1))


async def test_the_end_waits_for_what_is_on_its_way_but_not_for_ever() -> None:
    begun, release = asyncio.Event(), asyncio.Event()

    class Slow(Plain):
        async def send(self, part: Notification) -> str:
            begun.set()
            await release.wait()
            return await super().send(part)

    for released in (True, False):
        begun.clear()
        release.clear()
        world = World(Slow())
        world.sender.offer(notification())
        world.sender.start()
        await begun.wait()
        if released:
            release.set()
        await world.sender.stop(BOUND_S if released else 0.01)
        assert world.counts() == (int(released), 0, 0)


@pytest.mark.parametrize("error", [NotAcceptedError("HTTP 500"), None])
async def test_what_another_leader_tells_is_forgotten(error: Exception | None) -> None:
    world = World(Flaky(*([error] if error else [])))
    world.sender.offer(notification())
    world.sender.clear()
    await world.send()
    assert world.sender.status().waiting == 0
    assert world.took == []
