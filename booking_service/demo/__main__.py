"""The demo's command line: `python -m booking_service.demo run | replay | history`."""

from __future__ import annotations

import asyncio
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Final

import typer

from booking_service.demo.calls import Client
from booking_service.demo.history import run_history
from booking_service.demo.run import DEMO_ERRORS, Addresses, run
from booking_service.demo.screen import Screen
from booking_service.demo.session import Order, replay_file
from servicekit import start
from servicekit.start import StartError

DEFAULT_FILE: Final = Path(__file__).parents[2] / "tests" / "data" / "resort_hotel_bookings.csv.gz"
# The 696 days of the default file take about 70 s, on a machine that is fast enough.
DEFAULT_SPEED: Final = 10.0
# Long enough for a service that restarts, short enough to report one that does not run.
_GIVE_UP_S: Final = 30.0

app = typer.Typer(add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False)

File = Annotated[Path, typer.Option(help="Bookings, csv or csv.gz.")]
Speed = Annotated[
    float, typer.Option(min=0, help="Days of the file a second; 0 is as fast as possible.")
]
Tight = Annotated[
    bool, typer.Option("--tight", help="Sell 90% of the rooms it takes, to see SOLD_OUT.")
]


@app.command("run")
def run_command(
    file: File = DEFAULT_FILE,
    speed: Speed = DEFAULT_SPEED,
    tight: Tight = False,
    data: Annotated[Path, typer.Option(help="Where the databases and logs go.")] = Path(".data"),
) -> None:
    """Start the database and both services, replay a file, serve until Ctrl-C."""
    raise typer.Exit(run(Order(file, speed, tight), data, Screen()))


@app.command("history")
def history_command(
    file: File = DEFAULT_FILE,
    data: Annotated[Path, typer.Option(help="Where the database and logs go.")] = Path(".data"),
) -> None:
    """Load a file at its own dates into a metrics database of its own, serve it until Ctrl-C."""
    raise typer.Exit(run_history(file, data, Screen()))


@app.command("replay")
def replay_command(
    file: File = DEFAULT_FILE,
    speed: Speed = DEFAULT_SPEED,
    tight: Tight = False,
) -> None:
    """Replay a file against services that run; status 1 when the metrics differ from the file."""
    raise typer.Exit(_replay(Order(file, speed, tight)))


def _replay(order: Order) -> int:
    async def replay() -> bool:
        addresses = Addresses.of(os.environ)
        async with (
            Client(addresses.booking, give_up_s=_GIVE_UP_S, files=addresses.files) as booking,
            Client(addresses.metrics, give_up_s=_GIVE_UP_S, files=addresses.files) as metrics,
        ):
            await asyncio.gather(booking.connect(), metrics.connect())
            today = datetime.now(UTC).date()
            return await replay_file(order, booking, metrics, today, Screen())

    try:
        return 0 if asyncio.run(replay()) else 1
    except StartError as error:
        return start.fail(error)
    except DEMO_ERRORS as error:
        return start.fail(StartError(str(error)))
    except KeyboardInterrupt:
        return start.fail(StartError("Stopped; the same command goes on from here."))


if __name__ == "__main__":
    app()
