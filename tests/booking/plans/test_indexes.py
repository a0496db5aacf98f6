"""The fifteen indexes go, come back, and are repaired; each command says so in a line."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from typer.testing import CliRunner, Result

from booking_service.cli import indexes
from booking_service.cli.commands import app
from booking_service.demo.run import _migrate as migrate_for_run
from booking_service.storage.database import Database
from booking_service.storage.sql import QUERIES

FIFTEEN = {
    "idx_bookings_date_range",
    "idx_bookings_package_date",
    "idx_bookings_user_date",
    "idx_bookings_created_desc",
    "idx_bookings_user_package_status",
    "idx_packages_availability",
    "idx_packages_location_dates",
    "idx_packages_popularity",
    "idx_payments_booking_status",
    "idx_payments_failed",
    "idx_reviews_package_rating",
    "idx_reviews_user_created",
    "idx_user_profiles_user",
    "idx_bookings_revenue",
    "idx_packages_vendor",
}
# Those of later RPCs, which stay when the fifteen go.
OTHERS = {
    "refunds_state",
    "refunds_vendor",
    "refunds_due",
    "vendors_created",
    "bookings_vendor_created",
    "bookings_package_confirmed",
}
ONE = "idx_bookings_user_date"


@pytest.fixture
def dsn(booking_dsn: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """The database that the commands work on."""
    monkeypatch.setenv("BOOKING_DATABASE_URL", booking_dsn)
    return booking_dsn


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, arguments)


def psql(dsn: str, *statements: str) -> object:
    """Runs statements one by one, each outside a transaction; gives the last one's value."""

    async def all_of_them() -> object:
        connection = await asyncpg.connect(dsn)
        try:
            for statement in statements[:-1]:
                await connection.execute(statement)
            return await connection.fetchval(statements[-1])
        finally:
            await connection.close()

    return asyncio.run(all_of_them())


def test_there_are_fifteen_each_in_a_file_of_its_own() -> None:
    assert set(indexes.names()) == FIFTEEN
    assert len(indexes.names()) == 15


def test_no_migration_builds_an_index_that_is_not_repaired() -> None:
    building = {
        path.name
        for path in indexes.FOLDER.glob("*.sql")
        if re.search(r"CREATE\s.*CONCURRENTLY", path.read_text(), re.IGNORECASE)
    }
    assert building == {path.name for path in indexes.files().values()}
    assert set(indexes.files()) == FIFTEEN | OTHERS
    for path in indexes.FOLDER.parent.glob("metrics/*.sql"):
        assert "CONCURRENTLY" not in path.read_text().upper()


@pytest.mark.parametrize("name", sorted(FIFTEEN))
def test_index_file_has_one_statement_each_way_and_no_rule(name: str) -> None:
    [path] = indexes.FOLDER.glob(f"9*_{name}.sql")
    text = path.read_text()
    assert text.count(";") == 2
    assert text.count("transaction:false") == 2
    assert f"CREATE INDEX CONCURRENTLY IF NOT EXISTS {name}\n" in text
    assert f"DROP INDEX CONCURRENTLY IF EXISTS {name};" in text
    assert "UNIQUE" not in text
    assert "-- Serves " in text


def test_comment_names_a_statement_that_exists(dsn: str) -> None:
    named = set()
    for state in asyncio.run(indexes.states(Database(dsn))):
        match = re.match(r"(\w+\.\w+): ", state.serves)
        assert match is not None, state.serves
        assert match[1] in QUERIES
        named.add(state.name)
    assert named == FIFTEEN


def test_down_and_up_again(dsn: str) -> None:
    down = run("indexes-down")
    assert (down.exit_code, down.output) == (0, "0 of 15 indexes present, 0 valid\n")
    assert psql(dsn, "SELECT count(*) FROM bookings") == 0
    assert run("indexes-down").output == down.output
    up = run("indexes-up")
    assert (up.exit_code, up.output) == (0, "15 of 15 indexes present, 15 valid\n")


def test_rollback_is_one_step_and_migrate_applies_what_is_missing(dsn: str) -> None:
    assert run("rollback").output == "rolled back 9016_index_comments.sql\n"
    assert run("rollback").output == "rolled back 9015_idx_packages_vendor.sql\n"
    found = asyncio.run(indexes.states(Database(dsn)))
    assert [state.name for state in found if not state.present] == ["idx_packages_vendor"]
    assert "2 migrations applied" in run("migrate").output
    assert "0 migrations applied" in run("migrate").output
    assert run("verify-indexes").exit_code == 0


