"""The command line of booking_service: serve, check the settings, and change the database.

A failure is one line on standard error and an exit status - 2 for settings, 1 for the rest - never
a traceback.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Final, TypeVar

import typer
from rich.console import Console
from rich.table import Column, Table

from booking_service.cli import indexes
from booking_service.cli.indexes import IndexState
from booking_service.config import BookingSettings
from booking_service.server import serve as run_service
from booking_service.storage.database import Database
from booking_service.storage.driver_errors import DatabaseError, DatabaseUnavailable
from servicekit import logs, tls
from servicekit.database_url import address
from servicekit.migrations import migrate as apply_migrations
from servicekit.migrations import rollback as roll_back_newest
from servicekit.settings import SettingsError
from servicekit.start import StartError, fail, run

T = TypeVar("T")

WIDE_COLUMNS: Final = 140

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)


@app.command()
def serve() -> None:
    """Serve until Ctrl-C or SIGTERM."""
    settings = _settings()
    logs.configure(settings.log_format, settings.log_level)
    raise typer.Exit(run(lambda stop: run_service(settings, stop), uvloop=settings.uvloop))


@app.command("check-config")
def check_config() -> None:
    """Check the settings without starting anything."""
    settings = _settings()
    print(f"settings are good; would serve on {settings.host}:{settings.port}")


@app.command()
def migrate() -> None:
    """Create the database if it is missing and apply every migration."""
    with _one_line_errors():
        url = _url()
        applied = apply_migrations(url, indexes.FOLDER)
        rebuilt = _on_database(partial(indexes.repair, also_missing=True))
    print(f"{address(url)}: {len(applied)} migrations applied")
    _print_rebuilt(rebuilt)


@app.command()
def rollback() -> None:
    """Roll back the newest migration."""
    with _one_line_errors():
        rolled_back = roll_back_newest(_url(), indexes.FOLDER)
    print(f"rolled back {rolled_back[0]}" if rolled_back else "no migration is applied")


@app.command("indexes-down")
def indexes_down() -> None:
    """Drop the fifteen indexes; nothing else changes."""
    with _one_line_errors():
        _on_database(indexes.take_down)
        print(_summary(_on_database(indexes.states)))


@app.command("indexes-up")
def indexes_up() -> None:
    """Create the fifteen indexes while the service runs."""
    with _one_line_errors():
        _print_rebuilt(_on_database(indexes.put_up))
        print(_summary(_on_database(indexes.states)))


@app.command("verify-indexes")
def verify_indexes() -> None:
    """Show each index, and rebuild what a killed build left invalid; status 1 if any is missing."""
    with _one_line_errors():
        found = _on_database(indexes.states)
        if any(state.present and not state.valid and not state.building for state in found):
            _print_rebuilt(_on_database(indexes.repair))
            found = _on_database(indexes.states)
    # Nothing is cut off when the output is not a terminal.
    Console(width=None if sys.stdout.isatty() else WIDE_COLUMNS).print(_table(found))
    print(_summary(found))
    if not all(state.valid for state in found):
        print("indexes are missing: run `make indexes-up`", file=sys.stderr)
        raise typer.Exit(1)


def _settings() -> BookingSettings:
    try:
        settings = BookingSettings.load()
        tls.credentials(settings)
        return settings
    except SettingsError as error:
        raise typer.Exit(fail(error)) from None


def _url() -> str:
    return _settings().database_url


def _on_database(work: Callable[[Database], Awaitable[T]]) -> T:
    database = Database(_url(), application_name="booking_admin")

    async def run() -> T:
        return await work(database)

    return asyncio.run(run())


@contextmanager
def _one_line_errors() -> Iterator[None]:
    """Turn the errors that a user can correct into one line and an exit status."""
    try:
        yield
    except StartError as error:
        raise typer.Exit(fail(error)) from None
    except (DatabaseUnavailable, DatabaseError) as error:
        print(error, file=sys.stderr)
        raise typer.Exit(1) from None


def _print_rebuilt(names: list[str]) -> None:
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
