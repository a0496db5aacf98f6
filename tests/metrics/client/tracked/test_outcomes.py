"""Each outcome of a query is distinguished, and no query is blamed for the one before."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import asyncpg
import pytest

from metrics_service.client.health import HealthWindow, Status, judge
from metrics_service.client.queries.record import Outcome, is_failed
from metrics_service.client.tracked import TrackedConnection, Tracker, connect
from protos.tracking.v1 import tracking_pb2
from tests.metrics.client.recording import Clock, Recording, never_paused, wait_until_waiting

UNREACHABLE = tracking_pb2.Probe(result=tracking_pb2.Probe.UNREACHABLE)


@pytest.fixture
def sink() -> Recording:
    return Recording()


@pytest.fixture
def window() -> HealthWindow:
    return HealthWindow()


@pytest.fixture
async def connection(
    empty_dsn: str, sink: Recording, window: HealthWindow
) -> AsyncIterator[TrackedConnection]:
    made = await connect(empty_dsn, tracker=Tracker([sink, window], pauses=never_paused()))
    yield made
    await made.close()


async def test_a_refused_query_has_its_sqlstate_and_is_not_failed(
    connection: TrackedConnection, sink: Recording, window: HealthWindow
) -> None:
    with pytest.raises(asyncpg.DivisionByZeroError):
        await connection.fetch("SELECT 1 / $1::int", 0)
    with pytest.raises(asyncpg.UndefinedTableError):
        await connection.prepare("SELECT * FROM nowhere")
    assert [(kept.outcome, kept.record.sqlstate) for kept in sink.user] == [
        (Outcome.ERROR, "22012"),
        (Outcome.ERROR, "42P01"),
    ]
    assert window.figures().failed == 0


async def test_a_query_cancelled_by_its_caller_does_not_change_health(
    connection: TrackedConnection, empty_dsn: str, sink: Recording, window: HealthWindow
) -> None:
    query = asyncio.create_task(connection.fetch("SELECT pg_sleep(10)"))
    await wait_until_waiting(empty_dsn, connection.get_server_pid())
    query.cancel()
    with pytest.raises(asyncio.CancelledError):
        await query
    assert [kept.outcome for kept in sink.user] == [Outcome.CANCELLED]
    assert window.figures().samples == 0


async def test_a_statement_timeout_of_the_server_is_a_failed_error(
    connection: TrackedConnection, sink: Recording, window: HealthWindow
) -> None:
    await connection.execute("SET statement_timeout = '20ms'")
    with pytest.raises(asyncpg.QueryCanceledError):
        await connection.fetch("SELECT pg_sleep(10)")
    assert (sink.user[-1].outcome, sink.user[-1].record.sqlstate) == (Outcome.ERROR, "57014")
    assert window.figures().failed == 1


async def test_the_query_after_a_time_out_is_not_blamed_for_the_cancellation(
    empty_dsn: str, sink: Recording, window: HealthWindow
) -> None:
    clock = Clock()
    tracker = Tracker([sink, window], monotonic_ns=clock.monotonic_ns, pauses=never_paused())
    connection = await connect(empty_dsn, tracker=tracker)
    try:
        with pytest.raises(TimeoutError):
            await connection.execute("SELECT pg_sleep(60)", timeout=0.05)
        answer = asyncio.create_task(connection.fetchval("SELECT 1"))
        # It waits for the cancellation, of which nothing has been read yet.
        await asyncio.sleep(0)
        clock.s += 3
        assert await answer == 1
    finally:
        await connection.close()
    timed_out, following = sink.user
    assert timed_out.outcome is Outcome.TIMEOUT
    assert following.outcome is Outcome.OK
    assert (following.record.cancel_wait_us, following.record.execute_us) == (3_000_000, 0)
    assert window.figures().failed == 1


async def test_the_cancellation_takes_from_the_time_out_of_the_query_that_waits_for_it(
    connection: TrackedConnection, sink: Recording
) -> None:
    never_ends = """
        DO $$ BEGIN PERFORM pg_sleep(60);
        EXCEPTION WHEN query_canceled THEN PERFORM pg_sleep(3); END $$"""
    # Loads the language: the time-out is to come within the sleep.
    await connection.execute("DO $$ BEGIN END $$")
    with pytest.raises(TimeoutError):
        await connection.execute(never_ends, timeout=0.5)
    with pytest.raises(TimeoutError):
        await connection.fetchval("SELECT 1", timeout=0.1)
    following = sink.user[-1]
    assert following.outcome is Outcome.TIMEOUT
    assert following.record.cancel_wait_us > 90_000
    assert following.record.execute_us < following.record.cancel_wait_us


async def test_a_backend_killed_in_mid_query_is_one_connection_lost(
    connection: TrackedConnection, empty_dsn: str, sink: Recording, window: HealthWindow
) -> None:
    pid = connection.get_server_pid()
    query = asyncio.create_task(connection.fetch("SELECT pg_sleep(10)"))
    await wait_until_waiting(empty_dsn, pid)
    await _terminate(empty_dsn, pid)
    with pytest.raises(asyncpg.ConnectionDoesNotExistError):
        await query
    assert [(kept.label, kept.outcome) for kept in sink.all] == [
        ("sql.select", Outcome.CONNECTION_LOST)
    ]
    assert sink.all[0].record.sqlstate == "57P01"
    assert window.figures().failed == 1
    assert judge(window.figures(), UNREACHABLE).status is Status.UNHEALTHY


async def test_a_backend_killed_while_idle_is_detected_and_is_no_query(
    connection: TrackedConnection, empty_dsn: str, sink: Recording
) -> None:
    await connection.fetchval("SELECT 1")
    sink.clear()
    ended = asyncio.Event()
    connection.add_termination_listener(lambda _: ended.set())
    await _terminate(empty_dsn, connection.get_server_pid())
    await asyncio.wait_for(ended.wait(), 20)
    await asyncio.sleep(0)
    assert [(kept.label, kept.outcome, kept.record.internal) for kept in sink.all] == [
        ("pool.connection_lost", Outcome.CONNECTION_LOST, True)
    ]


async def test_closing_in_order_is_no_loss(empty_dsn: str, sink: Recording) -> None:
    tracker = Tracker([sink])
    for end in ("close", "terminate"):
        connection = await connect(empty_dsn, tracker=tracker)
        if end == "close":
            await connection.close()
        else:
            connection.terminate()
        await asyncio.sleep(0)
    assert tracker.connections_lost == 0
    assert sink.all == []


async def test_two_queries_at_once_on_one_connection_are_one_misuse(
    connection: TrackedConnection, sink: Recording, window: HealthWindow
) -> None:
    answers = await asyncio.gather(
        connection.fetchval("SELECT pg_sleep(0.05), 1", column=1),
        connection.fetchval("SELECT 2"),
        return_exceptions=True,
    )
    assert answers[0] == 1
    assert isinstance(answers[1], asyncpg.InterfaceError)
    outcomes = sorted(kept.outcome for kept in sink.user)
    assert outcomes == [Outcome.OK, Outcome.MISUSE]
    assert window.figures().samples == 1


async def test_arguments_that_the_driver_refuses_are_errors(
    connection: TrackedConnection, sink: Recording, window: HealthWindow
) -> None:
    with pytest.raises(asyncpg.DataError):
        await connection.fetch("SELECT $1::int", "x")
    with pytest.raises(asyncpg.InterfaceError):
        await connection.fetch("SELECT $1::int")
    assert [(kept.outcome, kept.record.sqlstate) for kept in sink.user] == [
        (Outcome.ERROR, "22000"),
        (Outcome.ERROR, None),
    ]
    assert window.figures().failed == 0


@pytest.mark.parametrize(
    "sqlstate", ["08006", "25006", "53300", "57014", "57P01", "58030", "XX000"]
)
def test_failed_for_health_are_errors_of_the_database_itself(sqlstate: str) -> None:
    assert is_failed(Outcome.ERROR, sqlstate)


@pytest.mark.parametrize(
    "sqlstate", ["22012", "23505", "25001", "40001", "42P01", "55P03", "P0001", None]
)
def test_errors_of_statements_and_conflicts_are_not_failed(sqlstate: str | None) -> None:
    assert not is_failed(Outcome.ERROR, sqlstate)


async def _terminate(dsn: str, pid: int) -> None:
    other = await asyncpg.connect(dsn)
    try:
        assert await other.fetchval("SELECT pg_terminate_backend($1)", pid)
    finally:
        await other.close()
