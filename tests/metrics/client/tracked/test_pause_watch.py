"""Pauses are detected while a pool or connection is open; nothing stays in the loop after it."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Awaitable, Callable

import asyncpg
import pytest
import uvloop

from metrics_service.client.tracked import TrackedPool, Tracker, connect
from servicekit.pauses import MAX_PAUSES
from tests.metrics.client.tracked.pausing import MS, TICK_S, World, ticks


async def _pool(dsn: str, tracker: Tracker) -> Callable[[], Awaitable[None]]:
    return (await TrackedPool.create(dsn, tracker=tracker)).close


async def _cut_off_pool(dsn: str, tracker: Tracker) -> Callable[[], Awaitable[None]]:
    pool = await TrackedPool.create(dsn, tracker=tracker)

    async def terminate() -> None:
        pool.terminate()

    return terminate


async def _connection(dsn: str, tracker: Tracker) -> Callable[[], Awaitable[None]]:
    return (await connect(dsn, tracker=tracker)).close


async def _cut_off_connection(dsn: str, tracker: Tracker) -> Callable[[], Awaitable[None]]:
    connection = await connect(dsn, tracker=tracker)

    async def terminate() -> None:
        connection.terminate()

    return terminate


async def _lost_connection(dsn: str, tracker: Tracker) -> Callable[[], Awaitable[None]]:
    connection = await connect(dsn, tracker=tracker)

    async def lose() -> None:
        with pytest.raises(asyncpg.PostgresError):
            await connection.execute("SELECT pg_terminate_backend(pg_backend_pid())")
        # Its listeners are called in a turn of their own.
        await asyncio.sleep(0)

    return lose


@pytest.mark.parametrize(
    "opened", [_pool, _cut_off_pool, _connection, _cut_off_connection, _lost_connection]
)
async def test_nothing_is_left_in_the_loop_after_the_last_one_ends(
    opened: Callable[[str, Tracker], Awaitable[Callable[[], Awaitable[None]]]], empty_dsn: str
) -> None:
    tracker = Tracker()
    assert not tracker.pauses.watching
    close, close_other = await opened(empty_dsn, tracker), await opened(empty_dsn, tracker)
    assert len(ticks()) == 1
    await close()
    assert tracker.pauses.watching
    await close_other()
    assert not tracker.pauses.watching
    assert ticks() == []


async def test_a_pool_that_cannot_be_opened_leaves_nothing() -> None:
    tracker = Tracker()
    with pytest.raises(OSError, match="Connect call failed"):
        await TrackedPool.create("postgresql://nobody@127.0.0.1:1/x", tracker=tracker)
    assert not tracker.pauses.watching


class User:
    """A user of the detector."""


async def test_it_stops_ticking_when_its_users_are_garbage(world: World) -> None:
    ended, user = world.tracker.pauses, User()
    ended.watch(user)
    del user
    gc.collect()
    await asyncio.sleep(TICK_S)
    assert not ended.watching


@pytest.mark.parametrize("loop_factory", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_it_moves_to_the_next_loop_and_reports_nothing_in_another(
    loop_factory: Callable[[], asyncio.AbstractEventLoop], world: World
) -> None:
    watched, clock, users = world.tracker.pauses, world.clock, [User(), User()]

    async def first() -> None:
        watched.watch(users[0])
        await world.pause(3)
        assert watched.unpaused_ns(4_000 * MS) == 1_010 * MS

    async def second() -> None:
        assert watched.unpaused_ns(4_000 * MS) == 4_000 * MS
        watched.watch(users[1])
        clock.s += 3
        # Found before the tick has.
        assert watched.unpaused_ns(4_000 * MS) == 1_010 * MS
        watched.leave(users[1])
        assert not watched.watching
        assert watched.unpaused_ns(4_000 * MS) == 4_000 * MS

    for each in (first, second):
        with asyncio.Runner(loop_factory=loop_factory) as runner:
            runner.run(each())
        assert watched.unpaused_ns(4_000 * MS) == 4_000 * MS


async def test_a_second_loop_beside_it_is_not_watched(world: World) -> None:
    watched, users = world.tracker.pauses, [User(), User()]

    async def beside() -> None:
        watched.watch(users[1])
        assert watched.unpaused_ns(4_000 * MS) == 4_000 * MS
        watched.leave(users[1])

    watched.watch(users[0])
    await asyncio.to_thread(asyncio.run, beside())
    assert len(ticks()) == 1
    watched.leave(users[0])
    assert ticks() == []


async def test_remembered_pauses_are_bounded(world: World) -> None:
    user = User()
    world.tracker.pauses.watch(user)
    for _ in range(MAX_PAUSES + 3):
        await world.pause(1)
    all_ns = (MAX_PAUSES + 3) * 1_000 * MS
    assert world.tracker.pauses.unpaused_ns(all_ns) == all_ns - MAX_PAUSES * 990 * MS
    world.tracker.pauses.leave(user)
