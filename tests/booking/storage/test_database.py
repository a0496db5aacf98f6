"""No driver error leaves the storage, every wait is bounded, and nothing is left behind."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import asyncpg
import pytest

from booking_service.storage import database as module
from booking_service.storage.clock import SetClock
from booking_service.storage.database import Database
from booking_service.storage.driver_errors import (
    Conflict,
    ConnectionLost,
    DatabaseError,
    DatabaseUnavailable,
    DataRefused,
    DuplicateKey,
    LockTimeout,
    StatementTimeout,
)
from booking_service.storage.sql import QueryGroup
from metrics_service.client.queries.record import NamedQuery
from servicekit.caller import LOCAL
from servicekit.context import Call, current_call
from servicekit.errors import UNAVAILABLE
from tests.booking.seed import NOW

CANARY = "canary-7f3a"
SLEEP = NamedQuery("SELECT pg_sleep($1)", model="test", operation="sleep")


@pytest.fixture
async def database(booking_dsn: str) -> AsyncIterator[Database]:
    database = Database(booking_dsn, pool_size=2)
    await database.open()
    yield database
    await database.close()


@pytest.fixture
async def patient(booking_dsn: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Database]:
    """A database with no bound of its own to statements: what ends one is what the test is about,
    however slow the machine is.
    """
    monkeypatch.setattr(module, "STATEMENT_TIMEOUT_S", 60.0)
    monkeypatch.setattr(module, "COMMAND_TIMEOUT_S", 60.0)
    database = Database(booking_dsn, pool_size=2)
    await database.open()
    yield database
    await database.close()


def call_with(left_s: float) -> Call:
    return Call("m", "r", LOCAL, "", time.monotonic() + left_s)


@pytest.mark.parametrize(
    ("statement", "raised", "sqlstate"),
    [
        (f"SELECT '{CANARY}'::int", DataRefused, "22P02"),
        ("SELECT 1/0", DataRefused, "22012"),
        (f'SELECT * FROM "{CANARY}"', DatabaseError, "42P01"),
        ("DO $$ BEGIN RAISE EXCEPTION 'x' USING ERRCODE = '40001'; END $$", Conflict, "40001"),
        ("DO $$ BEGIN RAISE EXCEPTION 'x' USING ERRCODE = '40P01'; END $$", Conflict, "40P01"),
        ("DO $$ BEGIN RAISE EXCEPTION 'x' USING ERRCODE = '55P03'; END $$", LockTimeout, "55P03"),
        ("DO $$ BEGIN RAISE EXCEPTION 'x' USING ERRCODE = '23514'; END $$", DataRefused, "23514"),
    ],
)
async def test_refusals_keep_their_code_and_lose_their_text(
    database: Database, statement: str, raised: type[DatabaseError], sqlstate: str
) -> None:
    with pytest.raises(raised) as caught:
        async with database.connection() as connection:
            await connection.execute(statement)
    assert caught.value.sqlstate == sqlstate
    assert CANARY not in str(caught.value)
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__


async def test_duplicate_key_names_its_constraint_and_not_the_key(database: Database) -> None:
    insert = "INSERT INTO user_profiles VALUES (gen_random_uuid(), $1, '', '', '', 1, $2, $2)"

    async with database.connection() as connection:
        await connection.execute(insert, CANARY, NOW)
    with pytest.raises(DuplicateKey) as caught:
        async with database.connection() as connection:
            await connection.execute(insert, CANARY, NOW)
    assert caught.value.constraint == "user_profiles_one_per_user"
    assert CANARY not in str(caught.value)


async def test_argument_that_cannot_be_encoded_is_the_commands_own_fault(
    database: Database,
) -> None:
    with pytest.raises(DataRefused):
        async with database.connection() as connection:
            await connection.fetchval("SELECT $1::int", 2**40)


async def test_connection_lost_in_mid_query_is_unavailable_and_the_pool_recovers(
    database: Database, booking_dsn: str
) -> None:
    async def lost() -> None:
        async with database.connection() as connection:
            pid.set_result(await connection.fetchval("SELECT pg_backend_pid()"))
            await connection.execute("SELECT pg_sleep(30)")

    pid: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    victim = asyncio.create_task(lost())
    killer = await asyncpg.connect(booking_dsn)
    await killer.execute("SELECT pg_terminate_backend($1)", await pid)
    await killer.close()
    with pytest.raises(ConnectionLost) as caught:
        await victim
    assert caught.value.spec is UNAVAILABLE
    assert await database.fetchrow(QueryGroup("probe").ping)


async def test_unreachable_server_is_unavailable() -> None:
    with pytest.raises(ConnectionLost):
        await Database("postgresql://u:secret@127.0.0.1:1/none").open()


async def test_missing_database_says_that_it_is_absent(booking_dsn: str) -> None:
    dsn = booking_dsn.replace("/test_", "/no_such_")
    with pytest.raises(ConnectionLost) as caught:
        await Database(dsn).open()
    assert caught.value.absent


async def test_callers_deadline_ends_the_query(patient: Database) -> None:
    token = current_call.set(call_with(0.05))
    try:
        # Nothing else would end it before it returns.
        with pytest.raises(StatementTimeout):
            await patient.fetch(SLEEP, 20.0)
    finally:
        current_call.reset(token)
    assert await patient.fetch(SLEEP, 0.0)


async def test_no_query_begins_after_the_deadline(database: Database) -> None:
    token = current_call.set(call_with(-1))
    try:
        with pytest.raises(StatementTimeout):
            await database.fetch(SLEEP, 0.0)
    finally:
        current_call.reset(token)


async def test_wait_for_a_free_connection_is_bounded(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with database.connection(), database.connection():
        monkeypatch.setattr(module, "ACQUIRE_TIMEOUT_S", 0.05)
        with pytest.raises(StatementTimeout):
            async with database.connection():
                pass


async def test_server_bounds_statements_and_idle_transactions(database: Database) -> None:
    async with database.connection() as connection:
        settings = await connection.fetchrow(
            "SELECT current_setting('statement_timeout') AS statement,"
            " current_setting('idle_in_transaction_session_timeout') AS idle,"
            " current_setting('default_transaction_isolation') AS isolation,"
            " current_setting('application_name') AS name"
        )
    assert settings is not None
    assert tuple(settings) == ("5s", "10s", "read committed", "booking_service")


async def test_a_real_deadlock_is_a_conflict_and_is_solved_by_trying_again(
    patient: Database, booking_dsn: str
) -> None:
    setup = await asyncpg.connect(booking_dsn)
    await setup.execute("CREATE TABLE counters (id int PRIMARY KEY, n int)")
    await setup.execute("INSERT INTO counters VALUES (1, 0), (2, 0)")
    both_hold_one = asyncio.Barrier(2)
    met = set()
    conflicts = []

    async def add(first: int, second: int) -> None:
        async with patient.transaction() as connection:
            await connection.execute("UPDATE counters SET n = n + 1 WHERE id = $1", first)
            if first not in met:
                met.add(first)
                await both_hold_one.wait()
            await connection.execute("UPDATE counters SET n = n + 1 WHERE id = $1", second)

    async def add_until_done(first: int, second: int) -> None:
        while True:
            try:
                return await add(first, second)
            except Conflict as error:
                conflicts.append(error.sqlstate)

    await asyncio.gather(add_until_done(1, 2), add_until_done(2, 1))
    assert set(conflicts) == {"40P01"}
    assert [row["n"] for row in await setup.fetch("SELECT n FROM counters ORDER BY id")] == [2, 2]
    await setup.close()


async def test_cancelled_caller_leaves_no_transaction_open(
    database: Database, booking_dsn: str
) -> None:
    begun = asyncio.Event()

    async def work() -> None:
        async with database.transaction() as connection:
            await connection.execute("CREATE TABLE half_done (id int)")
            begun.set()
            await connection.execute("SELECT pg_sleep(30)")

    caller = asyncio.create_task(work())
    await begun.wait()
    caller.cancel()
    with pytest.raises(asyncio.CancelledError):
        await caller
    observer = await asyncpg.connect(booking_dsn)
    left = await observer.fetchval(
        "SELECT count(*) FROM pg_stat_activity"
        " WHERE datname = current_database() AND xact_start IS NOT NULL"
        " AND pid <> pg_backend_pid() AND backend_type = 'client backend'"
    )
    assert left == 0
    assert await observer.fetchval("SELECT to_regclass('half_done')") is None
    await observer.close()


async def test_session_state_does_not_leak_to_the_next_caller(booking_dsn: str) -> None:
    database = Database(booking_dsn, pool_size=1)
    await database.open()
    async with database.connection() as connection:
        pid = await connection.fetchval("SELECT pg_backend_pid()")
        await connection.execute("SET statement_timeout = '17s'")
        await connection.execute("SELECT pg_advisory_lock(1)")
        await connection.execute("BEGIN")
    async with database.connection() as connection:
        assert await connection.fetchval("SELECT pg_backend_pid()") == pid
        assert await connection.fetchval("SHOW statement_timeout") == "5s"
        assert not connection.is_in_transaction()
        held = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = $1"
        assert await connection.fetchval(held, pid) == 0
    await database.close()


async def test_clock_is_the_servers_and_moves_inside_a_transaction(database: Database) -> None:
    async with database.transaction() as connection:
        first = await database.clock.now(connection)
        second = await database.clock.now(connection)
    assert first.tzinfo is not None
    assert first.utcoffset() == timedelta(0)
    # Even a clock that is set back moves.
    assert second != first


async def test_clock_can_be_set(booking_dsn: str) -> None:
    clock = SetClock(NOW)
    database = Database(booking_dsn, clock=clock)
    await database.open()
    clock.advance(timedelta(minutes=5))
    async with database.connection() as connection:
        assert await database.clock.now(connection) == datetime(2026, 3, 1, 12, 5, tzinfo=UTC)
    await database.close()


async def test_closing_cuts_off_what_is_still_at_work(patient: Database) -> None:
    acquired = asyncio.Event()

    async def busy() -> None:
        async with patient.connection() as connection:
            acquired.set()
            await connection.fetchval(SLEEP, 30.0)

    at_work = asyncio.create_task(busy())
    await acquired.wait()
    await asyncio.wait_for(patient.close(), 20)
    with pytest.raises(DatabaseUnavailable):
        await at_work
