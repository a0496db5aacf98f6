"""The commands of the lane of facts."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import partial

import typer

from booking_service.cli.refill import Progress, Refill
from booking_service.cli.shared import on_database, one_line_errors
from booking_service.storage.database import Database

app = typer.Typer(no_args_is_help=True, help="The lane of facts to metrics_service.")


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
    with one_line_errors():
        done = on_database(partial(_refill, from_time=from_time, rebuild=rebuild))
    print(f"{done.seen} rows read, {done.sent} facts sent and stored by metrics_service")
    if done.rebuilt:
        print(f"{done.rebuilt} of them were made anew from the bookings of today")
    if done.not_kept:
        print(f"{done.not_kept} facts could not be had: they are older than the facts kept")


async def _refill(database: Database, *, from_time: datetime | None, rebuild: bool) -> Progress:
    return await Refill(database, _say).run(from_time, rebuild=rebuild)


def _instant(text: str) -> datetime:
    try:
        instant = datetime.fromisoformat(text)
    except ValueError:
        raise typer.BadParameter("must be a time such as 2026-03-01T12:00Z") from None
    return instant if instant.tzinfo else instant.replace(tzinfo=UTC)


def _say(line: str) -> None:
    print(line, flush=True)
