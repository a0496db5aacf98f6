"""`deploy`: marks deployments, and judges the 72 hours after: the exit status is the verdict."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from datetime import datetime
from typing import Annotated, Final

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

from metrics_service.cli import words
from metrics_service.cli.asking import NotReachableError, Service, asking
from metrics_service.cli.options import ASK, PRINT, Options, bad, keeping, shared
from metrics_service.cli.output import cells
from metrics_service.cli.output.cells import Clock
from metrics_service.cli.output.json import json_of
from metrics_service.cli.output.sheet import (
    BAD,
    GOOD,
    NOTHING,
    UNDECIDED,
    Cell,
    Column,
    Sheet,
    View,
)
from metrics_service.cli.output.write import console, write
from metrics_service.cli.plain import line, plain
from metrics_service.cli.running import show
from protos.metrics.v1.deployment_pb2 import (
    Deployment,
    DeploymentItem,
    DeploymentReport,
    GetDeploymentReportRequest,
    ListDeploymentsRequest,
    ListDeploymentsResponse,
    MarkDeploymentRequest,
)
from servicekit.start import run

WAIT_S: Final = 30.0
"""Between two looks at a report that is waited for."""

STATUS: Final = {
    DeploymentReport.PASS: GOOD,
    DeploymentReport.FAIL: BAD,
    DeploymentReport.TOO_LITTLE_DATA: UNDECIDED,
    DeploymentReport.RUNNING: UNDECIDED,
}

_MARKED: Final = (Column("id"), Column("version"), Column("time"), Column("marked_by", rank=1))
_ITEMS: Final = (
    Column("item"),
    Column("verdict"),
    Column("target", rank=1),
    Column("observed", right=True),
    Column("before", right=True, rank=3),
    Column("samples", "n", right=True, rank=2),
    Column("summary", "what was seen", least=32),
)

deploy = typer.Typer(no_args_is_help=True, help="Mark deployments, and judge the 72 hours after.")


@deploy.callback()
@keeping
def group() -> None:
    """Mark deployments, and judge the 72 hours after."""


@deploy.command()
@shared(ASK, PRINT)
def mark(
    options: Options,
    version: Annotated[str, typer.Option(help="What was deployed.")],
    at: Annotated[
        str,
        typer.Option(
            metavar="2026-11-30T10:00",
            help="When, in the --tz. Now if absent, but a version is not marked twice in a row.",
        ),
    ] = "",
) -> None:
    """Note that a version was deployed, and print the deployment's id."""
    request = MarkDeploymentRequest(version=version)
    if at:
        request.time.FromDatetime(_instant(at, options.clock))

    async def question(service: Service) -> View:
        marked: Deployment = await service.ask(service.deployments.MarkDeployment, request)
        sheet = Sheet(_MARKED, [_row(marked, options.clock)])
        return View(json_of(marked), sheet, text=plain(marked.id))

    show(options, question)


@deploy.command("list")
@shared(ASK, PRINT)
def list_(options: Options) -> None:
    """List the newest deployments, newest first."""

    async def question(service: Service) -> View:
        answer: ListDeploymentsResponse = await service.ask(
            service.deployments.ListDeployments, ListDeploymentsRequest()
        )
        rows = [_row(each, options.clock) for each in answer.deployments]
        return View(json_of(answer), Sheet(_MARKED, rows))

    show(options, question)


@deploy.command()
@shared(ASK, PRINT)
def report(
    options: Options,
    id_: Annotated[str, typer.Argument(metavar="ID", help="The newest if absent.")] = "",
    wait: Annotated[bool, typer.Option("--wait", help="Until the 72 hours are judged.")] = False,
) -> None:
    """Print the report on the 72 hours after a deployment.

    The exit status is 0 for pass, 1 for fail, 3 for undecided and 4 where the service does not
    answer.
    """
    found: list[View] = []

    async def main(stop: asyncio.Event) -> None:
        async with asking(options.target, options.files) as service:
            with _Bar(shown=wait) as bar:
                answer = await fetch_report(service, id_, stop, wait=wait, report=bar.update)
            found.append(view_of(answer, options.clock))

    status = run(main, uvloop=False)
    if found:
        write(found[0], options.form, console(no_color=options.no_color))
        status = found[0].status
    raise typer.Exit(status)


