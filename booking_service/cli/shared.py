"""What every command needs: the settings, the database, and errors as one line."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import typer

from booking_service.config import BookingSettings
from booking_service.storage.database import Database
from booking_service.storage.driver_errors import DatabaseError, DatabaseUnavailable
from servicekit.client_settings import checked
from servicekit.server import check_files
from servicekit.settings import SettingsError
from servicekit.start import StartError, fail

T = TypeVar("T")


def load_settings() -> BookingSettings:
    """Load the settings; ends the program with status 2 where they cannot be used."""
    try:
        settings = BookingSettings.load()
        check_files(settings)
        checked(settings.metrics_files)
        return settings
    except SettingsError as error:
        raise typer.Exit(fail(error)) from None


def database_url() -> str:
    """Return the address of the booking database, as in `load_settings`."""
    return load_settings().database_url


def on_database(work: Callable[[Database], Awaitable[T]]) -> T:
    """Run work on the booking database and return its result."""
    database = Database(database_url(), application_name="booking_admin")

    async def run() -> T:
        return await work(database)

    return asyncio.run(run())


@contextmanager
def one_line_errors(*further: type[Exception]) -> Iterator[None]:
    """Turn errors that a user can correct, and further ones, into one line and an exit status."""
    correctable: tuple[type[Exception], ...] = (DatabaseUnavailable, DatabaseError, *further)
    try:
        yield
    except StartError as error:
        raise typer.Exit(fail(error)) from None
    except correctable as error:
        print(error, file=sys.stderr)
        raise typer.Exit(1) from None
