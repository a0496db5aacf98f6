"""`funnel`: how many reach each step, alive and matured, and by what they looked at."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Final

import typer
from rich.text import Text

from metrics_service.cli.asking import Service
from metrics_service.cli.options import ASK, COMPARE, PERIOD, PRINT, REPEAT, Options, shared
from metrics_service.cli.output import cells
from metrics_service.cli.output.json import json_of
from metrics_service.cli.output.sheet import NOTHING, Cell, Column, Row, Sheet, View
from metrics_service.cli.periods import Window
from metrics_service.cli.plain import line
from metrics_service.cli.running import show
from metrics_service.cli.views.dimension import DIMENSIONS, By
from metrics_service.cli.views.money import revenue
from metrics_service.cli.views.period import answers, fill
from protos.metrics.v1 import metrics_pb2
from protos.metrics.v1.metrics_pb2 import Funnel, FunnelGroup, GetFunnelRequest, MaturedRates

OTHER: Final = "(other)"
UNNAMED: Final = "(none)"
STEPS: Final = ("view", "start", "complete", "confirm")

_STEPS: Final = (
    Column("step"),
    Column("sessions", right=True, compared=True),
    Column("from_previous", right=True, compared=True),
    Column("from_first", right=True, compared=True),
    Column("lost", right=True, rank=2),
    Column("median_ms", "median time", right=True, compared=True, rank=1),
)
_RANKS: Final = {"view": 1, "start": 2, "complete": 3, "confirm": 0}
_GROUPS: Final = (
    *(Column(name, right=True, compared=name == STEPS[-1], rank=_RANKS[name]) for name in STEPS),
    Column("overall", right=True, compared=True),
    Column("matured", right=True, compared=True, rank=1),
    Column("matured_entered", "matured n", right=True, rank=2),
    Column("abandoned", right=True, rank=3),
)


class State(StrEnum):
    """Which slots of the window count."""

    LIVE = "live"
    MATURED = "matured"


STATES: Final = {State.LIVE: GetFunnelRequest.LIVE, State.MATURED: GetFunnelRequest.MATURED}


@shared(ASK, PRINT, REPEAT, PERIOD, COMPARE)
def funnel(
    options: Options,
    by: Annotated[By | None, typer.Option(help="Split it.")] = None,
    state: Annotated[
        State, typer.Option(help="All, or those alone that have had their whole time.")
    ] = State.LIVE,
    days: Annotated[
        int, typer.Option(min=0, max=30, help="Also the funnel of each of so many days.")
    ] = 0,
) -> None:
    """Show how many sessions reach each step, and how many of them convert."""

    async def question(service: Service) -> View:
        async def ask(window: Window) -> Funnel:
            request = GetFunnelRequest(state=STATES[state], entry_days=days)
            if by is not None:
                request.by = DIMENSIONS[by]
            found: Funnel = await service.ask(service.metrics.GetFunnel, fill(request, window))
            return found

        found = await answers(service, options, ask)
        sheets = [found.sheet(lambda answer: _groups(answer, by))] if by is not None else []
        if days:
            sheets.append(_days(found.now))
        # CSV has the most special one.
        first, *further = (*sheets, found.sheet(_steps))
        lines = (found.title, *_lines(found.now, found.before))
        return View(found.json(json_of), first, lines, further)

    show(options, question)


def _steps(answer: Funnel) -> Sheet:
    rows = []
    for step in answer.steps:
        time = step.time_from_previous
        rows.append(
            (
                cells.text(step.name),
                cells.count(step.actors),
                cells.rate(step.from_previous if step.HasField("from_previous") else None),
                cells.rate(step.from_first if step.HasField("from_first") else None),
                cells.count(step.dropped) if step.HasField("from_previous") else NOTHING,
                cells.ms(time.p50_ms if time.HasField("p50_ms") else None),
            )
        )
    return Sheet(_STEPS, rows)


def _lines(answer: Funnel, before: Funnel | None) -> list[Text]:
    lines = [
        line(
            f"entered {answer.entered:,} = converted {answer.converted:,} + abandoned"
            f" {answer.abandoned:,} + open {answer.open:,}; overall ",
            (cells.rate(answer.overall).shown, "bold"),
        )
    ]
    if before is not None:
        lines[0].append(f" (was {cells.rate(before.overall).shown})")
    if answer.HasField("matured"):
        matured = answer.matured
        lines.append(line("matured: ", (bounded(matured.overall), "bold")))
    return lines


def bounded(rate: metrics_pb2.Rate) -> str:
    """Return a rate with its number and its bounds: "21.3% (of 1,234; 20.1% to 22.5%)"."""
    if not rate.HasField("value"):
        return "-"
    low, high = cells.fraction(rate.low).shown, cells.fraction(rate.high).shown
    return f"{cells.fraction(rate.value).shown} (of {rate.denominator:,}; {low} to {high})"


def _groups(answer: Funnel, by: By) -> Sheet:
    rows = [_group(cells.text(group.key or UNNAMED, limit=40), group) for group in answer.groups]
    if any(answer.other_groups.actors):
        rows.append(_group(cells.word(OTHER), answer.other_groups))
    columns = (
        Column(by.value),
        *_GROUPS,
        Column("views", right=True, rank=4),
        Column("revenue_net", right=True, rank=1),
    )
    note = "here an actor is a session and a package"
    return Sheet(columns, rows, title=f"By {by.value}", note=note)


def _group(key: Cell, group: FunnelGroup) -> Row:
    return (
        *_counted(key, group),
        cells.count(group.package_views),
        revenue(group.revenue),
    )


def _counted(key: Cell, group: FunnelGroup) -> Row:
    actors = [*group.actors, *(0 for _ in STEPS)][: len(STEPS)]
    matured = group.matured if group.HasField("matured") else MaturedRates()
    return (
        key,
        *map(cells.count, actors),
        cells.rate(group.overall),
        cells.rate(matured.overall),
        cells.count(matured.entered) if group.HasField("matured") else NOTHING,
        cells.count(group.abandoned),
    )


def _days(answer: Funnel) -> Sheet:
    rows = [_counted(cells.text(day.key), day) for day in answer.days]
    return Sheet((Column("day"), *_GROUPS), rows, title="By day of entry, UTC")
