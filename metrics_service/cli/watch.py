"""The live terminal view: draws each snapshot of StreamMetrics in place, shows a lost connection
and reconnects.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from typing import Final

import grpc
from rich.box import SIMPLE_HEAD
from rich.columns import Columns
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from protos.metrics.v1 import metrics_pb2, metrics_pb2_grpc
from protos.metrics.v1.health_pb2 import DatabaseHealth
from servicekit.start import StartError

CONNECT_TIMEOUT_S: Final = 2.0
MAX_BACKOFF_S: Final = 5.0
SLOWEST_TIMEOUT_S: Final = 1.0
PACKAGES_SHOWN: Final = 8

STATUS_STYLE: Final = {
    DatabaseHealth.HEALTHY: "bold green",
    DatabaseHealth.DEGRADED: "bold yellow",
    DatabaseHealth.UNHEALTHY: "bold red",
    DatabaseHealth.STALE: "bold magenta",
}


async def watch(
    target: str, stop: asyncio.Event, *, console: Console | None = None, frames: int | None = None
) -> None:
    """Show the metrics of the service at target until `stop`, or for a number of frames.

    Raises StartError when the first connection fails; later losses are retried.
    """
    console = console or Console()
    async with grpc.aio.insecure_channel(target) as channel:
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT_S):
                await channel.channel_ready()
        except TimeoutError:
            raise StartError(f"metrics_service is not reachable at {target}") from None
        with Live(console=console, auto_refresh=False, vertical_overflow="crop") as live:
            showing = asyncio.create_task(_show(channel, live, frames))
            stopping = asyncio.create_task(stop.wait())
            try:
                await asyncio.wait({showing, stopping}, return_when=asyncio.FIRST_COMPLETED)
                if showing.done():
                    showing.result()
            finally:
                for task in (showing, stopping):
                    task.cancel()
                await asyncio.gather(showing, stopping, return_exceptions=True)


async def _show(channel: grpc.aio.Channel, live: Live, frames: int | None) -> None:
    shown = 0
    view: RenderableType = Text("waiting for the first snapshot ...", style="dim")
    async for update in _updates(channel):
        if isinstance(update, str):
            live.update(Group(view, Text(update, style="yellow")), refresh=True)
            continue
        view = update
        live.update(view, refresh=True)
        shown += 1
        if shown == frames:
            return


async def _updates(
    channel: grpc.aio.Channel,
) -> AsyncIterator[RenderableType]:
    """Yield frames, and one line of text (a str) whenever the stream is lost."""
    stub = metrics_pb2_grpc.MetricsServiceStub(channel)
    backoff_s = 0.5
    while True:
        try:
            async for response in stub.StreamMetrics(metrics_pb2.StreamMetricsRequest()):
                backoff_s = 0.5
                yield render(response, await _slowest(stub))
        except grpc.aio.AioRpcError as error:
            yield f"connection lost ({error.code().name.lower()}); trying again ..."
        await asyncio.sleep(random.uniform(0.1, backoff_s))  # noqa: S311 - jitter, no secret
        backoff_s = min(backoff_s * 2, MAX_BACKOFF_S)


async def _slowest(
    stub: metrics_pb2_grpc.MetricsServiceAsyncStub,
) -> metrics_pb2.SlowQuery | None:
    """Fetch the query that has run longest now, or else the slowest that ever ended."""
    request = metrics_pb2.ListSlowQueriesRequest(limit=1)
    try:
        answer = await stub.ListSlowQueries(request, timeout=SLOWEST_TIMEOUT_S)
    except grpc.aio.AioRpcError:
        # The frame is shown without it; a lost connection shows in the stream.
        return None
    return answer.queries[0] if answer.queries else None


def render(
    response: metrics_pb2.StreamMetricsResponse, slowest: metrics_pb2.SlowQuery | None = None
) -> RenderableType:
    """Draw one frame: health, the slowest query, funnel, business totals, queries, errors."""
    snapshot = response.snapshot
    head = Text.assemble(
        ("Farehold", "bold"),
        f"   as of {_clock(snapshot)}   revision {snapshot.revision}   database ",
        _status(response.health),
    )
    tables = (
        _funnel(snapshot.funnel),
        _business(snapshot.business),
        _queries(snapshot.performance.queries),
        _errors(snapshot.errors),
    )
    # Columns places as many tables side by side as fit in the terminal.
    lines = [*_reasons(response.health), *([_slow(slowest)] if slowest else [])]
    return Group(head, *lines, Columns(tables, padding=(0, 3)))


def _clock(snapshot: metrics_pb2.MetricsSnapshot) -> str:
    if not snapshot.HasField("as_of"):
        return "-"
    return f"{snapshot.as_of.ToDatetime():%Y-%m-%d %H:%M:%S} UTC"


def _status(health: DatabaseHealth) -> tuple[str, str]:
    name = "unknown"
    if health.status != DatabaseHealth.STATUS_UNSPECIFIED:
        name = DatabaseHealth.Status.Name(health.status).lower()
    return name, STATUS_STYLE.get(health.status, "dim")


def _reasons(health: DatabaseHealth) -> list[Text]:
    return [
        Text(f"  {reason.instance or 'all'}: {reason.message}", style="yellow")
        for reason in health.reasons[:5]
    ]


def _slow(slow: metrics_pb2.SlowQuery) -> Text:
    """Draw one line, cut at the width of the terminal: the slowest query and what blocks it."""
    query, observation = slow.query, slow.look
    line = Text(no_wrap=True, overflow="ellipsis")
    line.append("  running " if slow.running else "  slowest ", "bold")
    line.append(f"{query.operation} {_duration(query.execute_ms)}")
    if observation.blockers:
        blocker = observation.blockers[0]
        waits = "waits" if slow.running else "waited"
        held_by = (f"pid {blocker.pid}", blocker.application_name, blocker.state, blocker.query)
        described = ", ".join(" ".join(part.split()) for part in held_by if part)
        line.append(f", {waits} for {described}", "yellow")
    elif observation.wait_event:
        line.append(f", {observation.wait_event_type} {observation.wait_event}", "yellow")
    return line


def _funnel(funnel: metrics_pb2.Funnel) -> Table:
    table = _table("Funnel", "step", "sessions", "from previous", "from first", "median")
    for step in funnel.steps:
        table.add_row(
            step.name,
            f"{step.actors:,}",
            _rate(step.from_previous) if step.HasField("from_previous") else "",
            _rate(step.from_first) if step.HasField("from_first") else "",
            _ms(step.time_from_previous, "p50_ms"),
        )
    table.caption = (
        f"entered {funnel.entered:,} = converted {funnel.converted:,} + "
        f"abandoned {funnel.abandoned:,} + open {funnel.open:,}"
    )
    return table


def _business(business: metrics_pb2.BusinessMetrics) -> Table:
    table = _table("Bookings", "", "confirmed", "gross", "refunded", "net")
    for revenue in business.revenue:
        table.add_row(
            revenue.currency,
            f"{revenue.confirmed:,}",
            _money(revenue.gross_minor, revenue.exponent),
            _money(revenue.refunded_minor, revenue.exponent),
            _money(revenue.net_minor, revenue.exponent),
        )
    packages = ", ".join(
        f"{package.package_id[:8]} {package.confirmed:,}"
        for package in business.packages[:PACKAGES_SHOWN]
    )
    table.caption = (
        f"confirmed {business.confirmed:,}, cancelled {business.cancelled:,}\n{packages}"
    )
    return table


def _queries(queries: metrics_pb2.QueryStats) -> Table:
    table = _table("Queries", "", "p50", "p95", "p99", "max")
    for name, timing in (("execute", queries.execute), ("pool wait", queries.pool_wait)):
        table.add_row(name, *(_ms(timing, f"{q}_ms") for q in ("p50", "p95", "p99", "max")))
    table.caption = (
        f"{queries.total:,} in all, {queries.slow_warning + queries.slow_critical:,} slow, "
        f"{queries.failed:,} failed"
    )
    return table


def _errors(errors: metrics_pb2.ErrorMetrics) -> Table:
    table = _table("Refusals and errors", "reason", "kind", "count")
    for entry in errors.breakdown[:5]:
        style = "red" if entry.counts_as_error else ""
        table.add_row(Text(entry.reason), Text(entry.kind), f"{entry.count:,}", style=style)
    table.caption = (
        f"{errors.last_5_minutes:,} errors in 5 minutes, rate {_rate(errors.error_rate)}"
    )
    return table


def _table(title: str, first: str, *others: str) -> Table:
    table = Table(
        title=title, title_justify="left", caption_justify="left", box=SIMPLE_HEAD, show_edge=False
    )
    table.add_column(first, no_wrap=True)
    for name in others:
        table.add_column(name, justify="right", no_wrap=True)
    return table


def _rate(rate: metrics_pb2.Rate) -> str:
    return f"{rate.value:.1%}" if rate.HasField("value") else "-"


def _ms(timing: metrics_pb2.Distribution, name: str) -> str:
    if name not in {field.name for field, _ in timing.ListFields()}:
        return "-"
    return _duration(getattr(timing, name))


def _duration(value: float) -> str:
    return f"{value / 1000:,.1f} s" if value >= 1000 else f"{value:.1f} ms"


def _money(minor: int, exponent: int) -> str:
    sign, digits = ("-" if minor < 0 else ""), abs(minor)
    if not exponent:
        return f"{sign}{digits:,}"
    return f"{sign}{digits // 10**exponent:,}.{digits % 10**exponent:0{exponent}}"
