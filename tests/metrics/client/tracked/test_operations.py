"""A wrapped operation counts once, under the name asked for; its queries are its parts."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator

import asyncpg
import pytest

from metrics_service.client.booking.operations import BookingQueries, PackageQueries
from metrics_service.client.health import HealthWindow
from metrics_service.client.queries.record import Outcome
from metrics_service.client.tracked import (
    TrackedPool,
    Tracker,
    set_default_tracker,
    track_query,
    with_query_tracking,
)
from tests.metrics.client.recording import Clock, Recording, never_paused


@pytest.fixture
def sink() -> Recording:
    return Recording()


@pytest.fixture
def window() -> HealthWindow:
    return HealthWindow()


@pytest.fixture
def tracker(sink: Recording, window: HealthWindow) -> Iterator[Tracker]:
    made = Tracker([sink, window], pauses=never_paused())
    set_default_tracker(made)
    yield made
    set_default_tracker(None)


@pytest.fixture
async def pool(empty_dsn: str, tracker: Tracker) -> AsyncIterator[TrackedPool]:
    async with TrackedPool(empty_dsn, tracker=tracker, max_size=2) as made:
        yield made


async def test_an_operation_and_its_queries_are_counted_once(
    pool: TrackedPool, sink: Recording, window: HealthWindow
) -> None:
    async def create() -> int:
        async with pool.acquire() as connection, connection.transaction():
            await connection.fetch("SELECT generate_series(1, 3)")
            return int(await connection.fetchval("SELECT pg_sleep(0.02), 7", column=1))

    assert await with_query_tracking(create, model="bookings", operation="create") == 7
    (whole,) = sink.user
    assert whole.label == "bookings.create"
    assert whole.record.rows == 4
    assert whole.record.execute_us > 20_000
    parts = [kept.record.internal for kept in sink.labelled("sql.select")]
    assert parts == [True, True]
    assert window.figures().samples == 1


HELPERS: list[tuple[Callable[[Callable[[], Awaitable[int]]], Awaitable[int]], str]] = [
    (BookingQueries.create, "bookings.create"),
    (lambda op: BookingQueries.check_availability("p", op), "bookings.check_availability"),
    (lambda op: BookingQueries.get_user_bookings("u", op), "bookings.get_user_bookings"),
    (lambda op: BookingQueries.update("b", op), "bookings.update"),
    (lambda op: PackageQueries.get_details("p", op), "packages.get_details"),
    (lambda op: PackageQueries.check_availability("p", op), "packages.check_availability"),
    (PackageQueries.search, "packages.search"),
]


@pytest.mark.parametrize(("helper", "label"), HELPERS)
@pytest.mark.usefixtures("tracker")
async def test_a_helper_returns_what_its_op_returns_under_its_name(
    helper: Callable[[Callable[[], Awaitable[int]]], Awaitable[int]], label: str, sink: Recording
) -> None:
    async def op() -> int:
        return 42

    assert await helper(op) == 42
    assert [(kept.label, kept.outcome) for kept in sink.all] == [(label, Outcome.OK)]


@pytest.mark.usefixtures("tracker")
async def test_a_decorated_function_is_timed_at_each_call(sink: Recording) -> None:
    @track_query("search", model="packages", query="SELECT 1 WHERE a = 'secret'")
    async def search(text: str, *, limit: int) -> str:
        """Finds."""
        await asyncio.sleep(0)
        return text * limit

    assert [*await asyncio.gather(search("a", limit=2), search("b", limit=1))] == ["aa", "b"]
    assert search.__doc__ == "Finds."
    assert [kept.label for kept in sink.user] == ["packages.search"] * 2
    assert sink.user[0].definition.text == "SELECT $1 WHERE a = $2"


async def test_an_operation_inside_another_is_its_part(pool: TrackedPool, sink: Recording) -> None:
    async with track_query("outer"), track_query("inner"):
        await pool.fetchval("SELECT 1")
    assert [kept.label for kept in sink.user] == ["outer"]
    assert sink.labelled("inner")[0].record.internal
    assert sink.labelled("outer")[0].record.rows == 1


async def test_waits_of_the_queries_are_not_in_the_time_of_the_operation(
    empty_dsn: str, sink: Recording
) -> None:
    clock = Clock()
    tracker = Tracker([sink], monotonic_ns=clock.monotonic_ns, pauses=never_paused())
    async with TrackedPool(empty_dsn, tracker=tracker, max_size=1) as single:

        async def read() -> None:
            async with track_query("read", model="things", tracker=tracker):
                await single.fetchval("SELECT 1")
                clock.s += 5

        async with single.acquire():
            reader = asyncio.create_task(read())
            await asyncio.sleep(0)
            clock.s += 3
        await reader
    (whole,) = sink.labelled("things.read")
    assert (whole.record.pool_wait_us, whole.record.execute_us) == (3_000_000, 5_000_000)


async def test_an_operation_fails_as_its_query_does(
    pool: TrackedPool, sink: Recording, window: HealthWindow
) -> None:
    with pytest.raises(asyncpg.TooManyConnectionsError):
        async with track_query("one"):
            await pool.execute("DO $$ BEGIN RAISE SQLSTATE '53300'; END $$")
    with pytest.raises(TimeoutError):
        async with track_query("two"):
            await pool.execute("SELECT pg_sleep(5)", timeout=0.02)
    with pytest.raises(ValueError, match="mine"):
        async with track_query("three"):
            raise ValueError("mine")
    assert [(kept.outcome, kept.record.sqlstate) for kept in sink.user] == [
        (Outcome.ERROR, "53300"),
        (Outcome.TIMEOUT, None),
        (Outcome.ERROR, None),
    ]
    assert window.figures().failed == 2


async def test_a_task_that_outlives_its_operation_counts_for_itself(
    pool: TrackedPool, sink: Recording
) -> None:
    done = asyncio.Event()

    async def later() -> None:
        await done.wait()
        await pool.fetchval("SELECT 1")

    async with track_query("short"):
        task = asyncio.create_task(later())
        await asyncio.sleep(0)
    done.set()
    await task
    assert [kept.label for kept in sink.user] == ["short", "sql.select"]


async def test_without_a_tracker_an_operation_is_transparent(
    empty_dsn: str, sink: Recording
) -> None:
    pool = TrackedPool(empty_dsn, sinks=[sink], max_size=1)
    async with pool, track_query("nobody", model="listens"):
        assert await pool.fetchval("SELECT 1") == 1
    assert [kept.label for kept in sink.user] == ["sql.select"]


async def test_each_block_needs_a_new_operation(tracker: Tracker) -> None:
    operation = track_query("once", tracker=tracker)
    async with operation:
        with pytest.raises(RuntimeError, match="in use already"):
            await operation.__aenter__()


async def test_names_made_up_at_run_time_stay_bounded(tracker: Tracker) -> None:
    for n in range(2000):
        async with track_query(f"made_up_{n}"):
            pass
    assert len(tracker.statements.fingerprints) == 500
