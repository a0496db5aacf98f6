"""Where the reset round trip is saved, nothing of one caller's session reaches the next: each kind
of session state forces a reset that ends it, and what needs none is shown to leave nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import asyncpg
import grpc
import pytest

from booking_service.storage.database import Database
from booking_service.storage.sql import QUERIES
from metrics_service.client.queries.record import NamedQuery, leaves_session_state
from metrics_service.client.tracked import TrackedPool
from protos.booking.v1 import catalog_pb2
from tests.booking.running_service import running, start_of
from tests.metrics.client.recording import Recording, wait_until_waiting


@pytest.fixture
def sink() -> Recording:
    return Recording()


@pytest.fixture
async def lean(empty_dsn: str, sink: Recording) -> AsyncIterator[TrackedPool]:
    """A pool of one connection that is reset only where needed."""
    pool = TrackedPool(empty_dsn, sinks=[sink], max_size=1, reset_on_release=False)
    async with pool:
        yield pool


# All that a session can be told apart by: settings that were changed, locks, channels, cursors,
# prepared statements of SQL, temporary tables, and the role.
SESSION = """
SELECT jsonb_build_object(
    'settings', (SELECT jsonb_object_agg(name, setting) FROM pg_settings
        WHERE setting IS DISTINCT FROM reset_val AND name NOT LIKE 'transaction%'),
    'custom', nullif(concat(current_setting('app.mine', true),
        current_setting('local.tenant', true), current_setting('transaction.foo', true)), ''),
    'locks', (SELECT count(*) FROM pg_locks
        WHERE locktype = 'advisory' AND pid = pg_backend_pid()),
    'channels', (SELECT count(*) FROM pg_listening_channels()),
    'cursors', (SELECT count(*) FROM pg_cursors WHERE is_holdable),
    'prepared', (SELECT count(*) FROM pg_prepared_statements WHERE from_sql),
    'temporary', (SELECT count(*) FROM pg_class WHERE relnamespace = pg_my_temp_schema()),
    'role', current_user = session_user AND session_user <> 'someone'
)::text
"""

PREPARATION = """
DO $$ BEGIN CREATE ROLE someone SUPERUSER; EXCEPTION WHEN duplicate_object THEN NULL; END $$;
CREATE OR REPLACE PROCEDURE hidden() LANGUAGE sql
    AS $$ SELECT set_config('work_mem', '7MB', false) $$
