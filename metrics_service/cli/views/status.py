"""`status`: health, alerts and the figures of now on one screen; the exit status is the verdict."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from rich.text import Text

from metrics_service.cli import words
from metrics_service.cli.asking import NotReachableError, Service
from metrics_service.cli.options import ASK, COMPARE, PERIOD, PRINT, REPEAT, Options, shared
from metrics_service.cli.output import cells
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
from metrics_service.cli.periods import Window
from metrics_service.cli.plain import line, plain
from metrics_service.cli.running import show
from metrics_service.cli.views.period import Answers, answers, fill
from metrics_service.cli.views.queries import percentile
from protos.metrics.v1 import alert_pb2
from protos.metrics.v1.alert_pb2 import Alert, ListAlertsRequest, ListAlertsResponse
from protos.metrics.v1.health_pb2 import DatabaseHealth, GetDatabaseHealthRequest
from protos.metrics.v1.metrics_pb2 import GetMetricsRequest, MetricsSnapshot, Rate

REASONS_SHOWN: Final = 10
GOOD_HEALTH: Final = frozenset({DatabaseHealth.HEALTHY, DatabaseHealth.DEGRADED})

_COLUMNS: Final = (
    Column("figure"),
    Column("unit"),
    Column("value", right=True, compared=True),
    Column("n", right=True, rank=1),
    Column("low", right=True, rank=2),
    Column("high", right=True, rank=2),
)
_NO_COLUMNS: Final = Sheet((), ())


@shared(ASK, PRINT, REPEAT, PERIOD, COMPARE)
def status(options: Options) -> None:
    """Show health, alerts and the main figures.

    The exit status is 1 while the database is unhealthy or a critical alert fires that nobody has
    silenced, and 3 while nothing is judged.
    """

    async def question(service: Service) -> View:
        health: DatabaseHealth = await service.ask(
            service.health.GetDatabaseHealth, GetDatabaseHealthRequest(page_size=1)
        )
        alerts: ListAlertsResponse = await service.ask(
            service.alerts.ListAlerts, ListAlertsRequest()
        )

        async def ask(window: Window) -> MetricsSnapshot:
            request = fill(GetMetricsRequest(), window)
            found: MetricsSnapshot = await service.ask(service.metrics.GetMetrics, request)
            return found

        found, missing = None, ""
        try:
            found = await answers(service, options, ask)
        except NotReachableError as error:
            # A standby and a start have health and alerts, and no figures yet.
            missing = str(error)
        return _view(options, health, alerts, found, missing)

    show(options, question)


def _view(
    options: Options,
    health: DatabaseHealth,
    alerts: ListAlertsResponse,
    found: Answers[MetricsSnapshot] | None,
    missing: str,
) -> View:
    name, style = words.status(health.status)
    since = f" since {options.clock.instant(health.since)}" if health.HasField("since") else ""
    lines = [
        line("database ", (name, style), since),
        *words.reasons(health, REASONS_SHOWN),
        _alerts(alerts),
    ]
    if found is not None:
        lines.append(found.title)
    return View(
        {
            "health": json_of(health),
            "alerts": json_of(alerts),
            "metrics": None if found is None else found.json(json_of),
        },
        _NO_COLUMNS if found is None else found.sheet(_figures),
        lines,
        status=judged(health, alerts),
        notes=(missing,) if missing else (),
    )


def judged(health: DatabaseHealth, alerts: ListAlertsResponse) -> int:
    """Return the exit status."""
    critical = alert_pb2.ALERT_SEVERITY_CRITICAL
    if health.status == DatabaseHealth.UNHEALTHY or any(
        each.severity == critical for each in alerts.alerts if loud(each)
    ):
        return BAD
    return GOOD if health.status in GOOD_HEALTH else UNDECIDED


def loud(alert: Alert) -> bool:
    """Whether an alert fires and nothing holds it back."""
    firing = (alert_pb2.ALERT_STATE_FIRING, alert_pb2.ALERT_STATE_RECOVERING)
    return alert.state in firing and not alert.silenced_by and not alert.inhibited_by


def _alerts(answer: ListAlertsResponse) -> Text:
    firing = [each for each in answer.alerts if each.state == alert_pb2.ALERT_STATE_FIRING]
    if not firing:
        return line("no alert fires")
    by = dict.fromkeys(("critical", "warning", "info"), 0)
    for each in firing:
        name = words.severity(each.severity).shown
        by[name] = by.get(name, 0) + 1
    held = sum(not loud(each) for each in firing)
    counts = ", ".join(f"{count} {name}" for name, count in by.items() if count)
    named = ", ".join(dict.fromkeys(plain(each.rule, 40) for each in firing[:5]))
    return line(
        ("alerts ", ""),
        (counts, "bold red" if by["critical"] else "yellow"),
        f"; {held} held back" if held else "",
        f": {named}",
    )


def _figures(answer: MetricsSnapshot) -> Sheet:
    business, errors = answer.business, answer.errors
    queries, funnel = answer.performance.queries, answer.funnel
    rows = [
        _row("confirmed", "bookings", cells.count(business.confirmed)),
        _row("cancelled", "bookings", cells.count(business.cancelled)),
    ]
    for each in business.revenue:
        unit = plain(each.currency, 8)
        rows.append(_row("net", unit, cells.money(each.net_minor, each.exponent), each.confirmed))
    rows += [
        _rate("conversion", funnel.overall),
        _rate("conversion_matured", funnel.matured.overall),
        _rate("form_abandonment", answer.performance.form_abandonment),
        _rate("error_rate", errors.error_rate),
        # Of now, whichever the window: it is not compared.
        _row(
            *("errors_5_minutes", "errors"),
            replace(cells.count(errors.last_5_minutes), number=None),
        ),
        _row("query_p95", "ms", percentile(queries.execute, "p95_ms"), queries.execute.count),
        _row("query_p99", "ms", percentile(queries.execute, "p99_ms"), queries.execute.count),
        _row(
            *("slow_queries", "queries"),
            cells.count(queries.slow_warning + queries.slow_critical),
            queries.total,
        ),
        _row("failed_queries", "queries", cells.count(queries.failed), queries.total),
    ]
    return Sheet(_COLUMNS, rows, keys=2)


def _row(name: str, unit: str, value: Cell, n: int | None = None) -> tuple[Cell, ...]:
    count = NOTHING if n is None else cells.count(n)
    named = Cell(name, name.replace("_", " "))
    of_unit = Cell(unit, "" if unit == "1" else unit)
    return (named, of_unit, value, count, NOTHING, NOTHING)


def _rate(name: str, rate: Rate) -> tuple[Cell, ...]:
    if not rate.HasField("value"):
        return _row(name, "1", NOTHING, rate.denominator)
    *row, _, _ = _row(name, "1", cells.fraction(rate.value), rate.denominator)
    return (*row, cells.fraction(rate.low), cells.fraction(rate.high))
