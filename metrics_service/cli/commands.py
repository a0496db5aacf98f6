"""The command line of metrics_service: a failure is one line on standard error and an exit status,
never a traceback.
"""

from __future__ import annotations

import asyncio
import json
import logging
import sys
from http.client import HTTPException
from typing import Annotated, Final
from urllib.error import HTTPError, URLError
from urllib.request import HTTPSHandler, ProxyHandler, build_opener

import typer
from rich.console import Console

from metrics_service.alerts.service import read_rules
from metrics_service.cli import history
from metrics_service.cli.deploy import deploy
from metrics_service.cli.plain import plain
from metrics_service.cli.watch import watch as show
from metrics_service.config import MetricsSettings
from metrics_service.eventlog.correct_time import NotCorrectedError, correct_time
from metrics_service.server import serve as run_service
from metrics_service.storage.connections import TROUBLE
from metrics_service.storage.errors import LogNotReadyError, line_of
from servicekit import logs
from servicekit.channels import ClientFiles
from servicekit.client_settings import client_files
from servicekit.server import check_files
from servicekit.settings import SettingsError
from servicekit.start import fail, run

TIMEOUT_S: Final = 5.0

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)
app.add_typer(deploy, name="deploy")
app.add_typer(history.app, name="history")

Host = Annotated[str, typer.Option(help="Host that the service runs on.")]
Port = Annotated[int, typer.Option(envvar="METRICS_PORT", min=1, max=65535)]
HttpPort = Annotated[int, typer.Option(envvar="METRICS_HTTP_PORT", min=1, max=65535)]


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
    print(
        f"settings are good: gRPC {settings.host}:{settings.port}, HTTP port {settings.http_port}"
    )


@app.command("correct-time")
def correct() -> None:
    """Date records of a wrong clock up to now, with the service stopped and the clock right."""
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


@app.command()
def watch(host: Host = "127.0.0.1", port: Port = 50052) -> None:
    """Show funnel, bookings, queries and health live in the terminal; Ctrl-C ends it."""
    # Without a handler, gRPC would write a traceback over the view for an answer it cannot read.
    logging.getLogger("grpc").addHandler(logging.NullHandler())
    files = _client_files()
    raise typer.Exit(run(lambda stop: show(f"{host}:{port}", stop, files=files), uvloop=False))


@app.command()
def health(host: Host = "127.0.0.1", port: HttpPort = 8080) -> None:
    """Print GET /api/health/database; the exit status is 0 for healthy and degraded."""
    raise typer.Exit(0 if _show(host, port, "/api/health/database") == 200 else 1)


@app.command()
def metrics(host: Host = "127.0.0.1", port: HttpPort = 8080) -> None:
    """Print GET /api/metrics/bookings."""
    raise typer.Exit(0 if _show(host, port, "/api/metrics/bookings") == 200 else 1)


def _settings() -> MetricsSettings:
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


def _show(host: str, port: int, path: str) -> int:
    """Print the JSON of an address; returns the HTTP status, 0 without an answer."""
    files = _client_files()
    context = files.context()
    address = f"{'http' if context is None else 'https'}://{host}:{port}{path}"
    opener = build_opener(ProxyHandler({}), HTTPSHandler(context=context))
    if token := files.bearer():
        opener.addheaders = [("Authorization", f"Bearer {token}")]
    try:
        with opener.open(address, timeout=TIMEOUT_S) as answer:
            status, body = int(answer.status), answer.read()
    except HTTPError as error:
        status, body = error.code, error.read()
    except (URLError, HTTPException, OSError, ValueError) as error:
        reason = getattr(error, "reason", error)
        print(f"{address} is not reachable: {plain(str(reason))}", file=sys.stderr)
        return 0
    try:
        # Only ASCII: other characters may control the terminal, and show as their codes.
        Console().print_json(data=json.loads(body), ensure_ascii=True)
    except (ValueError, RecursionError):
        print(f"{address} answered {status} without JSON", file=sys.stderr)
        return 0
    return status
