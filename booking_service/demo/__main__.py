"""The demo's command line: `python -m booking_service.demo run | replay`."""

from __future__ import annotations

import asyncio
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from booking_service.demo.calls import Client
from booking_service.demo.run import DEMO_ERRORS, Addresses, run
from booking_service.demo.screen import Screen
from booking_service.demo.session import Order, replay_file
from servicekit import start
from servicekit.start import StartError

DEFAULT_FILE = Path(__file__).parents[2] / "tests" / "data" / "resort_hotel_bookings.csv.gz"
# The 696 days of the default file in about 70 s, on a machine that keeps up.
DEFAULT_SPEED = 10.0
# Services that do not run are noticed soon; ones that restart meanwhile are waited for.
_GIVE_UP_S = 30.0

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


@app.command("replay")
def replay_command(
    file: File = DEFAULT_FILE,
    speed: Speed = DEFAULT_SPEED,
    tight: Tight = False,
) -> None:
    """Replay a file against services that run; status 1 when the metrics differ from the file."""
    raise typer.Exit(_replay(Order(file, speed, tight)))


def _replay(order: Order) -> int:
    async def talk() -> bool:
        addresses = Addresses.of(os.environ)
        async with (
            Client(addresses.booking, give_up_s=_GIVE_UP_S) as booking,
            Client(addresses.metrics, give_up_s=_GIVE_UP_S) as metrics,
        ):
            await asyncio.gather(booking.connect(), metrics.connect())
            today = datetime.now(UTC).date()
            return await replay_file(order, booking, metrics, today, Screen())

    try:
        return 0 if asyncio.run(talk()) else 1
    except StartError as error:
        return start.fail(error)
    except DEMO_ERRORS as error:
        return start.fail(StartError(str(error)))
    except KeyboardInterrupt:
        return start.fail(StartError("Stopped; the same command goes on from here."))


if __name__ == "__main__":
    app()
