"""A process that stood still does not blame its database: not in durations, not in outcomes."""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import asyncpg
import pytest
import uvloop

from metrics_service.client.health import HealthWindow
from metrics_service.client.queries.record import Outcome
from metrics_service.client.tracked import TrackedPool, Tracker, connect, track_query
from metrics_service.client.tracked.internals import Connection
from metrics_service.client.tracked.tracker import SAMPLE_MASK
from servicekit import pauses
from servicekit.pauses import MAX_PAUSES, PauseDetector
from tests.metrics.client.inspector.scene import Scene, be_patient
from tests.metrics.client.recording import Clock, Recording, wait_until_waiting

TICK_S = 0.01
MS = 1_000_000


class World:
    """A tracker whose time, and that of its stops, passes as the test says."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.sink = Recording()
        self.window = HealthWindow()
        self.slow: list[Any] = []
        self.tracker = Tracker(
            [self.sink, self.window],
            monotonic_ns=self.clock.monotonic_ns,
            pauses=PauseDetector(self.clock.monotonic_ns),
        )
        self.tracker.slow_ns, self.tracker.on_slow = 500 * MS, self.slow.append

    async def stand_still(self, s: float) -> None:
        """Until the next tick has found it: a timer set now is due after that one."""
        self.clock.s += s
        await asyncio.sleep(TICK_S)

    async def run_on(self, s: float) -> None:
        """As time does while the loop runs."""
        for _ in range(round(s / 0.2)):
            self.clock.s += 0.2
            await asyncio.sleep(TICK_S)


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    # What a tick does not find of a stop is this long, and no test waits for longer than that.
    monkeypatch.setattr(pauses, "TICK_NS", round(TICK_S * 1e9))
    return World()


@pytest.fixture
async def single(empty_dsn: str, world: World) -> AsyncIterator[TrackedPool]:
    """A pool of one connection."""
    async with TrackedPool(empty_dsn, tracker=world.tracker, max_size=1) as pool:
        yield pool


async def test_a_query_in_flight_over_a_real_stop_is_not_slow(empty_dsn: str) -> None:
    sink, slow = Recording(), list[Any]()
    tracker = Tracker([sink])
    tracker.slow_ns, tracker.on_slow = 500 * MS, slow.append
    async with TrackedPool(empty_dsn, tracker=tracker, max_size=1) as pool:
        async with pool.acquire() as connection:
            query = asyncio.create_task(connection.fetchval("SELECT 1"))
            waiting = asyncio.create_task(pool.fetchval("SELECT 2"))
            await asyncio.sleep(0)
            time.sleep(0.65)  # noqa: ASYNC251 - the loop is to stand still
            assert await query == 1
        assert await waiting == 2
    asked, waited = (kept.record for kept in sink.user)
    assert asked.execute_us < 500_000
    assert waited.pool_wait_us < 500_000
    assert slow == []


async def test_time_outs_that_come_at_the_waking_are_no_failures(empty_dsn: str) -> None:
    sink, window = Recording(), HealthWindow()
    tracker = Tracker([sink, window])
    pool = TrackedPool(empty_dsn, tracker=tracker, max_size=1)
    async with pool, pool.acquire() as connection:
        query = asyncio.create_task(connection.fetch("SELECT pg_sleep(60)", timeout=0.3))
        waiting = [asyncio.create_task(_acquire(pool, 0.3)) for _ in range(3)]
        await asyncio.sleep(0)
        time.sleep(0.65)  # noqa: ASYNC251 - the loop is to stand still
        errors = await asyncio.gather(query, *waiting, return_exceptions=True)
    # For the caller nothing is different.
    assert [type(error) for error in errors] == [TimeoutError] * 4
    assert [kept.outcome for kept in sink.user] == [Outcome.CANCELLED] * 4
    assert (window.figures().samples, window.figures().failed) == (0, 0)


async def test_exactly_the_stop_is_taken_off_each_part_of_a_query(
    world: World, single: TrackedPool, empty_dsn: str
) -> None:
    async with single.acquire() as connection:
        waiting = asyncio.create_task(single.fetchval("SELECT 1"))
        await asyncio.sleep(0)
        await world.stand_still(3)
        query = asyncio.create_task(connection.execute("SELECT pg_sleep(60)", timeout=0.2))
        await wait_until_waiting(empty_dsn, connection.get_server_pid())
        with pytest.raises(TimeoutError):
            await query
        # The next one is measured for what timing it costs, but that is no wait.
        world.tracker.records = SAMPLE_MASK + 1
        cost = world.tracker.cost().overhead_ns
        following = asyncio.create_task(connection.fetchval("SELECT 2"))
        # It waits for the cancellation, of which nothing has been read yet.
        await asyncio.sleep(0)
        world.clock.s += 2
        assert await following == 2
    assert await waiting == 1
    timed_out, cancelling, waited = (kept.record for kept in world.sink.user)
    assert (timed_out.outcome, timed_out.execute_us) == (Outcome.TIMEOUT, 0)
    assert (cancelling.cancel_wait_us, cancelling.execute_us) == (10_000, 0)
    assert (waited.pool_wait_us, waited.execute_us) == (20_000, 0)
    assert world.tracker.cost().overhead_ns == cost


async def test_a_stop_in_the_introspection_is_taken_off_once(
    world: World, single: TrackedPool, empty_dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    introspect = Connection._introspect_types

    async def standing_still(*args: Any) -> Any:
        world.clock.s += 3
        return await introspect(*args)

    monkeypatch.setattr(Connection, "_introspect_types", standing_still)
    async with single.acquire() as connection:
        await connection.execute("CREATE TYPE mood AS ENUM ('good')")
        query = asyncio.create_task(connection.fetch("SELECT 'good'::mood, pg_sleep(60)"))
        await wait_until_waiting(empty_dsn, connection.get_server_pid())
        await world.run_on(0.2)
        query.cancel()
        await asyncio.gather(query, return_exceptions=True)
    assert world.sink.user[-1].record.execute_us == 200_000


@pytest.mark.parametrize("listened_s", [None, 0.2, 0.6])
async def test_a_time_out_is_the_databases_where_there_was_time_to_hear_it(
    world: World, single: TrackedPool, listened_s: float | None
) -> None:
    """None is for no stop at all. The real time-outs come long after the test's time has passed."""
    expected = Outcome.CANCELLED if listened_s == 0.2 else Outcome.TIMEOUT
    async with single.acquire() as connection:
        query = asyncio.create_task(connection.fetch("SELECT pg_sleep(60)", timeout=0.3))
        waiting = asyncio.create_task(_acquire(single, 0.3))
        await asyncio.sleep(0)
        if listened_s is not None:
            await world.stand_still(3)
        await world.run_on(listened_s or 0.6)
        errors = await asyncio.gather(query, waiting, return_exceptions=True)
    assert [type(error) for error in errors] == [TimeoutError] * 2
    assert [kept.outcome for kept in world.sink.user] == [expected] * 2
    assert world.window.figures().failed == (0 if expected is Outcome.CANCELLED else 2)


