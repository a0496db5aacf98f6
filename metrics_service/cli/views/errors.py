"""`errors`: what was refused or failed, by reason."""

from __future__ import annotations

from typing import Annotated, Final

import typer
from rich.text import Text

from metrics_service.cli.asking import Service
from metrics_service.cli.options import ASK, COMPARE, PERIOD, PRINT, REPEAT, Options, shared
from metrics_service.cli.output import cells
from metrics_service.cli.output.cells import Clock
from metrics_service.cli.output.json import json_of
from metrics_service.cli.output.sheet import Column, Sheet, View
from metrics_service.cli.periods import Window
from metrics_service.cli.plain import line
from metrics_service.cli.running import show
from metrics_service.cli.views.funnel import bounded
from metrics_service.cli.views.period import answers, fill
from protos.metrics.v1.metrics_pb2 import ErrorMetrics, GetErrorBreakdownRequest
from servicekit.start import StartError

PACKAGES_SHOWN: Final = 10

_COLUMNS: Final = (
    Column("reason"),
    Column("kind", rank=2),
    Column("counted", rank=1),
    Column("code", rank=3),
    Column("rpc", rank=1),
    Column("count", right=True, compared=True),
    Column("first_seen", rank=4),
    Column("last_seen", rank=2),
)
_PACKAGES: Final = (Column("package"), Column("errors", right=True), Column("rate", right=True))
_SAMPLES: Final = (Column("time"), Column("package"))


@shared(ASK, PRINT, REPEAT, PERIOD, COMPARE)
def errors(
    options: Options,
    reason: Annotated[str, typer.Argument(metavar="REASON", help="Of this reason alone.")] = "",
) -> None:
    """Show refusals and errors by reason; those that count in the error rate are marked."""

    async def question(service: Service) -> View:
        async def ask(window: Window) -> ErrorMetrics:
            request = fill(GetErrorBreakdownRequest(), window)
            found: ErrorMetrics = await service.ask(service.metrics.GetErrorBreakdown, request)
            return found

        found = await answers(service, options, ask)
        if reason and not any(each.reason == reason for each in found.now.breakdown):
            known = sorted({each.reason for each in found.now.breakdown})
            raise StartError(f"no such reason in this window; there are: {_list(known)}")
        sheet = found.sheet(lambda answer: _sheet(answer, options.clock, reason))
        further = _samples(found.now, options.clock, reason) if reason else _packages(found.now)
        return View(
            found.json(json_of), sheet, (found.title, *_lines(found.now, found.before)), further
        )

    show(options, question)


def _list(names: list[str]) -> str:
    return ", ".join(cells.text(name).shown for name in names) or "none"


def _sheet(answer: ErrorMetrics, clock: Clock, reason: str) -> Sheet:
    rows = []
    for each in answer.breakdown:
        if reason and each.reason != reason:
            continue
        style = "red" if each.counts_as_error else ""
        rows.append(
            (
                cells.text(each.reason, style),
                cells.text(each.kind, limit=16),
                cells.word("yes" if each.counts_as_error else "no"),
                cells.text(each.code, limit=24),
                cells.text(each.rpc.removeprefix("booking.v1.")),
                cells.count(each.count),
                clock.cell(each.first_seen),
                clock.cell(each.last_seen),
            )
        )
    note = f"and {answer.other:,} of further reasons" if answer.other and not reason else ""
    return Sheet(_COLUMNS, rows, note=note, keys=5)


def _lines(answer: ErrorMetrics, before: ErrorMetrics | None) -> list[Text]:
    style = "bold red" if answer.last_5_minutes else ""
    was = "" if before is None else f", was {bounded(before.error_rate)}"
    return [
        line(
            (f"{answer.last_5_minutes:,} in 5 minutes", style),
            f"; error rate {bounded(answer.error_rate)}{was}; booking {answer.booking_errors:,},"
            f" payment {answer.payment_failures:,}, availability {answer.availability_errors:,},"
            f" internal {answer.internal_errors:,}",
        )
    ]


def _packages(answer: ErrorMetrics) -> list[Sheet]:
    shown = answer.packages[:PACKAGES_SHOWN]
    rows = [
        (cells.text(each.package_id), cells.count(each.count), cells.rate(each.error_rate))
        for each in shown
    ]
    return [Sheet(_PACKAGES, rows, title="By package")] if rows else []


def _samples(answer: ErrorMetrics, clock: Clock, reason: str) -> list[Sheet]:
    rows = [
        (clock.cell(sample.time), cells.text(sample.package_id))
        for each in answer.breakdown
        if each.reason == reason
        for sample in each.samples
    ]
    return [Sheet(_SAMPLES, rows, title="Newest")] if rows else []
