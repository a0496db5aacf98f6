"""The fifteen indexes: what there is, what is valid, and how a broken one is built anew.

Their definitions are the migration files alone; no rule of uniqueness lives in them, so that they
can be taken away and put back under load.
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
"""Index migrations are numbered from here on, above those of all tables to come."""

BUILD_TIMEOUT_S: Final = 24 * 3600.0

# Whoever builds an index waits as long as it takes.
_SETTINGS: Final = {"statement_timeout": "0"}
_FILE = re.compile(r"9\d{3}_(idx_\w+)\.sql")
_SQL = QueryGroup("indexes")


@dataclass(frozen=True, slots=True)
class IndexState:
    """One index as it is; `scans` since statistics were last reset, `serves` from its comment."""

    name: str
    present: bool
    valid: bool
    building: bool
    size_bytes: int
    scans: int
    serves: str


def names() -> list[str]:
    """The indexes that there should be, in the order of their files."""
    found = (_FILE.fullmatch(path.name) for path in sorted(FOLDER.glob("9*.sql")))
    return [match[1] for match in found if match]


async def states(database: Database) -> list[IndexState]:
    """Every index that there should be. Raises what Database does."""
    connection = await database.connect("indexes")
    try:
        return await _states(connection)
    finally:
        connection.terminate()


async def repair(database: Database, *, also_missing: bool = False) -> list[str]:
    """Build anew what a killed build left invalid, and, if asked, what is missing though its
    migration is applied; writes go on meanwhile.

    Returns their names. One that somebody is building now is left alone.
    """
    connection = await database.connect("indexes", settings=_SETTINGS)
    try:
        broken = [
            state.name
            for state in await _states(connection)
            if not state.valid and not state.building and (state.present or also_missing)
        ]
        for name in broken:
            [path] = FOLDER.glob(f"9*_{name}.sql")
            up, down = _sections(path)
            # Each by itself: neither runs inside a transaction.
            for statement in (down, up):
                with translate_driver_errors():
                    await connection.execute(statement, timeout=BUILD_TIMEOUT_S)
        if broken and all(state.valid for state in await _states(connection)):
            # Comments went with the indexes.
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


async def _states(connection: OwnConnection) -> list[IndexState]:
    with translate_driver_errors():
        rows = await connection.fetch(_SQL.states, names())
    return [IndexState(**row) for row in rows]


async def _newest_migration(database: Database) -> str:
    connection = await database.connect("indexes")
    try:
        with translate_driver_errors():
            version: str | None = await connection.fetchval(_SQL.newest_migration)
        return version or ""
    finally:
        connection.terminate()


def _sections(path: Path) -> tuple[str, str]:
    """The statements of a dbmate file: up and down."""
    _, up, down = re.split(r"^-- migrate:(?:up|down).*$", path.read_text("utf-8"), flags=re.M)
    return up.strip(), down.strip()
