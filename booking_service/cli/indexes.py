"""The fifteen indexes: reads their states, drops them, creates them, and repairs invalid ones; it
repairs every other index too whose migration builds it while the service runs.

The migration files are their only definitions. None enforces uniqueness, so that all can be dropped
and created again under load.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from booking_service.storage.connection import OwnConnection
from booking_service.storage.database import Database
from booking_service.storage.driver_errors import translate_driver_errors
from booking_service.storage.sql import QueryGroup
from servicekit.migrations import MIGRATIONS, migrate, rollback

FOLDER: Final = MIGRATIONS / "booking"
FIRST_VERSION: Final = "9000"
"""The lowest version of an index migration; migrations of tables are below it."""

BUILD_TIMEOUT_S: Final = 24 * 3600.0

# Building an index has no time limit on the server.
_SETTINGS: Final = {"statement_timeout": "0"}
# Such a build, when it is killed, leaves an index behind that is invalid.
_BUILD: Final = re.compile(r"^CREATE INDEX CONCURRENTLY IF NOT EXISTS (\w+)", re.MULTILINE)
_INDEXES: Final = QueryGroup("indexes")


@dataclass(frozen=True, slots=True)
class IndexState:
    """The state of an index; `scans` since statistics were reset, `serves` from its comment."""

    name: str
    present: bool
    valid: bool
    building: bool
    size_bytes: int
    scans: int
    serves: str


def names() -> list[str]:
    """Return the names of the fifteen, in the order of their files."""
    return [name for name, path in files().items() if path.name >= FIRST_VERSION]


def files() -> dict[str, Path]:
    """Return the migration of each index that is built while the service runs, in their order."""
    return {
        match[1]: path
        for path in sorted(FOLDER.glob("*.sql"))
        if (match := _BUILD.search(path.read_text("utf-8")))
    }


async def states(database: Database, *, every: bool = False) -> list[IndexState]:
    """Return the state of each of the fifteen, or of `every` index of files(). Raises what Database
    raises.
    """
    connection = await database.connect("indexes")
    try:
        return await _states(connection, list(files()) if every else names())
    finally:
        connection.terminate()


async def repair(database: Database, *, also_missing: bool = False) -> list[str]:
    """Rebuild indexes that a killed build left invalid; writes continue meanwhile.

    With `also_missing`, create those too that are missing although their migration is applied.
    An index that another session is building is left alone. Returns the names of those built.
    """
    connection = await database.connect("indexes", settings=_SETTINGS)
    built = files()
    try:
        broken = [
            state.name
            for state in await _states(connection, list(built))
            if not state.valid and not state.building and (state.present or also_missing)
        ]
        for name in broken:
            up, down = _sections(built[name])
            # Separately, since neither may run inside a transaction.
            for statement in (down, up):
                with translate_driver_errors():
                    await connection.execute(statement, timeout=BUILD_TIMEOUT_S)
        if broken and all(state.valid for state in await _states(connection, names())):
            # Comments were dropped with the indexes.
            [path] = FOLDER.glob("9*_index_comments.sql")
            with translate_driver_errors():
                await connection.execute(_sections(path)[0], timeout=BUILD_TIMEOUT_S)
    finally:
        connection.terminate()
    return broken


async def take_down(database: Database) -> None:
    """Roll back every index migration, newest first. Raises StartError."""
    for _ in list(FOLDER.glob("9*.sql")):
        if await _newest_migration(database) < FIRST_VERSION:
            break
        rollback(database.dsn, FOLDER)


async def put_up(database: Database) -> list[str]:
    """Apply every migration that is missing, then `repair`. Raises StartError."""
    migrate(database.dsn, FOLDER)
    return await repair(database, also_missing=True)


async def _states(connection: OwnConnection, wanted: list[str]) -> list[IndexState]:
    with translate_driver_errors():
        rows = await connection.fetch(_INDEXES.states, wanted)
    return [IndexState(**row) for row in rows]


async def _newest_migration(database: Database) -> str:
    connection = await database.connect("indexes")
    try:
        with translate_driver_errors():
            version: str | None = await connection.fetchval(_INDEXES.newest_migration)
        return version or ""
    finally:
        connection.terminate()


def _sections(path: Path) -> tuple[str, str]:
    """Return the statements of a dbmate file: up and down."""
    _, up, down = re.split(r"^-- migrate:(?:up|down).*$", path.read_text("utf-8"), flags=re.M)
    return up.strip(), down.strip()
