"""Commands for whoever runs the database: migrations and indexes, with a way back for each."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import typer
from rich.console import Console
from rich.table import Column, Table

from booking_service.admin import indexes
from booking_service.admin.indexes import IndexState
from booking_service.config import BookingSettings
from booking_service.storage.database import Database, address
from booking_service.storage.driver_errors import DatabaseError, DatabaseUnavailable
from servicekit.migrations import migrate as apply_migrations
from servicekit.migrations import rollback as take_back_migration
from servicekit.settings import SettingsError
from servicekit.start import StartError

T = TypeVar("T")

WIDE_COLUMNS = 140

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)


@app.command()
def migrate() -> None:
    """Create the database if it is missing and apply every migration."""
    with _one_line_errors():
        url = _url()
        applied = apply_migrations(url, indexes.FOLDER)
        rebuilt = _run(indexes.repair)
    print(f"{address(url)}: {len(applied)} migrations applied")
    _say_rebuilt(rebuilt)


@app.command()
def rollback() -> None:
    """Take back the newest migration, one step."""
    with _one_line_errors():
        taken_back = take_back_migration(_url(), indexes.FOLDER)
    print(f"rolled back {taken_back[0]}" if taken_back else "no migration is applied")


@app.command("indexes-down")
def indexes_down() -> None:
    """Drop the fifteen indexes; nothing else changes."""
    with _one_line_errors():
        _run(indexes.take_down)
        print(_summary(_run(indexes.states)))


@app.command("indexes-up")
def indexes_up() -> None:
    """Create the fifteen indexes while the service runs."""
    with _one_line_errors():
        _say_rebuilt(_run(indexes.put_up))
        print(_summary(_run(indexes.states)))


@app.command("verify-indexes")
def verify_indexes() -> None:
    """Show each index, and rebuild what a killed build left invalid; status 1 if any is missing."""
    with _one_line_errors():
        found = _run(indexes.states)
        if any(state.present and not state.valid and not state.building for state in found):
            _say_rebuilt(_run(indexes.repair))
            found = _run(indexes.states)
    # Nothing is cut where there is no screen that would be too narrow.
    Console(width=None if sys.stdout.isatty() else WIDE_COLUMNS).print(_table(found))
    print(_summary(found))
    if not all(state.valid for state in found):
        print("indexes are missing: run `make indexes-up`", file=sys.stderr)
        raise typer.Exit(1)


def _url() -> str:
    return BookingSettings.load().database_url


def _run(work: Callable[[Database], Awaitable[T]]) -> T:
    database = Database(_url(), application_name="booking_admin")

    async def run() -> T:
        return await work(database)

    return asyncio.run(run())


@contextmanager
def _one_line_errors() -> Iterator[None]:
    """What the person at the keyboard can put right is one line and an exit status."""
    try:
        yield
    except SettingsError as error:
        print(error, file=sys.stderr)
        raise typer.Exit(2) from None
    except (StartError, DatabaseUnavailable, DatabaseError) as error:
        print(error, file=sys.stderr)
        raise typer.Exit(1) from None


def _say_rebuilt(names: list[str]) -> None:
    for name in names:
        print(f"rebuilt {name}")


def _summary(found: list[IndexState]) -> str:
    present = sum(state.present for state in found)
    valid = sum(state.valid for state in found)
    return f"{present} of {len(found)} indexes present, {valid} valid"


def _table(found: list[IndexState]) -> Table:
    table = Table(Column("index", no_wrap=True), "present", "valid", "size", "scans", "serves")
    for state in found:
        valid = "building" if state.building else _yes(state.valid)
        size = f"{state.size_bytes / 1024:.0f} kB" if state.present else ""
        scans = str(state.scans) if state.present else ""
        table.add_row(state.name, _yes(state.present), valid, size, scans, state.serves)
    return table


def _yes(value: bool) -> str:
    return "yes" if value else "no"
