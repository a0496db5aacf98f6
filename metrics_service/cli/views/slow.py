"""`slow`: queries that run for long now, or were the slowest; and one of them in full."""

from __future__ import annotations

import hashlib
from typing import Annotated, Final

import typer
from rich.text import Text

from metrics_service.cli.asking import Service
from metrics_service.cli.options import ASK, PRINT, REPEAT, Options, shared
from metrics_service.cli.output import cells
from metrics_service.cli.output.cells import Clock
from metrics_service.cli.output.json import json_of
from metrics_service.cli.output.sheet import NOTHING, Cell, Column, Sheet, View
from metrics_service.cli.plain import line, plain
from metrics_service.cli.running import show
from metrics_service.state.queries.limit import MAX_LIMIT
from protos.metrics.v1.metrics_pb2 import (
    Blocker,
    ListSlowQueriesRequest,
    ListSlowQueriesResponse,
    SlowQuery,
)
from servicekit.start import StartError

ID_DIGITS: Final = 8
MAX_PLAN_LINES: Final = 60
MAX_PLAN_CHARS: Final = 160
MAX_STATEMENT_CHARS: Final = 2_000

_COLUMNS: Final = (
    Column("id"),
    Column("start_time", "started", rank=3),
    Column("operation"),
    Column("execute_ms", "took", right=True),
    Column("state"),
    Column("waits_for", rank=1),
    Column("blocker", rank=1),
    Column("instance", rank=4),
)
_FACTS: Final = (Column("fact", " "), Column("value", " "))


@shared(ASK, PRINT, REPEAT)
def slow(
    options: Options,
    id_: Annotated[
        str, typer.Argument(metavar="ID", help="As in the list; its first digits are enough.")
    ] = "",
    limit: Annotated[int, typer.Option(min=1, max=MAX_LIMIT)] = 20,
) -> None:
    """Show the queries that are slow now, then the slowest ever; with an ID, one in full."""

    async def question(service: Service) -> View:
        request = ListSlowQueriesRequest(limit=MAX_LIMIT if id_ else limit)
        answer: ListSlowQueriesResponse = await service.ask(
            service.metrics.ListSlowQueries, request
        )
        if id_:
            return _one(_found(answer, id_), options.clock)
        running = sum(each.running for each in answer.queries)
        title = line(
            f"{running:,} running for long now; as of {options.clock.instant(answer.as_of)}"
        )
        rows = [_row(each, options.clock) for each in answer.queries]
        return View(json_of(answer), Sheet(_COLUMNS, rows), (title,))

    show(options, question)


def id_of(slow: SlowQuery) -> str:
    """Return what names a query in the list: the same as long as it is listed."""
    query = slow.query
    parts = (query.instance, query.fingerprint, query.operation, str(query.start_time.seconds))
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:ID_DIGITS]


def _found(answer: ListSlowQueriesResponse, id_: str) -> SlowQuery:
    found = [each for each in answer.queries if id_of(each).startswith(id_.lower())]
    if not found:
        raise StartError("no query of this ID is kept; `slow` lists those that are")
    return found[0]


def _row(slow: SlowQuery, clock: Clock) -> tuple[Cell, ...]:
    query, look = slow.query, slow.look
    state = "running" if slow.running else query.outcome
    return (
        cells.word(id_of(slow)),
        clock.cell(query.start_time),
        cells.text(query.operation or query.text, limit=40),
        cells.ms(query.execute_ms),
        cells.text(state, "bold yellow" if slow.running else "", limit=16),
        cells.text(_waits(slow), limit=32) if look.wait_event else NOTHING,
        cells.text(_blocker(look.blockers[0]), limit=48) if look.blockers else NOTHING,
        cells.text(query.instance, limit=24),
    )


def _waits(slow: SlowQuery) -> str:
    return f"{slow.look.wait_event_type} {slow.look.wait_event}".strip()


def _blocker(blocker: Blocker) -> str:
    parts = (f"pid {blocker.pid}", blocker.application_name, blocker.state, blocker.query)
    return ", ".join(part for part in parts if part)


def _one(slow: SlowQuery, clock: Clock) -> View:
    query = slow.query
    facts: list[tuple[str, Cell]] = [
        ("id", cells.word(id_of(slow))),
        ("operation", cells.text(query.operation)),
        ("fingerprint", cells.text(query.fingerprint)),
        ("statement", cells.text(query.text, limit=MAX_STATEMENT_CHARS)),
        ("started", clock.cell(query.start_time)),
        ("state", cells.text("running" if slow.running else query.outcome)),
        ("sqlstate", cells.text(query.sqlstate)),
        ("waited for a connection", cells.ms(query.pool_wait_ms)),
        ("connected", cells.ms(query.connect_ms)),
        ("executed", cells.ms(query.execute_ms)),
        ("waited for its cancellation", cells.ms(query.cancel_wait_ms)),
        ("rows", cells.count(query.rows)),
        ("instance", cells.text(query.instance)),
        ("trace", cells.text(query.trace_id)),
    ]
    if slow.HasField("look"):
        look = slow.look
        facts += [
            ("observed after", cells.ms(look.running_ms)),
            ("server process", cells.count(look.pid)),
            ("waited for", cells.text(_waits(slow))),
        ]
        for blocker in look.blockers:
            age = cells.milliseconds(blocker.transaction_ms)
            held = f"{_blocker(blocker)}; its transaction is {age} old"
            facts.append(("blocked by", cells.text(held, limit=MAX_STATEMENT_CHARS)))
    shown = [(cells.word(name), cell) for name, cell in facts if cell.value not in ("", None)]
    return View(json_of(slow), Sheet(_FACTS, shown), _plan(slow.plan))


def _plan(plan: str) -> list[Text]:
    """Return the lines of a plan, whose indentation is its meaning."""
    lines = []
    for each in plan.split("\n")[:MAX_PLAN_LINES]:
        indent = " " * min(len(each) - len(each.lstrip(" ")), MAX_PLAN_CHARS // 2)
        lines.append(line(("plan  ", "dim"), indent + plain(each, MAX_PLAN_CHARS)))
    return lines if plan else []