async def test_a_cursor_ends_as_its_round_trip(world: World, single: TrackedPool) -> None:
    async with single.acquire() as connection:
        transaction = connection.transaction()
        await transaction.start()
        cursor = await connection.cursor("SELECT pg_sleep(60)")
        reading = asyncio.create_task(cursor.fetch(1, timeout=0.1))
        await asyncio.sleep(0)
        await world.stand_still(3)
        with pytest.raises(TimeoutError):
            await reading
        await transaction.rollback()
    (whole,) = world.sink.user
    assert (whole.outcome, whole.record.execute_us) == (Outcome.CANCELLED, 10_000)


async def test_the_parts_of_an_operation_still_add_up(world: World, single: TrackedPool) -> None:
    async def work() -> None:
        async with track_query("work", model="things", tracker=world.tracker):
            async with single.acquire() as connection:
                query = asyncio.create_task(connection.fetchval("SELECT 1"))
                await asyncio.sleep(0)
                world.clock.s += 4
                await query
            # So that the next stop is another one.
            await asyncio.sleep(TICK_S)
            await world.run_on(0.6)
            await world.stand_still(2)

    async with single.acquire():
        working = asyncio.create_task(work())
        await asyncio.sleep(0)
        await world.stand_still(3)
    await working
    (whole,) = (kept.record for kept in world.sink.user)
    (part,) = (kept.record for kept in world.sink.labelled("sql.select"))
    assert (part.pool_wait_us, part.execute_us) == (10_000, 10_000)
    assert (whole.pool_wait_us, whole.execute_us) == (10_000, 10_000 + 600_000 + 10_000)


@pytest.mark.parametrize("listened_s", [0.2, 0.6])
@pytest.mark.usefixtures("single")
async def test_an_operation_that_times_out_is_judged_the_same_way(
    world: World, listened_s: float
) -> None:
    @track_query("work", tracker=world.tracker)
    async def work() -> None:
        await world.stand_still(3)
        await world.run_on(listened_s)
        raise TimeoutError

    with pytest.raises(TimeoutError):
        await work()
    (whole,) = world.sink.user
    assert whole.outcome is (Outcome.TIMEOUT if listened_s > 0.5 else Outcome.CANCELLED)
    assert whole.record.execute_us == 10_000 + listened_s * 1e6


