"""Adds up slots of time to the points of a chart."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final, NamedTuple

from metrics_service.state.history.cells import total
from metrics_service.state.history.question import Question, Steps
from metrics_service.state.history.series_metrics import (
    MONEY,
    OTHER,
    Figure,
    SeriesMetric,
    added,
)
from protos.metrics.v1 import series_pb2

MAX_KEYS: Final = 20
"""Of what a metric is split by; the rest is OTHER, and of money not answered."""

MAX_ANSWER_POINTS: Final = 20_000
"""Of all series of an answer: 900 kB."""

_POINTS_A_STEP: Final = 100

Source = series_pb2.SeriesPoint.Source


class Slot(NamedTuple):
    """An encoded cell, where it was read, and whether another version of the code wrote it."""

    data: bytes
    source: Source.ValueType
    older: bool = False


Slots = dict[int, Slot]
"""Of one table, by begin."""


class TooManyPointsError(ValueError):
    """An answer would have more than MAX_ANSWER_POINTS."""


class SeriesBuilder:
    """The answer to a question at one revision of the state; `answer` is whole after make()."""

    def __init__(self, question: Question, revision: int, now_us: int) -> None:
        self._question = question
        self._now_us = now_us
        self.answer = series_pb2.GetSeriesResponse(revision=revision)
        self.answer.as_of.FromMicroseconds(now_us)
        self.answer.step.FromMicroseconds(question.step_us)

    def make(self, tables: Mapping[str, Slots]) -> Iterator[None]:
        """Add up the slots of each table, one point per step of the work. Raises
        TooManyPointsError.
        """
        points: dict[str, Steps] = {metric.name: {} for metric in self._question.metrics}
        read: dict[str, dict[int, list[Slot]]] = {}
        for table, metrics in self._question.reads().items():
            steps: dict[int, list[Slot]] = {}
            for begin_us, slot in sorted(tables[table].items()):
                steps.setdefault(begin_us // self._question.step_us, []).append(slot)
            read[table] = steps
            for number, slots in steps.items():
                cell = total(table, (slot.data for slot in slots))
                for metric, split in metrics:
                    points[metric.name][number] = split.read(cell)
                yield
        for table, metrics in self._question.reads().items():
            for metric, _ in metrics:
                yield from self._add(metric, points[metric.name], read[table])

    def _add(
        self, metric: SeriesMetric, points: Steps, read: Mapping[int, list[Slot]]
    ) -> Iterator[None]:
        """Add the series of a metric, one for each key."""
        keys = _ranked(points)
        if not keys and not self._question.by:
            keys = [""]
        shown, rest = keys[:MAX_KEYS], keys[MAX_KEYS:]
        low_us, high_us = self._question.span(self._now_us)
        steps = range(low_us // self._question.step_us, high_us // self._question.step_us)
        with_other = bool(rest) and metric.unit != MONEY
        for key in [*shown, OTHER] if with_other and OTHER not in shown else shown:
            of_key = (key, *rest) if key == OTHER and with_other else (key,)
            series = self.answer.series.add(metric=metric.name, unit=metric.unit)
            if metric.unit == MONEY:
                series.unit = key
            else:
                series.key = key
            for number in steps:
                point = series.points.add()
                point.time.FromMicroseconds(number * self._question.step_us)
                point.partial = (number + 1) * self._question.step_us > self._now_us
                found = points.get(number, {})
                self._fill(point, [found[each] for each in of_key if each in found])
                for slot in read.get(number, ()):
                    point.source = max(point.source, slot.source)
                    point.older_version |= slot.older
                if number % _POINTS_A_STEP == 0:
                    yield
            yield
            if sum(len(each.points) for each in self.answer.series) > MAX_ANSWER_POINTS:
                raise TooManyPointsError

    def _fill(self, point: series_pb2.SeriesPoint, figures: list[Figure]) -> None:
        """Set the figure of a point; the parts of a sum or of a ratio add up."""
        if not figures:
            return
        figure = figures[0] if len(figures) == 1 else added(figures)
        for field, value in figure._asdict().items():
            if value is not None:
                setattr(point, field, value)


def _ranked(points: Steps) -> list[str]:
    """Return the keys, those with the greatest sum first."""
    worth: dict[str, float] = {}
    for figures in points.values():
        for key, figure in figures.items():
            counted = figure.value if figure.denominator is None else figure.denominator
            worth[key] = worth.get(key, 0) + abs(counted or 0)
    return sorted(worth, key=lambda key: (key == OTHER, -worth[key], key))
