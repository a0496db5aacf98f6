"""What a checkpoint changes in the history: rows that are as the state has them, and what is added
once to former hours.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

from metrics_service.state.history.cells import TABLES, total
from metrics_service.state.history.figure import OTHER, Figure, Figures, Reading, Split, added
from metrics_service.state.history.series_metrics import METRICS, MONEY
from metrics_service.state.series.past import DAY_US, HOUR_US, Border, Pasts

HOURS_A_DAY: Final = DAY_US // HOUR_US
Key = tuple[str, int]
"""A table, and an hour or a day by its number since 1970."""

Cells = dict[Key, bytes]


class Once:
    """What takes effect with one save, also where it is unknown whether that was stored: it is
    tried again for as long as the checkpoint is still the one before.
    """

    def __init__(self) -> None:
        self._tried_at: int | None = None

    def is_due(self, generation: int) -> bool:
        """Return whether it is not stored yet; `generation` is that of the stored checkpoint."""
        if self._tried_at is None:
            self._tried_at = generation
        return self._tried_at == generation


@dataclass(slots=True)
class Segment:
    """What a part of the log has added to hours that have left the ring; `days`: the sums of the
    days that left in it.
    """

    pasts: Pasts
    days: Cells = field(default_factory=dict)
    once: Once = field(default_factory=Once)

    def add_up(self) -> Iterator[None]:
        """Fill `days`, in short steps."""
        for table, past in self.pasts.items():
            parts: dict[int, list[bytes]] = {}
            for hour, data in sorted(past.hours.items()):
                parts.setdefault(hour // HOURS_A_DAY, []).append(data)
            for day, each in parts.items():
                self.days[table, day] = total(table, each).encode()
                yield


@dataclass(slots=True)
class HistoryChange:
    """hours, days: whole rows. border: before it, only the segments change rows. replace: no other
    rows are to be there after it. anew: where the log is folded again; then what the former fold
    has left after border.own_us goes.
    """

    version: int
    border: Border
    replace: bool
    anew: Once | None
    hours: Cells
    days: Cells
    segments: list[Segment]


class FigureRow(NamedTuple):
    """A row of history_day_figures; `day` is its number since 1970."""

    day: int
    metric: str
    dimension: str
    key: str
    numerator: float | None
    denominator: float | None
    value: float | None


def readings(table: str) -> Iterator[tuple[str, str, Split]]:
    """Yield (metric, dimension, how it is read) of all that is read of the cells of a table. Days
    that are over have matured, so that there is no second figure of that.
    """
    for metric in METRICS.values():
        if metric.matured:
            continue
        if metric.table == table:
            dimension = "currency" if metric.unit == MONEY else ""
            yield metric.name, dimension, Split(table, metric.read)
        for dimension, split in metric.by.items():
            if split.table == table:
                yield metric.name, dimension, split


def figures(table: str, day: int, cell: Any) -> Iterator[FigureRow]:
    """Yield the figures of a day."""
    reading = Reading(cell)
    for metric, dimension, split in readings(table):
        for key, figure in bounded(reading.figures(split), TABLES[table].keys).items():
            numerator, denominator = figure.numerator, figure.denominator
            yield FigureRow(day, metric, dimension, key, numerator, denominator, figure.value)


def bounded(found: Figures, most: int) -> Figures:
    """Return at most so many figures, and what is left added up."""
    if len(found) <= most:
        return found

    def worth(key: str) -> tuple[bool, float]:
        figure = found[key]
        counted = figure.value if figure.denominator is None else figure.denominator
        return key == OTHER, -(counted or 0)

    ranked = sorted(found, key=worth)
    shown, rest = ranked[: most - 1], ranked[most - 1 :]
    left: Figure = added([found[key] for key in rest])
    return {**{key: found[key] for key in shown}, OTHER: left}