"""

STATEFUL = [
    "SET work_mem = '7MB'",
    "SET app.mine = 'x'",
    "SET local.tenant = 'x'",
    "SET local . tenant TO 'x'",
    "set local/* note */.tenant = 'x'",
    "SET LOCAL -- note\n.tenant = 'x'",
    "SET transaction.foo = 'x'",
    "SET SESSION local.tenant = 'x'",
    "SET SESSION work_mem = '7MB'",
    "SET TIME ZONE 'Asia/Tokyo'",
    "SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY",
    "SET ROLE someone",
    "SET SESSION AUTHORIZATION someone",
    "/* note */ set Work_Mem to '7MB'",
    "/* a /* nested */ note */ SET work_mem = '7MB'",
    "-- ended by a carriage return\rSET work_mem = '7MB'",
    "SELECT 1; SET work_mem = '7MB'",
    "SELECT 1; /* note */ -- note\n SET work_mem = '7MB'",
    "SELECT set_config('work_mem', '7MB', false)",
    "SELECT set_config('work_mem', trim(' 7MB '), false)",
    "SELECT set_config('app.mine', ', true)', false)",
    "SELECT \"set_config\"('work_mem', '7MB', false)",
    "SELECT set_config/* note */('work_mem', '7MB', false)",
    "SELECT U&\"set\\005fconfig\"('work_mem', '7MB', false)",
    "WITH x AS MATERIALIZED (SELECT set_config('work_mem', '7MB', false)) SELECT * FROM x",
    "VALUES (set_config('work_mem', '7MB', 1 = 2))",
    "EXPLAIN ANALYZE SELECT set_config('work_mem', '7MB', false)",
    "UPDATE pg_settings SET setting = '7168' WHERE name = 'work_mem'",
    "DO $$ BEGIN PERFORM set_config('work_mem', '7MB', false); END $$",
    "CALL hidden()",
    "SELECT pg_advisory_lock(7)",
    "SELECT pg_try_advisory_lock_shared(7, 8)",
    'SELECT pg_catalog."pg_advisory_lock"(7)',
    "LISTEN somewhere",
    "BEGIN; DECLARE c CURSOR WITH HOLD FOR SELECT 1; COMMIT",
    "EXPLAIN ANALYZE DECLARE c CURSOR WITH/**/HOLD FOR SELECT 1",
    "PREPARE p AS SELECT 1",
    "CREATE TEMP TABLE t (a int)",
    "CREATE TEMPORARY VIEW v AS SELECT 1",
    "CREATE TABLE pg_temp.t (a int)",
    "SELECT 1 AS a INTO TEMP t",
]


async def test_each_kind_of_session_state_ends_with_its_caller(
    lean: TrackedPool, sink: Recording
) -> None:
    await lean.execute(PREPARATION)
    before = await lean.fetchrow(f"SELECT pg_backend_pid(), ({SESSION})")
    leaking = []
    for statement in STATEFUL:
        sink.clear()
        await lean.execute(statement)
        resets = [kept.label for kept in sink.all].count("pool.reset")
        after = await lean.fetchrow(f"SELECT pg_backend_pid(), ({SESSION})")
        if resets != 1 or after != before:
            leaking.append(f"{statement}: {after}")
    assert leaking == []
    sink.clear()
    await lean.fetchval("SELECT 1")
    assert sink.labelled("pool.reset") == []


async def test_session_state_exists_before_the_reset(empty_dsn: str) -> None:
    """The statements do leave what the question sees, so the test above could fail."""
    unseen = []
    for statement in STATEFUL:
        connection = await asyncpg.connect(empty_dsn)
        try:
            await connection.execute(PREPARATION)
            before = await connection.fetchval(SESSION)
            await connection.execute(statement)
            if await connection.fetchval(SESSION) == before:
                unseen.append(statement)
        finally:
            await connection.close()
    # EXPLAIN opens no cursor, and is taken for one all the same.
    assert unseen == ["EXPLAIN ANALYZE DECLARE c CURSOR WITH/**/HOLD FOR SELECT 1"]


async def test_the_next_caller_does_not_get_the_seed(lean: TrackedPool) -> None:
    async def seeded() -> object:
        await lean.execute("SELECT setseed(0.5)")
        return await lean.fetchval("SELECT random()")

    assert await seeded() != await seeded()


async def test_a_listener_is_removed_with_its_caller(lean: TrackedPool) -> None:
    async with lean.acquire() as connection:
        await connection.add_listener("somewhere", print)
        await connection.remove_listener("somewhere", print)
    assert await lean.fetchval("SELECT count(*) FROM pg_listening_channels()") == 0


@pytest.mark.parametrize(
    "call",
    ["fetch", "fetchrow", "fetchval", "prepared", "cursor", "copy", "executemany", "named"],
)
async def test_session_state_is_detected_in_every_kind_of_call(
    lean: TrackedPool, sink: Recording, call: str
) -> None:
    statement = "SELECT set_config('work_mem', '7MB', $1::text = 'x')"
    async with lean.acquire() as connection:
        if call == "prepared":
            await (await connection.prepare(statement)).fetch("y")
        elif call == "cursor":
            async with connection.transaction():
                assert [row async for row in connection.cursor(statement, "y")]
        elif call == "copy":
            await connection.copy_from_query(statement, "y", output=_discard)
        elif call == "executemany":
            await connection.executemany(statement, [("y",)])
        elif call == "named":
            await connection.fetch(NamedQuery(statement, model="a", operation="b"), "y")
        else:
            await getattr(connection, call)(statement, "y")
        assert await connection.fetchval("SHOW work_mem") == "7MB"
    assert len(sink.labelled("pool.reset")) == 1
    assert await lean.fetchval("SHOW work_mem") == "4MB"


async def test_clean_statements_need_no_reset(lean: TrackedPool, sink: Recording) -> None:
    before = await lean.fetchval(SESSION)
    sink.clear()
    for _ in range(3):
        async with lean.acquire() as connection, connection.transaction():
            await connection.execute("/* note */ SET LOCAL work_mem = '1MB'")
            await connection.execute("SET LOCAL\n local.tenant = 'x'")
            await connection.execute("SET TRANSACTION READ ONLY")
            await connection.fetchval("SELECT pg_advisory_xact_lock(1)")
            await connection.fetchval("SELECT set_config('lock_timeout', $1, true)", "50")
            async with connection.transaction():
                assert [row async for row in connection.cursor("SELECT 1")]
    assert sink.labelled("pool.reset") == []
    assert await lean.fetchval(SESSION) == before


@pytest.mark.parametrize("end", ["cancelled", "returned"])
async def test_what_a_caller_left_open_is_rolled_back(
    lean: TrackedPool, empty_dsn: str, end: str
) -> None:
    await lean.execute("CREATE TABLE t (a int)")

    async def write() -> None:
        async with lean.acquire() as connection:
            transaction = connection.transaction()
            await transaction.start()
            await connection.execute("SET LOCAL work_mem = '1MB'")
            await connection.fetchval("SELECT pg_advisory_xact_lock(1)")
            await connection.execute("INSERT INTO t VALUES (1)")
            if end == "cancelled":
                await connection.execute("SELECT pg_sleep(10)")

    before = await lean.fetchval(SESSION)
    pid = await lean.fetchval("SELECT pg_backend_pid()")
    asyncio.get_running_loop().set_exception_handler(lambda *_: None)  # asyncpg tells of it
    writer = asyncio.create_task(write())
    if end == "cancelled":
        await wait_until_waiting(empty_dsn, pid)
        writer.cancel()
        with pytest.raises(asyncio.CancelledError):
            await writer
    await asyncio.gather(writer, return_exceptions=True)
    assert await lean.fetchval("SELECT count(*) FROM t") == 0
    assert await lean.fetchval(SESSION) == before
    assert await lean.fetchval("SELECT pg_backend_pid()") == pid


async def test_a_transaction_begun_in_sql_and_left_open_is_rolled_back(lean: TrackedPool) -> None:
    await lean.execute("CREATE TABLE t (a int)")
    asyncio.get_running_loop().set_exception_handler(lambda *_: None)
    await lean.execute("BEGIN; INSERT INTO t VALUES (1)")
    assert await lean.fetchval("SELECT count(*) FROM t") == 0


async def test_what_a_function_hides_needs_the_reset_that_is_the_default(empty_dsn: str) -> None:
    async with TrackedPool(empty_dsn, max_size=1) as pool:
        await pool.execute(
            "CREATE FUNCTION innocent() RETURNS text LANGUAGE sql AS "
            "$$ SELECT set_config('work_mem', '7MB', false) $$"
        )
        assert await pool.fetchval("SELECT innocent()") == "7MB"
        assert await pool.fetchval("SHOW work_mem") == "4MB"


async def test_the_booking_service_leaves_its_sessions_as_they_were_and_resets_none(
    booking_dsn: str,
) -> None:
    sink = Recording()
    async with running(booking_dsn, BOOKING_DATABASE_POOL_SIZE="2") as shell:
        shell.server.database.tracker.add_sink(sink)
        package = await shell.package()
        await shell.confirmed(package.id)
        await shell.catalog.SearchPackages(catalog_pb2.SearchPackagesRequest())
        with pytest.raises(grpc.aio.AioRpcError):
            await shell.held(package.id, quantity=1_000)
        # Cancelled at one moment or another, on their way there or in the database.
        hurried = [
            shell.booking.StartBooking(start_of(package.id), timeout=0.005 + 0.002 * n)
            for n in range(10)
        ]
        await asyncio.gather(*hurried, return_exceptions=True)
        assert len(sink.user) > 10
        assert sink.labelled("pool.reset") == []
        pool = shell.server.database.pool
        async with pool.acquire() as one, pool.acquire() as other:
            left = {await one.fetchval(SESSION), await other.fetchval(SESSION)}
    fresh = await Database(booking_dsn).connect("fresh")
    try:
        assert left == {await fresh.fetchval(SESSION)}
    finally:
        await fresh.close()


async def test_no_function_of_the_booking_database_touches_the_session(booking_dsn: str) -> None:
    """So the booking service may save its resets: it calls these functions, and no others."""
    connection = await asyncpg.connect(booking_dsn)
    try:
        bodies = await connection.fetch(
            "SELECT p.proname, p.prosrc, p.proconfig FROM pg_proc p "
            "JOIN pg_language l ON l.oid = p.prolang WHERE l.lanname NOT IN ('internal', 'c') "
            "AND p.pronamespace NOT IN ('pg_catalog'::regnamespace, "
            "'information_schema'::regnamespace)"
        )
    finally:
        await connection.close()
    assert {row["proname"] for row in bodies} >= {"refuse_change", "empty_idempotency_slot"}
    touching = [
        row["proname"]
        for row in bodies
        if any(
            word in row["prosrc"].lower()
            for word in (
                "set_config",
                "advisory",
                "listen",
                "temp ",
                "temporary",
                "prepare",
                "set ",
            )
        )
    ]
    assert touching == []


def test_statements_of_the_booking_service_need_no_reset() -> None:
    stateful = [name for name, query in QUERIES.items() if query.session_state]
    # The relay's, on a connection of its own beside the pool.
    assert stateful == ["outbox.try_lead"]


@pytest.mark.parametrize("unit", ["/*", "--\n", "; ", ";--", ";/*", "/* */", " ", "set_config("])
def test_searching_for_session_state_takes_linear_time(unit: str) -> None:
    # A quadratic search of this length would take minutes, and the test's time limit is one.
    leaves_session_state(unit * 300_000)


async def _discard(_: bytes) -> None:
    """An output of COPY that keeps nothing."""
