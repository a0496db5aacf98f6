"""The command line of booking_service: serve, check the settings, and change the database.

A failure is one line on standard error and an exit status - 2 for settings, 1 for the rest - never
a traceback.
"""

from __future__ import annotations

import sys
from functools import partial
from typing import Final

import typer
from rich.console import Console
from rich.table import Column, Table

from booking_service.cli import indexes, lane
from booking_service.cli.indexes import IndexState
from booking_service.cli.shared import (
    database_url,
    load_settings,
    on_database,
    one_line_errors,
)
from booking_service.server import serve as run_service
from servicekit import logs
from servicekit.database_url import address
from servicekit.migrations import migrate as apply_migrations
from servicekit.migrations import rollback as roll_back_newest
from servicekit.start import run

WIDE_COLUMNS: Final = 140

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)
app.add_typer(lane.app, name="lane")


@app.command()
def serve() -> None:
    """Serve until Ctrl-C or SIGTERM."""
    settings = load_settings()
    logs.configure(settings.log_format, settings.log_level)
    raise typer.Exit(run(lambda stop: run_service(settings, stop), uvloop=settings.uvloop))


@app.command("check-config")
def check_config() -> None:
    """Check the settings without starting anything."""
    settings = load_settings()
    print(f"settings are good; would serve on {settings.host}:{settings.port}")


@app.command()
def migrate() -> None:
    """Create the database if it is missing and apply every migration."""
    with one_line_errors():
        url = database_url()
        applied = apply_migrations(url, indexes.FOLDER)
        rebuilt = on_database(partial(indexes.repair, also_missing=True))
    print(f"{address(url)}: {len(applied)} migrations applied")
    _print_rebuilt(rebuilt)


@app.command()
def rollback() -> None:
    """Roll back the newest migration."""
    with one_line_errors():
        rolled_back = roll_back_newest(database_url(), indexes.FOLDER)
    print(f"rolled back {rolled_back[0]}" if rolled_back else "no migration is applied")


@app.command("indexes-down")
def indexes_down() -> None:
    """Drop the fifteen indexes; nothing else changes."""
    with one_line_errors():
        on_database(indexes.take_down)
        print(_summary(on_database(indexes.states)))


@app.command("indexes-up")
def indexes_up() -> None:
    """Create the fifteen indexes while the service runs."""
    with one_line_errors():
        _print_rebuilt(on_database(indexes.put_up))
        print(_summary(on_database(indexes.states)))


@app.command("verify-indexes")
def verify_indexes() -> None:
    """Show each of the fifteen, and any other index that is not valid; rebuild what a killed build
    left invalid; status 1 if any is missing.
    """
    every = partial(indexes.states, every=True)
    with one_line_errors():
        found = on_database(every)
        if any(state.present and not state.valid and not state.building for state in found):
            _print_rebuilt(on_database(indexes.repair))
            found = on_database(every)
    fifteen = [state for state in found if state.name in indexes.names()]
    # Nothing is cut off when the output is not a terminal.
    shown = [state for state in found if state in fifteen or not state.valid]
    Console(width=None if sys.stdout.isatty() else WIDE_COLUMNS).print(_table(shown))
    print(_summary(fifteen))
    if not all(state.valid for state in found):
        print("indexes are missing: run `make indexes-up`", file=sys.stderr)
        raise typer.Exit(1)


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
