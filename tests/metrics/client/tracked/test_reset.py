"""What is taken back beyond asyncpg's own reset never fails a release, and where it cannot be,
nobody gets the connection; callbacks of the pool are no way around either.
"""

from __future__ import annotations

import contextlib
import re
import secrets
from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import pytest

from metrics_service.client.tracked import TrackedConnection, TrackedPool, connect
from tests.metrics.client.recording import Recording

EITHER = pytest.mark.parametrize("always", [True, False])
PREPARED = "SELECT count(*) FROM pg_prepared_statements WHERE from_sql"


@contextlib.asynccontextmanager
async def guest_pool(dsn: str, revoked: str, always: bool) -> AsyncIterator[TrackedPool]:
    """A pool of one connection, of a role that is no superuser, after this REVOKE in its database;
    always is reset_on_release.
    """
    guest = f"guest{secrets.token_hex(8)}"
    owner = await asyncpg.connect(dsn)
    try:
        await owner.execute(f"CREATE ROLE {guest} LOGIN PASSWORD '{guest}'; {revoked}")
        own = re.sub("//.*@", f"//{guest}:{guest}@", dsn)
        async with TrackedPool(own, max_size=1, reset_on_release=always) as pool:
            yield pool
        await owner.execute(f"DROP OWNED BY {guest}; DROP ROLE {guest}")
    finally:
        await owner.close()


def single(dsn: str, **options: Any) -> TrackedPool:
    return TrackedPool(dsn, max_size=1, **options)


@EITHER
async def test_a_release_needs_no_procedural_language(empty_dsn: str, always: bool) -> None:
    revoked = "REVOKE USAGE ON LANGUAGE plpgsql FROM PUBLIC"
    async with guest_pool(empty_dsn, revoked, always) as pool:
        async with pool.acquire() as connection:
            pid = connection.get_server_pid()
            await connection.execute('PREPARE "a ""quoted; b" AS SELECT 1; PREPARE c AS SELECT 2')
            await connection.execute("CREATE TEMP TABLE t (a int)")
        async with pool.acquire() as connection:
            assert connection.get_server_pid() == pid
            assert await connection.fetchval(PREPARED) == 0
            assert await connection.fetchval("SELECT to_regclass('t')") is None


@EITHER
async def test_a_session_that_cannot_be_undone_is_not_reused(empty_dsn: str, always: bool) -> None:
    revoked = "REVOKE SELECT ON pg_prepared_statements FROM PUBLIC"
    async with guest_pool(empty_dsn, revoked, always) as pool:
        async with pool.acquire() as connection:
            pid = connection.get_server_pid()
            await connection.execute("PREPARE p AS SELECT 1")
        async with pool.acquire() as connection:
            assert connection.get_server_pid() != pid
            with pytest.raises(asyncpg.InvalidSQLStatementNameError):
                await connection.execute("EXECUTE p")


async def test_a_manual_reset_that_cannot_undo_everything_leaves_the_connection_to_its_user(
    empty_dsn: str,
) -> None:
    revoked = "REVOKE SELECT ON pg_prepared_statements FROM PUBLIC"
    async with guest_pool(empty_dsn, revoked, False) as pool:
        async with pool.acquire() as connection:
            pid = connection.get_server_pid()
            await connection.execute("PREPARE p AS SELECT 1")
            await connection.reset()
            assert await connection.fetchval("SELECT pg_backend_pid()") == pid
        assert await pool.fetchval("SELECT pg_backend_pid()") != pid