async def test_a_stop_is_no_reason_to_look_at_a_query(
    empty_dsn: str, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    be_patient(monkeypatch)
    scene = Scene(empty_dsn, clock=world.clock)
    scene.tracker.pauses = world.tracker.pauses
    inspector = scene.inspector(plans=False)
    connection = await connect(empty_dsn, tracker=scene.tracker)
    try:
        query = asyncio.create_task(connection.execute("SELECT pg_sleep(60)"))
        await wait_until_waiting(empty_dsn, connection.get_server_pid())
        await world.stand_still(3)
        await inspector.observe()
        assert (inspector.observations, inspector.skipped) == (0, 0)
        await world.run_on(0.6)
        await inspector.observe()
        await world.run_on(0.4)
        observing = asyncio.create_task(inspector.observe())
        await asyncio.sleep(0)
        world.clock.s += 3
        await observing
        assert [observation.running_us for observation in scene.observations.running] == [
            610_000,
            1_010_000,
        ]
        # An observation is followed by none for a hundred times as long: 10 ms of that one.
        await world.run_on(1.2)
        await inspector.observe()
        assert inspector.observations == 3
    finally:
        query.cancel()
        await asyncio.gather(query, return_exceptions=True)
        await inspector.stop()
        connection.terminate()


class Asked(PauseDetector):
    """Counts the questions."""

    count = 0

    def unpaused_ns(self, spent_ns: int) -> int:
        self.count += 1
        return super().unpaused_ns(spent_ns)

    def just_resumed(self, spent_ns: int) -> bool:
        self.count += 1
        return super().just_resumed(spent_ns)


async def test_a_quick_query_asks_nothing(empty_dsn: str) -> None:
    clock, asked = Clock(), Asked()
    tracker = Tracker(monotonic_ns=clock.monotonic_ns, pauses=asked)
    async with TrackedPool(empty_dsn, tracker=tracker, max_size=1) as pool:
        asked.count = 0  # it connected
        for _ in range(3):
            await pool.fetchval("SELECT 1")
        assert asked.count == 0
        query = asyncio.create_task(pool.fetchval("SELECT 1"))
        await asyncio.sleep(0)
        clock.s += 1
        await query
        assert asked.count > 0


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
    assert len(_ticks()) == 1
    await close()
    assert tracker.pauses.watching
    await close_other()
    assert not tracker.pauses.watching
    assert _ticks() == []


async def test_a_pool_that_cannot_be_opened_leaves_nothing() -> None:
    tracker = Tracker()
    with pytest.raises(OSError, match="Connect call failed"):
        await TrackedPool.create("postgresql://nobody@127.0.0.1:1/x", tracker=tracker)
    assert not tracker.pauses.watching


class User:
    """Somebody who watches."""


async def test_it_ends_by_itself_when_its_users_are_forgotten(world: World) -> None:
    ended, user = world.tracker.pauses, User()
    ended.watch(user)
    del user
    gc.collect()
    await asyncio.sleep(TICK_S)
    assert not ended.watching


@pytest.mark.parametrize("loop_factory", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_it_goes_over_to_the_next_loop_and_knows_nothing_in_another(
    loop_factory: Callable[[], asyncio.AbstractEventLoop], world: World
) -> None:
    watched, clock, users = world.tracker.pauses, world.clock, [User(), User()]

    async def first() -> None:
        watched.watch(users[0])
        await world.stand_still(3)
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


async def test_a_loop_beside_it_takes_no_part(world: World) -> None:
    watched, users = world.tracker.pauses, [User(), User()]

    async def beside() -> None:
        watched.watch(users[1])
        assert watched.unpaused_ns(4_000 * MS) == 4_000 * MS
        watched.leave(users[1])

    watched.watch(users[0])
    await asyncio.to_thread(asyncio.run, beside())
    assert len(_ticks()) == 1
    watched.leave(users[0])
    assert _ticks() == []


async def test_what_is_remembered_is_bounded(world: World) -> None:
    user = User()
    world.tracker.pauses.watch(user)
    for _ in range(MAX_PAUSES + 3):
        await world.stand_still(1)
    all_ns = (MAX_PAUSES + 3) * 1_000 * MS
    assert world.tracker.pauses.unpaused_ns(all_ns) == all_ns - MAX_PAUSES * 990 * MS
    world.tracker.pauses.leave(user)


async def _acquire(pool: TrackedPool, timeout_s: float) -> None:
    await pool.release(await pool.acquire(timeout=timeout_s))


def _ticks() -> list[asyncio.TimerHandle]:
    """The timers of this loop that are to find stops."""
    loop: Any = asyncio.get_running_loop()
    return [
        each for each in loop._scheduled if not each.cancelled() and "PauseDetector" in repr(each)
    ]
