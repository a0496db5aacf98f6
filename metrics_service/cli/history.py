"""The history as a file: plain figures by day or by hour, for a spreadsheet or a warehouse."""

from __future__ import annotations

import asyncio
import csv
import sys
from collections.abc import Callable, Iterable
from datetime import UTC, date, datetime, timedelta
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Final

import typer
from rich.console import Console
from rich.progress import track

from metrics_service.cli.options import alone
from metrics_service.cli.output.cells import MAX_CSV_CHARS
from metrics_service.cli.output.write import guarded, unbroken
from metrics_service.cli.plain import plain
from metrics_service.state.history.series_metrics import METRICS, MONEY
from servicekit.settings import SettingsError
from servicekit.start import fail

if TYPE_CHECKING:
    from metrics_service.state.history.changes import FigureRow
    from metrics_service.storage.history_reader import HistoryReader

COLUMNS: Final = "time", "metric", "dimension", "key", "unit", "numerator", "denominator", "value"

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)

app = typer.Typer(no_args_is_help=True, help="The figures that are kept for years.")


class Format(StrEnum):
    CSV = "csv"


class Step(StrEnum):
    DAY = "day"
    HOUR = "hour"


@app.callback()
def history() -> None:
    """Read the figures that are kept for years."""


@app.command("export")
@alone
def export(
    first: Annotated[
        datetime | None,
        typer.Option("--from", formats=["%Y-%m-%d"], help="First day, UTC; by default the oldest."),
    ] = None,
    last: Annotated[
        datetime | None,
        typer.Option("--to", formats=["%Y-%m-%d"], help="Last day, UTC; by default the newest."),
    ] = None,
    step: Annotated[Step, typer.Option(help="Days, or hours of the last 400 days.")] = Step.DAY,
    format_: Annotated[Format, typer.Option("--format")] = Format.CSV,
) -> None:
    """Print the figures of each day or hour, one a line; money is in minor units."""
    # The commands that ask a service read no database.
    from metrics_service.config import MetricsSettings
    from metrics_service.storage.errors import LogNotReadyError, LogUnavailableError, line_of
    from metrics_service.storage.history_reader import HistoryReader

    try:
        dsn = MetricsSettings.load().database_url
    except SettingsError as error:
        raise typer.Exit(fail(error)) from None
    days = (None if first is None else first.date(), None if last is None else last.date())
    try:
        lines = {Format.CSV: csv.writer}[format_](sys.stdout, lineterminator="\n")
        with unbroken():
            asyncio.run(_export(HistoryReader(dsn), *days, step, lines.writerow))
    except (LogUnavailableError, LogNotReadyError, NoHistoryError) as error:
        print(f"nothing is exported: {line_of(error)}", file=sys.stderr)
        raise typer.Exit(1) from None


class NoHistoryError(Exception):
    """The history has nothing of the days that are asked for."""


async def _export(
    reader: HistoryReader,
    first: date | None,
    last: date | None,
    step: Step,
    write: Callable[[Iterable[object]], object],
) -> None:
    try:
        bounds = await reader.bounds()
        if bounds is None:
            raise NoHistoryError("the history is empty")
        low, high = max(first or bounds[0], bounds[0]), min(last or bounds[1], bounds[1])
        if low > high:
            raise NoHistoryError(f"the history has {bounds[0]} to {bounds[1]}")
        days = [low + timedelta(days=number) for number in range((high - low).days + 1)]
        write(COLUMNS)
        console = Console(stderr=True)
        shown = track(
            days, "Exporting", console=console, transient=True, disable=not console.is_terminal
        )
        for day in shown:
            by_hour = step is Step.HOUR
            rows = await (reader.hour_figures(day) if by_hour else reader.day_figures(day))
            for row in rows:
                write(_line(row, by_hour=by_hour))
    finally:
        await reader.close()


def _line(row: FigureRow, *, by_hour: bool) -> tuple[str | float | None, ...]:
    begun = _EPOCH + timedelta(**{"hours" if by_hour else "days": row.day})
    unit = METRICS[row.metric].unit if row.metric in METRICS else ""
    return (
        f"{begun:%Y-%m-%dT%H:%MZ}" if by_hour else f"{begun:%Y-%m-%d}",
        *(row.metric, row.dimension, guarded(plain(row.key, MAX_CSV_CHARS))),
        row.key if unit == MONEY else unit,
        *map(_plain, (row.numerator, row.denominator, row.value)),
    )


def _plain(value: float | None) -> float | int | None:
    """Return a whole number without a decimal point, as sums are."""
    return int(value) if value is not None and value == int(value) else value