async def test_a_release_that_times_out_does_not_raise(
    empty_dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def slowly(self: TrackedConnection) -> bool:
        await self.execute("SELECT pg_sleep(60)")
        return True

    monkeypatch.setattr(TrackedConnection, "_take_back", slowly)
    async with single(empty_dsn) as pool:
        connection = await pool.acquire()
        pid = connection.get_server_pid()
        await connection.execute("SET work_mem = '7MB'")
        await pool.release(connection, timeout=1.0)
        assert await pool.fetchval("SELECT pg_backend_pid()") != pid


async def test_each_step_of_a_reset_is_internal(empty_dsn: str) -> None:
    sink = Recording()
    async with single(empty_dsn, sinks=[sink]) as pool:
        sink.clear()
        await pool.execute("SET work_mem = '7MB'")
        labels = [kept.label for kept in sink.all if kept.record.internal]
        assert labels[0] == "pool.reset"
        assert set(labels[1:]) == {"pool.take_back"}
        assert len(sink.user) == 1


async def test_a_reset_without_a_pool_undoes_the_session_too(empty_dsn: str) -> None:
    pool = single(empty_dsn)
    connection = await connect(empty_dsn, tracker=pool.tracker)
    try:
        await connection.execute("PREPARE p AS SELECT 1; CREATE TEMP TABLE t (a int)")
        await connection.reset()
        assert await connection.fetchval("SELECT to_regclass('t')") is None
        with pytest.raises(asyncpg.InvalidSQLStatementNameError):
            await connection.execute("EXECUTE p")
    finally:
        await connection.close()


@pytest.mark.parametrize("call", ["execute", "fetch", "prepared", "cursor"])
async def test_the_next_caller_does_not_get_what_a_conditional_setup_set(
    empty_dsn: str, call: str
) -> None:
    tenants = ["a", None]
    setting = "SELECT set_config('app.tenant', $1, $2)"

    async def setup(connection: asyncpg.Connection[asyncpg.Record]) -> None:
        tenant = tenants.pop(0)
        if tenant is None:
            return
        if call == "execute":
            await connection.execute(f"SET app.tenant = '{tenant}'")
        elif call == "fetch":
            await connection.fetch(setting, tenant, False)
        elif call == "prepared":
            await (await connection.prepare(setting)).fetch(tenant, False)
        else:
            async with connection.transaction():
                assert [row async for row in connection.cursor(setting, tenant, False)]

    async with single(empty_dsn, reset_on_release=False, setup=setup) as pool:
        current = "SELECT coalesce(current_setting('app.tenant', true), '')"
        assert await pool.fetchval(current) == "a"
        assert await pool.fetchval(current) == ""
        assert pool.get_size() == 1


async def test_a_setup_that_leaves_nothing_needs_no_reset(empty_dsn: str) -> None:
    sink = Recording()

    async def setup(connection: asyncpg.Connection[asyncpg.Record]) -> None:
        async with connection.transaction():
            await connection.execute("SET LOCAL work_mem = '1MB'")
            await connection.fetchval("SELECT 1")

    async with single(empty_dsn, reset_on_release=False, setup=setup, sinks=[sink]) as pool:
        await pool.fetchval("SELECT 1")
        await pool.fetchval("SELECT 1")
    assert sink.labelled("pool.reset") == []


async def test_settings_of_init_stay_until_the_first_reset_as_with_asyncpg(empty_dsn: str) -> None:
    async def init(connection: asyncpg.Connection[asyncpg.Record]) -> None:
        await connection.execute("SET work_mem = '7MB'")

    async with single(empty_dsn, reset_on_release=False, init=init) as pool:
        for _ in range(3):
            assert await pool.fetchval("SHOW work_mem") == "7MB"
        await pool.execute("SET app.mine = 'x'")
        assert await pool.fetchval("SHOW work_mem") == "4MB"
    async with asyncpg.create_pool(empty_dsn, min_size=1, max_size=1, init=init) as plain:
        assert await plain.fetchval("SHOW work_mem") == "7MB"
        assert await plain.fetchval("SHOW work_mem") == "4MB"


@EITHER
async def test_every_caller_has_what_init_made_except_settings(
    empty_dsn: str, always: bool
) -> None:
    role = f"role{secrets.token_hex(8)}"

    async def init(connection: asyncpg.Connection[asyncpg.Record]) -> None:
        await connection.execute("CREATE TEMP TABLE mine (a int)")
        await connection.execute(f"SET ROLE {role}")

    owner = await asyncpg.connect(empty_dsn)
    await owner.execute(f"CREATE ROLE {role}")
    try:
        seen = "SELECT current_user || ' ' || (to_regclass('mine') IS NOT NULL)"
        async with single(empty_dsn, reset_on_release=always, init=init) as pool:
            for _ in range(2):
                assert await pool.fetchval(seen) == f"{role} true"
                await pool.execute("SET app.mine = 'x'")
                assert await pool.fetchval("SELECT current_setting('app.mine', true)") in (None, "")
    finally:
        await owner.execute(f"DROP OWNED BY {role}; DROP ROLE {role}")
        await owner.close()