def test_everything_can_be_rolled_back_and_applied_again(dsn: str) -> None:
    files = sorted(path.name for path in indexes.FOLDER.glob("*.sql"))
    for name in reversed(files):
        assert run("rollback").output == f"rolled back {name}\n"
    assert run("rollback").output == "no migration is applied\n"
    tables = "SELECT count(*) FROM pg_tables WHERE schemaname = 'public'"
    assert psql(dsn, tables) == 1
    assert run("migrate").exit_code == 0
    assert run("verify-indexes").exit_code == 0


def test_verify_shows_each_index_with_size_scans_and_what_it_serves(dsn: str) -> None:
    result = run("verify-indexes")
    assert result.exit_code == 0
    for name in FIFTEEN:
        assert name in result.output
    assert "a user's dashboard" in result.output
    assert "8 kB" in result.output
    assert "15 of 15 indexes present, 15 valid" in result.output


def test_verify_fails_for_a_missing_index_and_up_brings_it_back(dsn: str) -> None:
    # By hand, so that its migration still counts as applied.
    psql(dsn, f"DROP INDEX {ONE}", "SELECT 1")
    result = run("verify-indexes")
    assert result.exit_code == 1
    assert "14 of 15 indexes present, 14 valid" in result.output
    assert result.stderr == "indexes are missing: run `make indexes-up`\n"
    assert run("indexes-up").output == f"rebuilt {ONE}\n15 of 15 indexes present, 15 valid\n"
    [back] = [s for s in asyncio.run(indexes.states(Database(dsn))) if s.name == ONE]
    assert back.serves


@pytest.mark.parametrize("command", ["verify-indexes", "migrate", "indexes-up"])
def test_index_left_invalid_by_a_killed_build_is_rebuilt(dsn: str, command: str) -> None:
    asyncio.run(_kill_a_build(dsn))
    valid = f"SELECT indisvalid FROM pg_index WHERE indexrelid = '{ONE}'::regclass"
    assert psql(dsn, valid) is False
    result = run(command)
    assert result.exit_code == 0
    assert f"rebuilt {ONE}\n" in result.output
    assert psql(dsn, valid) is True
    assert "rebuilt" not in run("verify-indexes").output


@pytest.mark.parametrize("name", sorted(OTHERS))
def test_a_migration_that_was_killed_leaves_no_invalid_index(dsn: str, name: str) -> None:
    asyncio.run(_kill_a_build(dsn, name))
    version = indexes.files()[name].name.partition("_")[0]
    valid = f"SELECT indisvalid FROM pg_index WHERE indexrelid = '{name}'::regclass"
    forget = f"DELETE FROM schema_migrations WHERE version = '{version}'"
    assert psql(dsn, forget, valid) is False
    result = run("migrate")
    assert result.exit_code == 0
    assert "1 migrations applied" in result.output
    assert f"rebuilt {name}\n" in result.output
    assert psql(dsn, valid) is True
    assert psql(dsn, "SELECT count(*) FROM pg_index WHERE NOT indisvalid") == 0


def test_verify_shows_another_index_only_where_it_is_missing(dsn: str) -> None:
    assert "vendors_created" not in run("verify-indexes").output
    asyncio.run(_kill_a_build(dsn, "vendors_created"))
    assert "rebuilt vendors_created\n" in run("verify-indexes").output
    psql(dsn, "DROP INDEX vendors_created", "SELECT 1")
    result = run("verify-indexes")
    assert result.exit_code == 1
    assert "vendors_created" in result.output
    assert "15 of 15 indexes present, 15 valid" in result.output
    assert run("indexes-up").output.startswith("rebuilt vendors_created\n")
    assert run("verify-indexes").exit_code == 0


def test_a_run_rebuilds_what_an_ended_run_left_invalid(dsn: str, metrics_dsn: str) -> None:
    asyncio.run(_kill_a_build(dsn))
    migrate_for_run({"BOOKING_DATABASE_URL": dsn, "METRICS_DATABASE_URL": metrics_dsn})
    valid = f"SELECT indisvalid FROM pg_index WHERE indexrelid = '{ONE}'::regclass"
    assert psql(dsn, valid) is True


