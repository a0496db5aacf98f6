"""`series`: figures over time, with the same steps of the period before where it is asked for."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from datetime import timedelta
from typing import Annotated, Any, Final

import typer
from rich.text import Text

from metrics_service.cli.asking import Service
from metrics_service.cli.options import ASK, COMPARE, PERIOD, PRINT, REPEAT, Options, bad, shared
from metrics_service.cli.output import cells
from metrics_service.cli.output.cells import Clock
from metrics_service.cli.output.compare import change
from metrics_service.cli.output.json import json_of
from metrics_service.cli.output.sheet import NOTHING, Cell, Column, Sheet, View
from metrics_service.cli.output.write import Form, console, write
from metrics_service.cli.periods import PeriodError, duration, message, shift
from metrics_service.cli.plain import line, plain
from metrics_service.cli.running import show
from metrics_service.cli.views.dimension import DIMENSIONS, By
from metrics_service.state.currency import exponent
from metrics_service.state.history.series_metrics import COUNT, METRICS, MS, RATIO
from metrics_service.web.encode import Json
from protos.metrics.v1.series_pb2 import GetSeriesRequest, GetSeriesResponse, Series, SeriesPoint

DEFAULT_STEPS: Final = 24
MAX_SHOWN: Final = 6
"""Of the series of a table; CSV and JSON have all."""

BARS: Final = "▁▂▃▄▅▆▇█"
MAX_BARS: Final = 60

_LONG: Final = (
    Column("time"),
    Column("metric"),
    Column("key"),
    Column("unit"),
    Column("value", right=True),
    Column("numerator", right=True),
    Column("denominator", right=True),
    Column("partial"),
    Column("source"),
    Column("value_before", right=True),
)
_CHOICES: Final = (Column("metric"), Column("unit"), Column("split_by"))


def names(incomplete: str) -> list[str]:
    """Complete the name of a metric."""
    return [name for name in METRICS if name.startswith(incomplete)]


@shared(ASK, PRINT, REPEAT, PERIOD, COMPARE)
def series(
    options: Options,
    metrics: Annotated[
        list[str] | None,
        typer.Argument(metavar="METRIC...", help="None: list them.", autocompletion=names),
    ] = None,
    step: Annotated[str, typer.Option(metavar="10s|1m|1h|1d", help="Of one point.")] = "1h",
    by: Annotated[By | None, typer.Option(help="Split it.")] = None,
) -> None:
    """Show figures over time: 24 steps, or those of a --window."""
    if not metrics:
        write(_choices(), options.form, console(no_color=options.no_color))
        return
    try:
        each = duration(step)
    except PeriodError as error:
        bad("--step", str(error))
    window = options.window.length if "window" in options.given else DEFAULT_STEPS * each
    if window is None:
        bad("--window", "must be of some steps, such as 24h")

    async def question(service: Service) -> View:
        async def ask(back: timedelta) -> GetSeriesResponse:
            request = GetSeriesRequest(metrics=metrics, window=message(window), step=message(each))
            if ended := options.window.ended + back:
                request.ended.CopyFrom(message(ended))
            if by is not None:
                request.by = DIMENSIONS[by]
            found: GetSeriesResponse = await service.ask(service.metrics.GetSeries, request)
            return found

        now, before = await ask(timedelta(0)), None
        if options.against is not None:
            before = await ask(shift(window, options.against))
        return _view(now, before, options)

    show(options, question)


def _choices() -> View:
    rows = [
        (cells.word(each.name), cells.word(each.unit), cells.word(" ".join(each.by) or "-"))
        for each in METRICS.values()
    ]
    json: Json = [
        {"metric": each.name, "unit": each.unit, "split_by": list(each.by)}
        for each in METRICS.values()
    ]
    return View(json, Sheet(_CHOICES, rows))


def _view(now: GetSeriesResponse, before: GetSeriesResponse | None, options: Options) -> View:
    earlier = {(each.metric, each.key): each for each in before.series} if before else {}
    json: Json = json_of(now)
    if before is not None:
        json = {"now": json, "before": json_of(before)}
    sheet = Sheet(_LONG, list(_long(now.series, earlier, options.clock)))
    if options.form is Form.TABLE:
        sheet = _wide(now.series[:MAX_SHOWN], earlier, options.clock, compare=before is not None)
    width = max((len(_title(each)) for each in now.series[:MAX_SHOWN]), default=0)
    lines = [_bars(each, width) for each in now.series[:MAX_SHOWN]]
    if more := len(now.series) - len(lines):
        lines.append(line(f"and {more:,} more: --output csv has all"))
    title = line(
        f"as of {options.clock.instant(now.as_of)}, revision {now.revision:,};"
        f" steps of {cells.span(now.step.ToTimedelta())}"
    )
    return View(json, sheet, (title, *lines))


Earlier = dict[tuple[str, str], Series]


def _pairs(each: Series, earlier: Earlier) -> Iterator[tuple[SeriesPoint, SeriesPoint | None]]:
    """Yield each point with that of the period before; a partial one has none, as it would be
    compared with a whole one.
    """
    old = earlier.get((each.metric, each.key))
    points: Sequence[SeriesPoint | None] = list(old.points) if old else [None] * len(each.points)
    for point, other in zip(each.points, points, strict=False):
        yield point, None if point.partial or (other and other.partial) else other


def _long(found: Iterable[Series], earlier: Earlier, clock: Clock) -> Iterator[tuple[Cell, ...]]:
    for each in found:
        for point, other in _pairs(each, earlier):
            yield (
                clock.cell(point.time),
                cells.text(each.metric),
                cells.text(each.key),
                cells.text(each.unit),
                _value(each, point),
                _numerator(each, point),
                _number(point, "denominator"),
                cells.word("yes" if point.partial else "no"),
                cells.word(_source(point)),
                _value(each, other),
            )


def _wide(found: Sequence[Series], earlier: Earlier, clock: Clock, *, compare: bool) -> Sheet:
    """Return a row for each time and a column for each series."""
    columns = [Column("time")]
    rows: dict[int, list[Cell]] = {}
    for number, each in enumerate(found, start=1):
        columns.append(Column(f"series_{number}", _title(each), right=True, rank=number - 1))
        for point, other in _pairs(each, earlier):
            cell = _value(each, point)
            shown = cell.shown + ("…" if point.partial else "")
            if compare and other is not None:
                differs = change(cell, _value(each, other))
                shown += f" ({differs})" if differs else ""
            row = rows.setdefault(point.time.ToMicroseconds(), [clock.cell(point.time)])
            row += [NOTHING] * (number - len(row))
            row.append(Cell(cell.value, shown, cell.style))
    made = [tuple(row + [NOTHING] * (len(columns) - len(row))) for _, row in sorted(rows.items())]
    note = "… the step is not over" if any(p.partial for each in found for p in each.points) else ""
    return Sheet(columns, made, note=note)


def _title(each: Series) -> str:
    return f"{plain(each.metric, 32)} {plain(each.key, 24)}".strip()


def _value(each: Series, point: SeriesPoint | None) -> Cell:
    if point is None or not point.HasField("value"):
        return NOTHING
    value = point.value
    if each.unit == RATIO:
        return cells.fraction(value)
    if each.unit == MS:
        return cells.ms(value)
    if each.unit == COUNT or not math.isfinite(value):
        return _number(point, "value")
    return _money(value, each.unit)


def _numerator(each: Series, point: SeriesPoint) -> Cell:
    if each.unit in (RATIO, MS, COUNT) or not math.isfinite(point.numerator):
        return _number(point, "numerator")
    return _money(point.numerator, each.unit) if point.HasField("numerator") else NOTHING


def _money(value: float, currency: str) -> Cell:
    # In minor units; an average may have parts of one.
    return cells.money(round(value), exponent(currency))


def _number(point: Any, name: str) -> Cell:
    if not point.HasField(name):
        return NOTHING
    value: float = getattr(point, name)
    if not math.isfinite(value):
        return NOTHING
    if value.is_integer():
        return cells.count(int(value))
    return Cell(value, f"{value:,.2f}", "", value)


def _source(point: SeriesPoint) -> str:
    source = SeriesPoint.Source.DESCRIPTOR.values_by_number.get(point.source)
    return "" if source is None or not source.number else source.name.lower()


def _bars(each: Series, width: int) -> Text:
    """Return a line with one bar for each of the newest points, from 0 to the largest."""
    values = [point.value if point.HasField("value") else None for point in each.points]
    values = values[-MAX_BARS:]
    most = max((value for value in values if value is not None), default=0)
    bars = "".join(_bar(value, most) for value in values)
    return line(f"{_title(each):<{width}}  ", bars)


def _bar(value: float | None, most: float) -> str:
    if value is None:
        return " "
    if not 0 < value <= most or most == float("inf"):
        return BARS[0]
    return BARS[min(int(value / most * len(BARS)), len(BARS) - 1)]
