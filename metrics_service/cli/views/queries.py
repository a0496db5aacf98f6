"""`queries`: what the database was asked, by operation or by statement."""

from __future__ import annotations

from dataclasses import replace
from enum import StrEnum
from typing import Annotated, Final, Literal

import typer
from rich.text import Text

from metrics_service.cli.asking import Service
from metrics_service.cli.options import ASK, COMPARE, PERIOD, PRINT, REPEAT, Options, shared
from metrics_service.cli.output import cells
from metrics_service.cli.output.json import json_of
from metrics_service.cli.output.sheet import Cell, Column, Sheet, View
from metrics_service.cli.periods import Window
from metrics_service.cli.plain import line
from metrics_service.cli.running import show
from metrics_service.cli.views.period import answers, fill
from metrics_service.state.queries.limit import MAX_LIMIT
from protos.metrics.v1.metrics_pb2 import (
    Distribution,
    GetQueryStatsRequest,
    GetQueryStatsResponse,
    QueryStats,
)
from servicekit.start import StartError

Percentile = Literal["p50_ms", "p95_ms", "p99_ms", "max_ms"]
PERCENTILES: Final[tuple[Percentile, ...]] = ("p50_ms", "p95_ms", "p99_ms", "max_ms")

MAX_STATEMENT_CHARS: Final = 2_000

_COLUMNS: Final = (
    Column("calls", right=True, compared=True),
    Column("share", right=True, rank=2),
    Column("p50_ms", "p50", right=True, rank=4),
    Column("p95_ms", "p95", right=True, compared=True),
    Column("p99_ms", "p99", right=True, compared=True, rank=1),
    Column("max_ms", "max", right=True, rank=4),
    Column("slow", right=True, compared=True, rank=1),
    Column("failed", right=True, compared=True, rank=1),
    Column("rows_per_call", "rows/call", right=True, rank=5),
    Column("total_ms", "total", right=True, rank=3),
)


class Order(StrEnum):
    """What comes first."""

    TOTAL = "total"
    P95 = "p95"
    COUNT = "count"
    FAILURES = "failures"


ORDERS: Final = {
    Order.TOTAL: GetQueryStatsRequest.TOTAL_TIME,
    Order.P95: GetQueryStatsRequest.P95,
    Order.COUNT: GetQueryStatsRequest.COUNT,
    Order.FAILURES: GetQueryStatsRequest.FAILURES,
}


class Group(StrEnum):
    """What a row is of."""

    OPERATION = "operation"
    STATEMENT = "statement"


@shared(ASK, PRINT, REPEAT, PERIOD, COMPARE)
def queries(
    options: Options,
    order: Annotated[Order, typer.Option(help="What comes first.")] = Order.TOTAL,
    by: Annotated[
        Group, typer.Option(help="Statements have figures of the last hour.")
    ] = Group.OPERATION,
    fingerprint: Annotated[
        str, typer.Option(metavar="F", help="One statement alone, with its text.")
    ] = "",
    limit: Annotated[int, typer.Option(min=1, max=MAX_LIMIT)] = 20,
) -> None:
    """Show how often each operation queried the database, and how long that took."""
    of_statements = bool(fingerprint) or by is Group.STATEMENT
    # The other period may have others on top.
    in_full = bool(fingerprint) or options.against is not None

    async def question(service: Service) -> View:
        async def ask(window: Window) -> GetQueryStatsResponse:
            request = GetQueryStatsRequest(
                order_by=ORDERS[order], limit=MAX_LIMIT if in_full else limit
            )
            if of_statements:
                request.group_by = GetQueryStatsRequest.FINGERPRINT
            found: GetQueryStatsResponse = await service.ask(
                service.metrics.GetQueryStats, fill(request, window)
            )
            if fingerprint:
                _keep(found, fingerprint)
            return found

        found = await answers(service, options, ask)
        if fingerprint and not found.now.groups:
            raise StartError("no statement of this fingerprint has figures in this window")
        lines = [found.title, _total(found.now)]
        if fingerprint:
            lines += [Text(cells.text(found.now.groups[0].text, limit=MAX_STATEMENT_CHARS).shown)]
        sheet = found.sheet(lambda answer: _sheet(answer, of_statements=of_statements))
        return View(found.json(json_of), replace(sheet, rows=sheet.rows[:limit]), lines)

    show(options, question)


def _keep(answer: GetQueryStatsResponse, fingerprint: str) -> None:
    kept = [each for each in answer.groups if each.fingerprint == fingerprint]
    del answer.groups[:]
    answer.groups.extend(kept)


def _sheet(answer: GetQueryStatsResponse, *, of_statements: bool) -> Sheet:
    rows = []
    for each in answer.groups:
        part = each.total_time_ms / answer.total.total_time_ms if answer.total.total_time_ms else 0
        rows.append(
            (
                *_names(each, of_statements=of_statements),
                cells.count(each.total),
                cells.fraction(part),
                *(percentile(each.execute, name) for name in PERCENTILES),
                _marked(each.slow_warning + each.slow_critical, "yellow"),
                _marked(each.failed, "red"),
                Cell(per := round(each.rows / each.total, 2) if each.total else 0, f"{per:,.1f}"),
                cells.ms(each.total_time_ms),
            )
        )
    names = ("fingerprint", "statement") if of_statements else ("operation",)
    return Sheet((*map(Column, names), *_COLUMNS), rows, keys=len(names))


def _names(each: QueryStats, *, of_statements: bool) -> tuple[Cell, ...]:
    if not of_statements:
        return (cells.text(each.operation, limit=48),)
    return cells.text(each.fingerprint), cells.text(each.operation or each.text, limit=60)


def percentile(found: Distribution, name: Percentile) -> Cell:
    """Return one figure of a distribution."""
    return cells.ms(getattr(found, name) if found.HasField(name) else None)


def _marked(value: int, style: str) -> Cell:
    return cells.count(value, style if value else "")


def _total(answer: GetQueryStatsResponse) -> Text:
    total = answer.total
    slow = total.slow_warning + total.slow_critical
    waits = percentile(total.pool_wait, "p95_ms").shown
    return line(
        f"{total.total:,} queries, {slow:,} slow, {total.failed:,} failed;"
        f" p95 {percentile(total.execute, 'p95_ms').shown},"
        f" p99 {percentile(total.execute, 'p99_ms').shown}; p95 of waiting for a connection {waits}"
    )
