"""`doctor`: asks everything that the checks need, and lists what they found."""

from __future__ import annotations

import asyncio
import os
import time
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as version_of
from typing import Annotated, Final, NoReturn

import typer

from metrics_service.cli.asking import NotReachableError, Service, booking_serves
from metrics_service.cli.doctor import checks
from metrics_service.cli.doctor.finding import Finding, State, bad, good, not_known
from metrics_service.cli.http import fetch
from metrics_service.cli.options import ASK, PRINT, REPEAT, Options, shared
from metrics_service.cli.output import cells
from metrics_service.cli.output.sheet import BAD, GOOD, UNDECIDED, Column, Sheet, View
from metrics_service.cli.running import show
from metrics_service.web.encode import Json
from protos.metrics.v1.alert_pb2 import ListAlertsRequest, ListAlertsResponse
from protos.metrics.v1.health_pb2 import DatabaseHealth, GetDatabaseHealthRequest
from servicekit.channels import ClientFiles
from servicekit.start import StartError

PACKAGE: Final = "farehold"
OK: Final = 200
NOT_FOUND: Final = 404

_COLUMNS: Final = (Column("check"), Column("state"), Column("seen"), Column("to_do"))
_STYLES: Final = {State.OK: "green", State.BAD: "bold red", State.NOT_KNOWN: "yellow"}


@shared(ASK, PRINT, REPEAT)
def doctor(
    options: Options,
    http: Annotated[
        str,
        typer.Option(metavar="HOST:PORT", help="By default METRICS_HTTP_PORT of that host."),
    ] = "",
    booking: Annotated[
        str,
        typer.Option(metavar="HOST:PORT", help="By default BOOKING_PORT of this machine."),
    ] = "",
    booking_http: Annotated[
        str,
        typer.Option(
            metavar="HOST:PORT", help="By default BOOKING_HTTP_PORT of that host, if it is set."
        ),
    ] = "",
) -> NoReturn:
    """Check ports, clocks, versions, log, producers and the targets of alerts.

    The exit status is 1 where something is bad, 3 where something cannot be known, and 4 where
    metrics_service does not answer.
    """
    host = options.target.rpartition(":")[0]
    at_http = http or f"{host}:{os.environ.get('METRICS_HTTP_PORT', '8080')}"
    at_booking = booking or f"127.0.0.1:{os.environ.get('BOOKING_PORT', '50051')}"
    if not booking_http and (port := os.environ.get("BOOKING_HTTP_PORT", "")):
        booking_http = f"{at_booking.rpartition(':')[0]}:{port}"

    async def question(service: Service) -> View:
        found = [_identity(options.files)]
        sent_s = time.time()
        # Without an answer to this one nothing else is worth asking.
        health: DatabaseHealth = await service.ask(
            service.health.GetDatabaseHealth, GetDatabaseHealthRequest()
        )
        received_s = time.time()
        found.append(good("gRPC of metrics_service", f"{service.target} answers"))
        found += await _http("metrics_service", at_http, options.files)
        found.append(await _booking(at_booking, options.files))
        if booking_http:
            found += await _http("booking_service", booking_http, options.files)
        found += [
            checks.clock_here(health.check_time, sent_s, received_s),
            checks.clock_of_log(health.log),
            checks.log_of(health),
            checks.verdict(health),
            *checks.producers(health),
        ]
        alerts: ListAlertsResponse = await service.ask(
            service.alerts.ListAlerts, ListAlertsRequest(page_size=1)
        )
        found.append(checks.rules(alerts, health.check_time))
        found += checks.targets(alerts, health.check_time)
        return view_of(found)

    show(options, question)


def view_of(found: list[Finding]) -> View:
    """Return what is shown of the findings; bad ones decide, then those that are not known."""
    rows = [
        (
            cells.text(each.check, limit=40),
            cells.word(each.state, _STYLES[each.state]),
            cells.text(each.seen, limit=160),
            cells.text(each.to_do, limit=160),
        )
        for each in found
    ]
    json: Json = [
        {"check": each.check, "state": each.state.value, "seen": each.seen, "to_do": each.to_do}
        for each in found
    ]
    states = {each.state for each in found}
    status = BAD if State.BAD in states else UNDECIDED if State.NOT_KNOWN in states else GOOD
    return View(json, Sheet(_COLUMNS, rows), status=status)


def _identity(files: ClientFiles) -> Finding:
    parts = [
        "TLS" if files.authority else "plaintext",
        *(["a certificate"] if files.certificate else []),
        *(["a token"] if files.token else []),
    ]
    return good("settings of this program", ", ".join(parts))


async def _http(service: str, address: str, files: ClientFiles) -> list[Finding]:
    check = f"HTTP of {service}"
    try:
        status, body = await asyncio.to_thread(fetch, address, "/metrics", files)
    except NotReachableError as error:
        option = "--http" if service == "metrics_service" else "--booking-http"
        return [bad(check, str(error), f"give its address with {option}")]
    if status == NOT_FOUND:
        return [not_known(check, f"{address} has no /metrics")]
    if status != OK:
        return [bad(check, f"{address}/metrics answers {status}", "the role monitor may read it")]
    build = checks.build_of(body.decode(errors="replace"))
    return [
        good(check, f"{address} answers"),
        checks.version(service, build, _own_version()),
    ]


async def _booking(address: str, files: ClientFiles) -> Finding:
    check = "gRPC of booking_service"
    try:
        serves = await booking_serves(address, files)
    except NotReachableError as error:
        return bad(check, str(error), "give its address with --booking")
    except StartError as error:
        return not_known(check, str(error))
    return good(check, f"{address} serves") if serves else bad(check, f"{address} does not serve")


def _own_version() -> str:
    try:
        return version_of(PACKAGE)
    except PackageNotFoundError:
        return ""
