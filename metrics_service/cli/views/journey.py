"""`journey`: what one session did; `sessions`: who left or went on at a step."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Final

import typer

from metrics_service.cli.asking import Service
from metrics_service.cli.options import ASK, PERIOD, PRINT, REPEAT, Options, shared
from metrics_service.cli.output import cells
from metrics_service.cli.output.cells import Clock
from metrics_service.cli.output.json import json_of
from metrics_service.cli.output.sheet import NOTHING, Cell, Column, Sheet, View
from metrics_service.cli.plain import line, plain
from metrics_service.cli.running import show
from metrics_service.cli.views.period import fill
from metrics_service.cli.words import name_of
from protos.metrics.v1 import journey_pb2
from protos.metrics.v1.journey_pb2 import (
    GetJourneyRequest,
    Journey,
    ListSessionsRequest,
    ListSessionsResponse,
    SessionSummary,
)

MAX_SESSIONS: Final = 100
UUID_CHARS: Final = 36

_EVENTS: Final = (
    Column("time"),
    Column("since_previous_s", "after", right=True, rank=2),
    Column("event"),
    Column("package", least=UUID_CHARS, rank=3),
    Column("booking", least=UUID_CHARS, rank=1),
    Column("reason", rank=1),
)
_SESSIONS: Final = (
    Column("session"),
    Column("step"),
    Column("outcome"),
    Column("entered", rank=1),
    Column("last", rank=4),
    Column("events", right=True, rank=2),
    Column("package", rank=3),
    Column("bookings", rank=5),
)
_TROUBLE: Final = frozenset({"error", "payment_failed", "abandon", "expire", "cancel"})


class Step(StrEnum):
    """A step of the funnel."""

    VIEW = "view"
    START = "start"
    COMPLETE = "complete"
    CONFIRM = "confirm"


class Outcome(StrEnum):
    """What has become of a session."""

    OPEN = "open"
    CONVERTED = "converted"
    ABANDONED = "abandoned"


OUTCOMES: Final = {
    Outcome.OPEN: journey_pb2.SESSION_OUTCOME_OPEN,
    Outcome.CONVERTED: journey_pb2.SESSION_OUTCOME_CONVERTED,
    Outcome.ABANDONED: journey_pb2.SESSION_OUTCOME_ABANDONED,
}


@shared(ASK, PRINT, REPEAT)
def journey(
    options: Options,
    session: Annotated[str, typer.Argument(metavar="SESSION")] = "",
    booking: Annotated[str, typer.Option(metavar="ID", help="The session of a booking.")] = "",
) -> None:
    """Show the events of one session, in their order."""
    if bool(session) == bool(booking):
        raise typer.BadParameter("give a session, or a booking with --booking")

    async def question(service: Service) -> View:
        request = GetJourneyRequest()
        if session:
            request.session_id = session
        else:
            request.booking_id = booking
        answer: Journey = await service.ask(service.metrics.GetJourney, request)
        rows = []
        for event in answer.events:
            since = event.HasField("since_previous")
            rows.append(
                (
                    options.clock.cell(event.time),
                    cells.duration(event.since_previous) if since else NOTHING,
                    cells.text(event.name, "yellow" if event.name in _TROUBLE else ""),
                    cells.text(event.package_id),
                    cells.text(event.booking_id),
                    cells.text(event.reason),
                )
            )
        more = answer.further_events
        note = f"and {more:,} further events" if more else ""
        found = answer.session
        title = line(
            f"session {plain(found.session_id)}: {_outcome(found).shown}, furthest step"
            f" {plain(found.step) or '-'}, {found.events:,} events"
        )
        return View(json_of(answer), Sheet(_EVENTS, rows, note=note), (title,))

    show(options, question)


@shared(ASK, PRINT, REPEAT, PERIOD)
def sessions(
    options: Options,
    step: Annotated[Step | None, typer.Option(help="Those that reached it.")] = None,
    outcome: Annotated[Outcome | None, typer.Option()] = None,
    furthest: Annotated[
        bool, typer.Option("--furthest", help="Only those that came no further than --step.")
    ] = False,
    limit: Annotated[int, typer.Option(min=1, max=MAX_SESSIONS)] = 50,
) -> None:
    """List the sessions behind a step of the funnel, newest first."""
    if furthest and step is None:
        raise typer.BadParameter("--furthest needs a --step")

    async def question(service: Service) -> View:
        request = ListSessionsRequest(page_size=limit, furthest=furthest)
        if step is not None:
            request.step = step
        if outcome is not None:
            request.outcome = OUTCOMES[outcome]
        fill(request, options.window)
        answer: ListSessionsResponse = await service.ask(service.metrics.ListSessions, request)
        rows = [_session(each, options.clock) for each in answer.sessions]
        shown = f", {len(rows):,} are shown" if len(rows) < answer.total else ""
        title = line(
            f"{answer.total:,} sessions{shown}; as of {options.clock.instant(answer.as_of)},"
            f" revision {answer.revision:,}"
        )
        return View(json_of(answer), Sheet(_SESSIONS, rows), (title,))

    show(options, question)


def _outcome(session: SessionSummary) -> Cell:
    return cells.word(name_of(journey_pb2.SessionOutcome, session.outcome, "SESSION_OUTCOME_"))


def _session(session: SessionSummary, clock: Clock) -> tuple[Cell, ...]:
    return (
        cells.text(session.session_id, limit=40),
        cells.text(session.step, limit=12),
        _outcome(session),
        clock.cell(session.entry_time),
        clock.cell(session.last_time),
        cells.count(session.events),
        cells.text(session.package_id, limit=40),
        cells.text(" ".join(session.booking_ids), limit=76),
    )
