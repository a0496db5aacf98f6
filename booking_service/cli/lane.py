"""The commands of the lane of facts."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import partial
from typing import Final
from uuid import UUID

import typer

from booking_service.cli.refill import LaneTroubleError, Progress, Refill
from booking_service.cli.shared import on_database, one_line_errors
from booking_service.delivery import fork
from booking_service.delivery.fork import Gap, Lane, NoForkError
from booking_service.storage.database import Database

FORKED: Final = 3
"""The exit status of `show` while no fact is sent."""

app = typer.Typer(no_args_is_help=True, help="The lane of facts to metrics_service.")


@app.command()
def show() -> None:
    """Show the lane; status 3 while it is forked or fenced."""
    with one_line_errors():
        lane = on_database(fork.show)
    for name, value in _lines(lane):
        print(f"{name:<15}{value}")
    if lane.fork is not None:
        raise typer.Exit(FORKED)


@app.command("accept-fork")
def accept_fork(
    yes: bool = typer.Option(False, "--yes", help="Do not ask."),
    succeeds: str = typer.Option(
        "",
        help="In a new booking database: the producer of the lost one, whose place it takes.",
    ),
) -> None:
    """Begin the lane anew after a fork, with a gap that is stated in numbers."""
    former = _producer(succeeds) if succeeds else None
    with one_line_errors(NoForkError):
        if former is not None:
            on_database(partial(fork.succeed, producer_id=former))
        if not yes:
            lane, gap = on_database(fork.show), on_database(fork.gap)
            print(f"{lane.fork.reason if lane.fork else ''}\n{_gap_text(gap)}")
            typer.confirm("Begin the lane anew?", abort=True)
        accepted = on_database(fork.accept)
    print(f"the lane begins anew: {_gap_text(accepted)}")


@app.command()
def refill(
    since: str = typer.Option(
        "", "--from", help="Send facts since this time only, such as 2026-03-01T12:00Z."
    ),
    rebuild: bool = typer.Option(
        False,
        help="Also make facts anew that were not kept; for metrics that have none of them.",
    ),
) -> None:
    """Send facts to metrics_service again, from the audit trail; Ctrl-C and a repeat go on."""
    from_time = _instant(since) if since else None
    with one_line_errors(LaneTroubleError):
        done = on_database(partial(_refill, from_time=from_time, rebuild=rebuild))
    print(f"{done.seen} rows read, {done.sent} facts sent and stored by metrics_service")
    if done.rebuilt:
        print(f"{done.rebuilt} of them were made anew from the bookings of today")
    if done.not_kept:
        print(f"{done.not_kept} facts could not be had: they are older than the facts kept")


async def _refill(database: Database, *, from_time: datetime | None, rebuild: bool) -> Progress:
    return await Refill(database, _say).run(from_time, rebuild=rebuild)


def _lines(lane: Lane) -> list[tuple[str, object]]:
    trouble = lane.fork
    lines = [
        ("producer", lane.producer_id),
        ("epoch", lane.epoch),
        ("next", lane.next_seq),
        ("acknowledged", lane.acked_seq),
        ("facts pending", lane.pending),
        ("withheld", lane.withheld),
        ("kept from", lane.kept_from or "none is kept"),
        ("sink", lane.sink_id or "none met yet"),
        ("state", "ok" if trouble is None else trouble.state),
    ]
    if trouble is not None:
        lines += [("since", f"{trouble.since:%Y-%m-%dT%H:%M:%SZ}"), ("reason", trouble.reason)]
    return lines


def _gap_text(gap: Gap) -> str:
    return (
        f"{gap.lacking} facts are lacking at the sink and not kept here (`lane refill` sends them),"
        f" {gap.beyond} facts of the sink are not in this database, {gap.sent} facts are sent now"
    )


def _producer(text: str) -> UUID:
    try:
        return UUID(text)
    except ValueError:
        raise typer.BadParameter("must be the id of a producer, a UUID") from None


def _instant(text: str) -> datetime:
    try:
        instant = datetime.fromisoformat(text)
    except ValueError:
        raise typer.BadParameter("must be a time such as 2026-03-01T12:00Z") from None
    return instant if instant.tzinfo else instant.replace(tzinfo=UTC)


def _say(line: str) -> None:
    print(line, flush=True)