async def fetch_report(
    service: Service,
    id_: str,
    stop: asyncio.Event,
    *,
    wait: bool,
    wait_s: float = WAIT_S,
    report: Callable[[DeploymentReport], None] = lambda _: None,
) -> DeploymentReport:
    """Return the report, with `wait` once it is decided or `stop` is set; `report` gets those of
    meanwhile. A service that does not answer is waited for too, but at first. Raises StartError.
    """
    request = GetDeploymentReportRequest(id=id_)
    ask = service.deployments.GetDeploymentReport
    newest: DeploymentReport = await service.ask(ask, request)
    # A later deployment does not take its place.
    request.id = newest.deployment.id
    while wait and newest.verdict == DeploymentReport.RUNNING:
        report(newest)
        try:
            async with asyncio.timeout(wait_s):
                await stop.wait()
            return newest
        except TimeoutError:
            pass
        try:
            newest = await service.ask(ask, request)
        except NotReachableError:
            continue
    return newest


def view_of(answer: DeploymentReport, clock: Clock) -> View:
    """Return what is shown of a report."""
    rows = [
        (
            cells.text(item.name),
            cells.word(*words.verdict(item.verdict)),
            cells.text(item.target),
            _figure(item, item.observed if item.HasField("observed") else None),
            _figure(item, item.before if item.HasField("before") else None),
            cells.count(item.samples),
            cells.text(item.summary, limit=120),
        )
        for item in answer.items
    ]
    deployment = answer.deployment
    deployed = f"{plain(deployment.version)}, deployed {clock.instant(deployment.time)}: "
    note = f"as of {clock.instant(answer.as_of)}; the 72 hours end {clock.instant(answer.end_time)}"
    return View(
        json_of(answer),
        Sheet(_ITEMS, rows, note=note),
        (line(deployed, words.verdict(answer.verdict)),),
        status=STATUS.get(answer.verdict, UNDECIDED),
    )


class _Bar:
    """Shows on a terminal how much of the 72 hours is over, on standard error."""

    def __init__(self, *, shown: bool) -> None:
        to = Console(stderr=True)
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.percentage:.0f}%"),
        )
        disable = not (shown and to.is_terminal)
        self._bar = Progress(*columns, console=to, transient=True, disable=disable)
        self._task = self._bar.add_task("Waiting for the 72 hours", total=None)

    def __enter__(self) -> _Bar:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def update(self, report: DeploymentReport) -> None:
        begin = report.deployment.time.seconds
        done, whole = report.as_of.seconds - begin, report.end_time.seconds - begin
        self._bar.update(self._task, completed=done, total=max(whole, 1))


def _row(deployment: Deployment, clock: Clock) -> tuple[Cell, ...]:
    return (
        cells.text(deployment.id),
        cells.text(deployment.version),
        clock.cell(deployment.time),
        cells.text(deployment.marked_by),
    )


def _figure(item: DeploymentItem, value: float | None) -> Cell:
    if value is None or not math.isfinite(value):
        return NOTHING
    if item.unit == "1":
        return Cell(value, f"{value:.2%}")
    return cells.ms(value) if item.unit == "ms" else cells.count(round(value))


def _instant(words: str, clock: Clock) -> datetime:
    """Return the instant that the words name, in the zone where they have none."""
    try:
        found = datetime.fromisoformat(words)
    except ValueError:
        bad("--at", "must be a time such as 2026-11-30T10:00 or 2026-11-30T10:00+02:00")
    return clock.aware(found)
