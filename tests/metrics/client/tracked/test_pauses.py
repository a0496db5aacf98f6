"""Pauses of the process are in no duration and change no outcome: the database is not blamed."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest

from metrics_service.client.health import HealthWindow
from metrics_service.client.queries.record import Outcome
from metrics_service.client.tracked import TrackedPool, Tracker, connect, track_query
from metrics_service.client.tracked.internals import Connection
from metrics_service.client.tracked.tracker import SAMPLE_MASK
from servicekit.pauses import PauseDetector
from tests.metrics.client.inspector.scene import Scene, be_patient
from tests.metrics.client.recording import Clock, Recording, wait_until_waiting
from tests.metrics.client.tracked.pausing import MS, TICK_S, World


@pytest.fixture
async def single(empty_dsn: str, world: World) -> AsyncIterator[TrackedPool]:
    """A pool of one connection."""
    async with TrackedPool(empty_dsn, tracker=world.tracker, max_size=1) as pool:
        yield pool


async def test_a_query_in_flight_during_a_real_pause_is_not_slow(empty_dsn: str) -> None:
    sink, slow = Recording(), list[Any]()
    tracker = Tracker([sink])
    tracker.slow_ns, tracker.on_slow = 500 * MS, slow.append
    async with TrackedPool(empty_dsn, tracker=tracker, max_size=1) as pool:
        async with pool.acquire() as connection:
            query = asyncio.create_task(connection.fetchval("SELECT 1"))
            waiting = asyncio.create_task(pool.fetchval("SELECT 2"))
            await asyncio.sleep(0)
            time.sleep(0.65)  # noqa: ASYNC251 - the loop must be blocked
            assert await query == 1
        assert await waiting == 2
    asked, waited = (kept.record for kept in sink.user)
    assert asked.execute_us < 500_000
    assert waited.pool_wait_us < 500_000
    assert slow == []


async def test_timeouts_that_expire_after_a_pause_are_no_failures(empty_dsn: str) -> None:
    sink, window = Recording(), HealthWindow()
    tracker = Tracker([sink, window])
    pool = TrackedPool(empty_dsn, tracker=tracker, max_size=1)
    async with pool, pool.acquire() as connection:
        query = asyncio.create_task(connection.fetch("SELECT pg_sleep(60)", timeout=0.3))
        waiting = [asyncio.create_task(_acquire(pool, 0.3)) for _ in range(3)]
        await asyncio.sleep(0)
        time.sleep(0.65)  # noqa: ASYNC251 - the loop must be blocked
        errors = await asyncio.gather(query, *waiting, return_exceptions=True)
    # For the caller nothing is different.
    assert [type(error) for error in errors] == [TimeoutError] * 4
    assert [kept.outcome for kept in sink.user] == [Outcome.CANCELLED] * 4
    assert (window.figures().samples, window.figures().failed) == (0, 0)


async def test_exactly_the_pause_is_subtracted_from_each_part_of_a_query(
    world: World, single: TrackedPool, empty_dsn: str
) -> None:
    async with single.acquire() as connection:
        waiting = asyncio.create_task(single.fetchval("SELECT 1"))
        await asyncio.sleep(0)
        await world.pause(3)
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


async def test_a_pause_in_the_introspection_is_subtracted_once(
    world: World, single: TrackedPool, empty_dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    introspect = Connection._introspect_types

    async def paused(*args: Any) -> Any:
        world.clock.s += 3
        return await introspect(*args)

    monkeypatch.setattr(Connection, "_introspect_types", paused)
    async with single.acquire() as connection:
        await connection.execute("CREATE TYPE mood AS ENUM ('good')")
        query = asyncio.create_task(connection.fetch("SELECT 'good'::mood, pg_sleep(60)"))
        await wait_until_waiting(empty_dsn, connection.get_server_pid())
        await world.run_on(0.2)
        query.cancel()
        await asyncio.gather(query, return_exceptions=True)
    assert world.sink.user[-1].record.execute_us == 200_000


@pytest.mark.parametrize("running_s", [None, 0.2, 0.6])
async def test_a_timeout_counts_where_there_was_time_to_read_the_answer(
    world: World, single: TrackedPool, running_s: float | None
) -> None:
    """None means no pause. The real timeouts expire long after the test's time has passed."""
    expected = Outcome.CANCELLED if running_s == 0.2 else Outcome.TIMEOUT
    async with single.acquire() as connection:
        query = asyncio.create_task(connection.fetch("SELECT pg_sleep(60)", timeout=0.3))
        waiting = asyncio.create_task(_acquire(single, 0.3))
        await asyncio.sleep(0)
        if running_s is not None:
            await world.pause(3)
        await world.run_on(running_s or 0.6)
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
        await world.pause(3)
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
            # The next pause must be a separate one.
            await asyncio.sleep(TICK_S)
            await world.run_on(0.6)
            await world.pause(2)

    async with single.acquire():
        working = asyncio.create_task(work())
        await asyncio.sleep(0)
        await world.pause(3)
    await working
    (whole,) = (kept.record for kept in world.sink.user)
    (part,) = (kept.record for kept in world.sink.labelled("sql.select"))
    assert (part.pool_wait_us, part.execute_us) == (10_000, 10_000)
    assert (whole.pool_wait_us, whole.execute_us) == (10_000, 10_000 + 600_000 + 10_000)


@pytest.mark.parametrize("running_s", [0.2, 0.6])
@pytest.mark.usefixtures("single")
async def test_an_operation_that_times_out_is_judged_the_same_way(
    world: World, running_s: float
) -> None:
    @track_query("work", tracker=world.tracker)
    async def work() -> None:
        await world.pause(3)
        await world.run_on(running_s)
        raise TimeoutError

    with pytest.raises(TimeoutError):
        await work()
    (whole,) = world.sink.user
    assert whole.outcome is (Outcome.TIMEOUT if running_s > 0.5 else Outcome.CANCELLED)
    assert whole.record.execute_us == 10_000 + running_s * 1e6


async def test_a_pause_is_no_reason_to_observe_a_query(
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
        await world.pause(3)
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
    """Counts the calls."""

    count = 0

    def unpaused_ns(self, spent_ns: int) -> int:
        self.count += 1
        return super().unpaused_ns(spent_ns)

    def just_resumed(self, spent_ns: int) -> bool:
        self.count += 1
        return super().just_resumed(spent_ns)


async def test_a_quick_query_does_not_ask_the_detector(empty_dsn: str) -> None:
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


async def _acquire(pool: TrackedPool, timeout_s: float) -> None:
    await pool.release(await pool.acquire(timeout=timeout_s))