def test_migrate_builds_an_index_that_an_ended_rebuild_had_dropped(dsn: str) -> None:
    psql(dsn, f"DROP INDEX {ONE}", "SELECT 1")
    result = run("migrate")
    assert result.exit_code == 0
    assert f"rebuilt {ONE}\n" in result.output
    assert "15 of 15 indexes present, 15 valid" in run("verify-indexes").output


def test_index_being_built_is_left_alone(dsn: str) -> None:
    async def during_a_build() -> tuple[list[str], bool]:
        async with _Build(dsn):
            database = Database(dsn)
            rebuilt = await indexes.repair(database, also_missing=True)
            [state] = [state for state in await indexes.states(database) if state.name == ONE]
            return rebuilt, state.building

    assert asyncio.run(during_a_build()) == ([], True)


@pytest.mark.processes
@pytest.mark.parametrize(
    "command", ["migrate", "rollback", "indexes-down", "indexes-up", "verify-indexes"]
)
@pytest.mark.parametrize(
    ("url", "status", "said"),
    [
        ("postgresql://u:secret@127.0.0.1:1/booking", 1, "refused|cannot be reached"),
        ("mysql://u:secret@127.0.0.1/booking", 2, "BOOKING_DATABASE_URL"),
    ],
)
def test_a_command_that_fails_prints_one_line(
    monkeypatch: pytest.MonkeyPatch, command: str, url: str, status: int, said: str
) -> None:
    monkeypatch.setenv("BOOKING_DATABASE_URL", url)
    result = run(command)
    assert result.exit_code == status
    assert result.stdout == ""
    assert result.stderr.count("\n") == 1
    assert re.search(said, result.stderr)
    assert "secret" not in result.stderr


def test_migrate_creates_the_database(dsn: str, monkeypatch: pytest.MonkeyPatch) -> None:
    name = "created_by_migrate"
    # Without a query, as most people write it.
    url = re.sub(r"/test_\d+\?.*", f"/{name}", dsn)
    monkeypatch.setenv("BOOKING_DATABASE_URL", url)
    try:
        assert run("migrate").exit_code == 0
        assert run("verify-indexes").exit_code == 0
    finally:
        psql(dsn, f"DROP DATABASE IF EXISTS {name} WITH (FORCE)", "SELECT 1")


def test_failing_migration_is_one_line(
    dsn: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert dsn
    (tmp_path / "0099_bad.sql").write_text("-- migrate:up\nSELEC 1;\n-- migrate:down\n")
    monkeypatch.setattr(indexes, "FOLDER", tmp_path)
    result = run("migrate")
    assert result.exit_code == 1
    assert "syntax error" in result.stderr
    assert result.stderr.count("\n") == 1


class _Build:
    """A concurrent build of an index that has begun and cannot end, since a transaction is open."""

    def __init__(self, dsn: str, name: str = ONE) -> None:
        self._dsn = dsn
        self._name = name

    async def __aenter__(self) -> int:
        self._old = await asyncpg.connect(self._dsn)
        self._builder = await asyncpg.connect(self._dsn)
        index: Any = await self._builder.fetchrow(
            "SELECT tablename, indexdef FROM pg_indexes WHERE indexname = $1", self._name
        )
        await self._builder.execute(f"DROP INDEX {self._name}")
        self._transaction = self._old.transaction()
        await self._transaction.start()
        await self._old.execute(f"LOCK TABLE {index['tablename']} IN ROW EXCLUSIVE MODE")
        pid = int(await self._builder.fetchval("SELECT pg_backend_pid()"))
        statement = index["indexdef"].replace("CREATE INDEX", "CREATE INDEX CONCURRENTLY")
        self._build = asyncio.create_task(self._builder.execute(statement))
        async with asyncio.timeout(30):
            while True:
                if await self._old.fetchval(
                    "SELECT wait_event_type = 'Lock' FROM pg_stat_activity WHERE pid = $1", pid
                ):
                    return pid
                await asyncio.sleep(0.01)

    async def __aexit__(self, *error: object) -> None:
        await self._transaction.rollback()
        await asyncio.gather(self._build, return_exceptions=True)
        await self._old.close()
        await self._builder.close()


async def _kill_a_build(dsn: str, name: str = ONE) -> None:
    async with _Build(dsn, name) as pid:
        killer = await asyncpg.connect(dsn)
        await killer.execute("SELECT pg_terminate_backend($1, 5000)", pid)
        await killer.close()
