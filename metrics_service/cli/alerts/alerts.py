"""`alerts`: what the rules have found now; one alert in full; rule files and targets are tried."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Final

import typer

from metrics_service.cli import words
from metrics_service.cli.alerts.ids import by_prefix, labels_of
from metrics_service.cli.asking import REFUSED, BadQuestionError, Service
from metrics_service.cli.options import ASK, PRINT, REPEAT, Options, bad, group, shared
from metrics_service.cli.output import cells
from metrics_service.cli.output.cells import Clock
from metrics_service.cli.output.json import json_of
from metrics_service.cli.output.sheet import BAD, GOOD, NOTHING, Cell, Column, Sheet, View
from metrics_service.cli.output.write import console, write
from metrics_service.cli.plain import line, plain
from metrics_service.cli.running import show
from metrics_service.cli.views.status import loud
from protos.metrics.v1 import alert_pb2
from protos.metrics.v1.alert_pb2 import (
    Alert,
    GetAlertRequest,
    LintFinding,
    LintRulesRequest,
    LintRulesResponse,
    ListAlertsRequest,
    ListAlertsResponse,
    SendTestRequest,
    SendTestResponse,
)

PAGE: Final = 200
SEND_TIMEOUT_S: Final = 30.0
"""A target has 10 s for a try."""

GRAVE: Final = frozenset({alert_pb2.ALERT_SEVERITY_WARNING, alert_pb2.ALERT_SEVERITY_CRITICAL})

_COLUMNS: Final = (
    Column("id"),
    Column("state"),
    Column("severity", rank=1),
    Column("rule"),
    Column("labels", rank=1),
    Column("value", right=True, rank=1),
    Column("threshold", "line", right=True, rank=2),
    Column("unit", hidden=True),
    Column("start_time", "since", rank=1),
    Column("resolve_time", hidden=True),
    Column("held_back", "held back by", rank=3),
    Column("summary", least=24),
)
_FACTS: Final = (Column("fact", " "), Column("value", " "))
_CAUSES: Final = (Column("kind"), Column("key"), Column("text", "why"))
_HISTORY: Final = (Column("time"), Column("change"), Column("summary"))
_FINDINGS: Final = (Column("line", right=True), Column("level"), Column("rule"), Column("message"))
_SENT: Final = (Column("target"), Column("delivered"), Column("detail"))

app = typer.Typer(invoke_without_command=True)


@app.callback()
@group(ASK, PRINT, REPEAT)
def alerts(
    options: Options,
    every: Annotated[bool, typer.Option("--all", help="Also those that are resolved.")] = False,
) -> None:
    """List alerts, firing ones first.

    The exit status is 1 while one of severity warning or critical fires that nothing holds back.
    """

    async def question(service: Service) -> View:
        request = ListAlertsRequest(include_resolved=every, page_size=PAGE)
        answer: ListAlertsResponse = await service.ask(service.alerts.ListAlerts, request)
        rows = [_row(each, options.clock) for each in answer.alerts]
        firing = any(each.severity in GRAVE for each in answer.alerts if loud(each))
        note = f"the newest {PAGE}; there are more" if answer.next_page_token else ""
        title = line(
            f"as of {options.clock.instant(answer.as_of)}"
            if answer.HasField("as_of")
            else "nothing has been judged yet"
        )
        sheet = Sheet(_COLUMNS, rows, note=note)
        return View(json_of(answer), sheet, (title,), status=BAD if firing else GOOD)

    show(options, question)


@app.command("show")
@shared(ASK, PRINT, REPEAT)
def show_one(
    options: Options,
    id_: Annotated[str, typer.Argument(metavar="ID", help="Its first digits are enough.")],
) -> None:
    """Show one alert in full: why, what to do, and what has become of it."""

    async def question(service: Service) -> View:
        full = await by_prefix(id_, lambda: _ids(service))
        answer: Alert = await service.ask(service.alerts.GetAlert, GetAlertRequest(id=full))
        return _one(answer, options.clock)

    show(options, question)


@app.command()
@shared(ASK, PRINT)
def lint(
    options: Options,
    file: Annotated[str, typer.Argument(metavar="FILE", help="In TOML; - for standard input.")],
) -> None:
    """Check a rule file.

    It is checked by this version of the rules; with --target by that of a running service. The exit
    status is 1 for a file that would be refused.
    """
    toml = _read(file)
    if "target" not in options.given:
        view = _findings(_linted(toml))
        write(view, options.form, console(no_color=options.no_color))
        raise typer.Exit(view.status)

    async def question(service: Service) -> View:
        try:
            request = LintRulesRequest(toml=toml.decode())
        except UnicodeDecodeError:
            raise BadQuestionError("the file is not UTF-8") from None
        found: LintRulesResponse = await service.ask(service.alerts.LintRules, request)
        return _findings(found)

    show(options, question)


@app.command("test")
@shared(ASK, PRINT)
def test(
    options: Options,
    name: Annotated[str, typer.Argument(metavar="sentry|webhook|log")],
) -> None:
    """Send a test notice to one target; the exit status is 1 where it did not arrive."""

    async def question(service: Service) -> View:
        answer: SendTestResponse = await service.ask(
            service.alerts.SendTest, SendTestRequest(target=name), SEND_TIMEOUT_S
        )
        delivered = cells.word("yes", "green") if answer.delivered else cells.word("no", "bold red")
        row = (cells.text(name), delivered, cells.text(answer.detail, limit=200))
        status = GOOD if answer.delivered else REFUSED
        return View(json_of(answer), Sheet(_SENT, [row]), status=status)

    show(options, question)


async def _ids(service: Service) -> list[str]:
    request = ListAlertsRequest(include_resolved=True, page_size=PAGE)
    answer: ListAlertsResponse = await service.ask(service.alerts.ListAlerts, request)
    return [each.id for each in answer.alerts]


def _row(alert: Alert, clock: Clock) -> tuple[Cell, ...]:
    held = f"silence {alert.silenced_by[:8]}" if alert.silenced_by else alert.inhibited_by
    return (
        replace(cells.text(alert.id), shown=plain(alert.id[:8])),
        words.state(alert.state),
        words.severity(alert.severity),
        cells.text(alert.rule, limit=32),
        cells.text(labels_of(alert.labels), limit=48),
        amount(alert.value if alert.HasField("value") else None, alert.unit),
        amount(alert.threshold, alert.unit),
        cells.text(alert.unit),
        clock.cell(alert.start_time),
        clock.cell(alert.resolve_time),
        cells.text(held, limit=24) if held else NOTHING,
        cells.text(alert.summary, limit=100),
    )


def amount(value: float | None, unit: str) -> Cell:
    """Return a value that was judged, in its unit."""
    if value is None:
        return NOTHING
    if unit == "1":
        return cells.fraction(value)
    if unit in ("ms", "s"):
        in_ms = cells.ms(value * 1_000 if unit == "s" else value)
        return in_ms if in_ms.value is None else Cell(value, in_ms.shown)
    return Cell(value, f"{value:,.6g}")


def _one(alert: Alert, clock: Clock) -> View:
    facts = [
        ("id", cells.text(alert.id)),
        ("rule", cells.text(alert.rule)),
        ("state", words.state(alert.state)),
        ("severity", words.severity(alert.severity)),
        ("labels", cells.text(labels_of(alert.labels), limit=200)),
        ("summary", cells.text(alert.summary, limit=200)),
        ("value", amount(alert.value if alert.HasField("value") else None, alert.unit)),
        ("line", amount(alert.threshold, alert.unit)),
        ("since", clock.cell(alert.start_time)),
        ("fired", clock.cell(alert.fire_time)),
        ("resolved", clock.cell(alert.resolve_time)),
        ("silenced by", cells.text(alert.silenced_by)),
        ("held back by", cells.text(alert.inhibited_by)),
        ("ended", cells.text(alert.end_reason)),
        ("to do", cells.text(alert.action, limit=400)),
    ]
    shown = [(cells.word(name), cell) for name, cell in facts if cell.value not in ("", None)]
    further = []
    if alert.causes:
        causes = [
            (cells.text(each.kind), cells.text(each.key), cells.text(each.text, limit=200))
            for each in alert.causes
        ]
        further.append(Sheet(_CAUSES, causes, title="Why"))
    if alert.history:
        changes = [
            (clock.cell(each.time), cells.text(each.change), cells.text(each.summary, limit=120))
            for each in alert.history
        ]
        further.append(Sheet(_HISTORY, changes, title="History"))
    status = BAD if loud(alert) and alert.severity in GRAVE else GOOD
    return View(json_of(alert), Sheet(_FACTS, shown), (), further, status)


def _read(file: str) -> bytes:
    from metrics_service.alerts.rules.load import MAX_BYTES

    try:
        if file == "-":
            return sys.stdin.buffer.read(MAX_BYTES + 1)
        with Path(file).open("rb") as opened:
            return opened.read(MAX_BYTES + 1)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        bad("FILE", f"cannot be read: {plain(reason or 'it is no file')}")


def _linted(toml: bytes) -> LintRulesResponse:
    from metrics_service.alerts.rules.load import check

    checked = check(toml)
    levels = {"error": LintFinding.ERROR, "warning": LintFinding.WARNING}
    found = LintRulesResponse(accepted=checked.accepted)
    for each in checked.findings:
        found.findings.add(
            level=levels[each.level], line=each.line, rule=each.rule, message=each.message
        )
    return found


def _findings(answer: LintRulesResponse) -> View:
    rows = []
    for each in answer.findings:
        level = words.name_of(LintFinding.Level, each.level)
        style = "red" if each.level == LintFinding.ERROR else "yellow"
        rows.append(
            (
                cells.count(each.line),
                cells.word(level, style),
                cells.text(each.rule),
                cells.text(each.message, limit=300),
            )
        )
    verdict = ("accepted", "bold green") if answer.accepted else ("refused", "bold red")
    sheet = Sheet(_FINDINGS, rows, keys=0)
    return View(json_of(answer), sheet, (line(verdict),), status=GOOD if answer.accepted else BAD)
