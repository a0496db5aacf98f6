"""`silence`: holds back notifications of alerts for a time, and ends that."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Final
from uuid import uuid4

import typer

from metrics_service.cli.alerts.ids import by_prefix, labels_of
from metrics_service.cli.asking import Service
from metrics_service.cli.options import ASK, PRINT, Options, bad, keeping, shared
from metrics_service.cli.output import cells
from metrics_service.cli.output.cells import Clock
from metrics_service.cli.output.json import json_of
from metrics_service.cli.output.sheet import Cell, Column, Sheet, View
from metrics_service.cli.periods import PeriodError, duration, message
from metrics_service.cli.plain import plain
from metrics_service.cli.running import show
from protos.metrics.v1.alert_pb2 import (
    CreateSilenceRequest,
    ExpireSilenceRequest,
    ListSilencesRequest,
    ListSilencesResponse,
    Silence,
)

PAGE: Final = 200
RULE: Final = "rule"

_COLUMNS: Final = (
    Column("id"),
    Column("active"),
    Column("rule"),
    Column("labels", rank=1),
    Column("end_time", "until"),
    Column("created_by", "by", rank=3),
    Column("create_time", "since", rank=4),
    Column("comment", rank=1),
)

app = typer.Typer(no_args_is_help=True)


@app.callback()
@keeping
def silence() -> None:
    """Hold back notifications of alerts for a time."""


@app.command()
@shared(ASK, PRINT)
def add(
    options: Options,
    match: Annotated[
        list[str],
        typer.Argument(metavar="rule=NAME|LABEL=VALUE...", help="All that an alert must have."),
    ],
    for_: Annotated[str, typer.Option("--for", metavar="2h", help="1m to 30d.")],
    comment: Annotated[str, typer.Option(help="Why.")],
) -> None:
    """Silence alerts, and print the silence's id."""
    request = CreateSilenceRequest(comment=comment, request_id=str(uuid4()))
    try:
        request.duration.CopyFrom(message(duration(for_)))
    except PeriodError as error:
        bad("--for", str(error))
    for part in match:
        name, equals, value = part.partition("=")
        if not (name and equals and value):
            bad("MATCH", "must be rule=NAME or LABEL=VALUE")
        if name == RULE:
            request.match.rule = value
        else:
            request.match.labels[name] = value

    async def question(service: Service) -> View:
        made: Silence = await service.ask(service.alerts.CreateSilence, request)
        sheet = Sheet(_COLUMNS, [_row(made, options.clock)])
        return View(json_of(made), sheet, text=plain(made.id))

    show(options, question)


@app.command("list")
@shared(ASK, PRINT)
def list_(
    options: Options,
    every: Annotated[bool, typer.Option("--all", help="Also those that have ended.")] = False,
) -> None:
    """List silences, active ones first."""

    async def question(service: Service) -> View:
        answer = await _listed(service, every=every)
        note = f"the newest {PAGE}; there are more" if answer.next_page_token else ""
        rows = [_row(each, options.clock) for each in answer.silences]
        return View(json_of(answer), Sheet(_COLUMNS, rows, note=note))

    show(options, question)


@app.command()
@shared(ASK, PRINT)
def expire(
    options: Options,
    id_: Annotated[str, typer.Argument(metavar="ID", help="Its first digits are enough.")],
) -> None:
    """End a silence now."""

    async def question(service: Service) -> View:
        async def ids() -> list[str]:
            return [each.id for each in (await _listed(service, every=False)).silences]

        full = await by_prefix(id_, ids)
        request = ExpireSilenceRequest(id=full)
        ended: Silence = await service.ask(service.alerts.ExpireSilence, request)
        return View(json_of(ended), Sheet(_COLUMNS, [_row(ended, options.clock)]))

    show(options, question)


async def _listed(service: Service, *, every: bool) -> ListSilencesResponse:
    request = ListSilencesRequest(include_ended=every, page_size=PAGE)
    found: ListSilencesResponse = await service.ask(service.alerts.ListSilences, request)
    return found


def _row(each: Silence, clock: Clock) -> tuple[Cell, ...]:
    return (
        replace(cells.text(each.id), shown=plain(each.id[:8])),
        cells.word("yes", "bold") if each.active else cells.word("no", "dim"),
        cells.text(each.match.rule, limit=32),
        cells.text(labels_of(each.match.labels), limit=48),
        clock.cell(each.end_time),
        cells.text(each.created_by, limit=32),
        clock.cell(each.create_time),
        cells.text(each.comment, limit=80),
    )
