"""The commands of the process itself: serve, check the settings, mend the times of the log; and
what it answers over HTTP.

Each command imports what it runs: the others need none of it, which takes a second to import.
"""

from __future__ import annotations

import asyncio
import json
import sys
from typing import TYPE_CHECKING, Annotated, Final

import typer
from rich.console import Console

from metrics_service.cli.asking import REFUSED, UNREACHABLE, NotReachableError
from metrics_service.cli.http import fetch
from metrics_service.cli.plain import plain
from servicekit.channels import ClientFiles
from servicekit.client_settings import client_files
from servicekit.settings import SettingsError
from servicekit.start import fail, run

if TYPE_CHECKING:
    from metrics_service.config import MetricsSettings

NO_ANSWER: Final = 0

_STATUS: Final = {200: 0, NO_ANSWER: UNREACHABLE}

Host = Annotated[str, typer.Option(help="Host that the service runs on.")]
HttpPort = Annotated[int, typer.Option(envvar="METRICS_HTTP_PORT", min=1, max=65535)]


def serve() -> None:
    """Serve until Ctrl-C or SIGTERM."""
    from metrics_service.server import serve as run_service
    from servicekit import logs

    settings = _settings()
    logs.configure(settings.log_format, settings.log_level)
    raise typer.Exit(run(lambda stop: run_service(settings, stop), uvloop=settings.uvloop))


def check_config() -> None:
    """Check the settings without starting anything."""
    settings = _settings()
    print(
        f"settings are good: gRPC {settings.host}:{settings.port}, HTTP port {settings.http_port}"
    )


def correct() -> None:
    """Date records of a wrong clock up to now, with the service stopped and the clock right."""
    from metrics_service.eventlog.correct_time import NotCorrectedError, correct_time
    from metrics_service.storage.connections import TROUBLE
    from metrics_service.storage.errors import LogNotReadyError, line_of

    settings = _settings()
    try:
        done = asyncio.run(correct_time(settings.database_url))
    except (NotCorrectedError, LogNotReadyError, *TROUBLE) as error:
        print(f"the times are left as they are: {line_of(error)}", file=sys.stderr)
        raise typer.Exit(1) from None
    print(f"{done.records} records were dated ahead, by {done.ahead} at most; they are corrected")
    print(
        "the next start folds the whole log again"
        if done.refold
        else "the windows go on from now; figures of all times are as they were"
    )


def health(host: Host = "127.0.0.1", port: HttpPort = 8080) -> None:
    """Print GET /api/health/database; the exit status is 0 for healthy and degraded."""
    raise typer.Exit(_STATUS.get(show(host, port, "/api/health/database"), REFUSED))


def metrics(host: Host = "127.0.0.1", port: HttpPort = 8080) -> None:
    """Print GET /api/metrics/bookings."""
    raise typer.Exit(_STATUS.get(show(host, port, "/api/metrics/bookings"), REFUSED))


def _settings() -> MetricsSettings:
    from metrics_service.alerts.service import read_rules
    from metrics_service.config import MetricsSettings
    from servicekit.server import check_files

    try:
        settings = MetricsSettings.load()
        check_files(settings)
        read_rules(settings)
        return settings
    except SettingsError as error:
        raise typer.Exit(fail(error)) from None


def _client_files() -> ClientFiles:
    try:
        return client_files()
    except SettingsError as error:
        raise typer.Exit(fail(error)) from None


def show(host: str, port: int, path: str) -> int:
    """Print the JSON of an address; returns the HTTP status, NO_ANSWER without one."""
    address = f"{host}:{port}"
    try:
        status, body = fetch(address, path, _client_files())
    except NotReachableError as error:
        print(error, file=sys.stderr)
        return NO_ANSWER
    try:
        # Only ASCII: other characters may control the terminal, and show as their codes.
        Console().print_json(data=json.loads(body), ensure_ascii=True)
    except (ValueError, RecursionError):
        print(f"{plain(address)}{path} answered {status} without JSON", file=sys.stderr)
        return NO_ANSWER
    return status
