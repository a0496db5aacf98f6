"""Draws one frame of the terminal view.

What matters most is on top, since a terminal shows the first lines: a lost connection, health, then
errors. Texts come from the wire, and every one is shown as text.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from rich.box import SIMPLE_HEAD
from rich.columns import Columns
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from metrics_service.cli import words
from metrics_service.cli.output.cells import milliseconds, money
from metrics_service.cli.plain import MAX_CELL_CHARS, cell, line, plain
from protos.metrics.v1 import metrics_pb2

PACKAGES_SHOWN: Final = 8
ERRORS_SHOWN: Final = 5
REASONS_SHOWN: Final = 5
MAX_ROWS: Final = 10


def without_connection(view: RenderableType, why: str) -> RenderableType:
    """Draw the last view under a line that says why there is no newer one."""
    return Group(line((plain(why), "bold red")), view)


def render(
    response: metrics_pb2.StreamMetricsResponse, slowest: metrics_pb2.SlowQuery | None = None
) -> RenderableType:
    """Draw one frame: health, errors, the slowest query, all queries, funnel, business totals."""
    snapshot = response.snapshot
    head = line(
        ("Farehold", "bold"),
        "   database ",
        words.status(response.health.status),
        f"   as of {_clock(snapshot)}   revision {snapshot.revision}",
    )
    tables = (
        _errors(snapshot.errors),
        _funnel(snapshot.funnel),
        _business(snapshot.business),
    )
    lines = [*words.reasons(response.health, REASONS_SHOWN), _error_rate(snapshot.errors)]
    if slowest:
        lines.append(_slow(slowest))
    lines += _queries(snapshot.performance.queries)
    # Columns places as many tables side by side as fit in the terminal.
    return Group(head, *lines, Columns(tables, padding=(0, 3)))


def _clock(snapshot: metrics_pb2.MetricsSnapshot) -> str:
    if not snapshot.HasField("as_of"):
        return "-"
    try:
        return f"{snapshot.as_of.ToDatetime():%Y-%m-%d %H:%M:%S} UTC"
    except (ValueError, OverflowError):
        # No instant between the years 1 and 9999.
        return "-"


def _error_rate(errors: metrics_pb2.ErrorMetrics) -> Text:
    style = "bold red" if errors.last_5_minutes else ""
    counted = f"  errors  {errors.last_5_minutes:,} in 5 minutes"
    return line((counted, style), f", rate {_rate(errors.error_rate)}")


def _slow(slow: metrics_pb2.SlowQuery) -> Text:
    """Draw one line, cut at the width of the terminal: the slowest query and what blocks it."""
    query, observation = slow.query, slow.look
    text = line(
        ("  running " if slow.running else "  slowest ", "bold"),
        f"{plain(query.operation, 40)} {milliseconds(query.execute_ms)}",
    )
    if observation.blockers:
        blocker = observation.blockers[0]
        waits = "waits" if slow.running else "waited"
        held_by = (f"pid {blocker.pid}", blocker.application_name, blocker.state, blocker.query)
        described = ", ".join(plain(part) for part in held_by if part)
        text.append(f", {waits} for {described}", "yellow")
    elif observation.wait_event:
        waited = f"{plain(observation.wait_event_type)} {plain(observation.wait_event)}"
        text.append(f", {waited}", "yellow")
    return text


def _funnel(funnel: metrics_pb2.Funnel) -> Table:
    rows = (
        (
            step.name,
            f"{step.actors:,}",
            _rate(step.from_previous) if step.HasField("from_previous") else "",
            _rate(step.from_first) if step.HasField("from_first") else "",
            _ms(step.time_from_previous, "p50_ms"),
        )
        for step in funnel.steps[:MAX_ROWS]
    )
    names = ("step", "sessions", "from previous", "from first", "median")
    table = _table("Funnel", names, rows)
    table.caption = line(
        f"entered {funnel.entered:,} = converted {funnel.converted:,} + "
        f"abandoned {funnel.abandoned:,} + open {funnel.open:,}"
    )
    return table


def _business(business: metrics_pb2.BusinessMetrics) -> Table:
    rows = (
        (
            revenue.currency,
            f"{revenue.confirmed:,}",
            money(revenue.gross_minor, revenue.exponent).shown,
            money(revenue.refunded_minor, revenue.exponent).shown,
            money(revenue.net_minor, revenue.exponent).shown,
        )
        for revenue in business.revenue[:MAX_ROWS]
    )
    table = _table("Bookings", ("", "confirmed", "gross", "refunded", "net"), rows)
    packages = ", ".join(
        f"{plain(package.package_id[:8], 16)} {package.confirmed:,}"
        for package in business.packages[:PACKAGES_SHOWN]
    )
    counted = f"confirmed {business.confirmed:,}, cancelled {business.cancelled:,}"
    table.caption = line(f"{counted}\n{packages}")
    return table


def _queries(queries: metrics_pb2.QueryStats) -> list[Text]:
    """Draw two lines rather than a table, which a terminal of 24 lines would cut off."""
    slow = queries.slow_warning + queries.slow_critical
    counted = f"{queries.total:,} in all, {slow:,} slow, {queries.failed:,} failed"
    timings = [
        ", ".join(f"{each} {_ms(timing, f'{each}_ms')}" for each in ("p50", "p95", "p99", "max"))
        for timing in (queries.execute, queries.pool_wait)
    ]
    return [line(f"  queries {counted}"), line(f"  execute {timings[0]}; wait {timings[1]}")]


def _errors(errors: metrics_pb2.ErrorMetrics) -> Table:
    shown = errors.breakdown[:ERRORS_SHOWN]
    table = _table(
        "Refusals and errors",
        ("reason", "kind", "count"),
        ((entry.reason, entry.kind, f"{entry.count:,}") for entry in shown),
    )
    for row, entry in zip(table.rows, shown, strict=True):
        row.style = "red" if entry.counts_as_error else ""
    return table


def _table(title: str, columns: Iterable[str], rows: Iterable[tuple[str, ...]]) -> Table:
    """Draw a table whose first column is text, and the others figures to the right."""
    table = Table(
        title=title, title_justify="left", caption_justify="left", box=SIMPLE_HEAD, show_edge=False
    )
    for number, name in enumerate(columns):
        table.add_column(
            name,
            justify="right" if number else "left",
            no_wrap=True,
            max_width=None if number else MAX_CELL_CHARS,
        )
    for row in rows:
        table.add_row(*map(cell, row))
    return table


def _rate(rate: metrics_pb2.Rate) -> str:
    return f"{rate.value:.1%}" if rate.HasField("value") else "-"


def _ms(timing: metrics_pb2.Distribution, name: str) -> str:
    if name not in {field.name for field, _ in timing.ListFields()}:
        return "-"
    return milliseconds(getattr(timing, name))
