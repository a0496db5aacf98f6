"""Adds up slots of time to the points of a chart."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final, NamedTuple

from metrics_service.state.funnel.funnel import MATURES_US
from metrics_service.state.history.cells import adding
from metrics_service.state.history.figure import OTHER, Figure, Reading, Split, added
from metrics_service.state.history.question import Question, Steps
from metrics_service.state.history.series_metrics import MONEY, SeriesMetric
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
        # By metric and key, how much was counted.
        self._worth: dict[str, dict[str, float]] = {each.name: {} for each in question.metrics}
        self.answer = series_pb2.GetSeriesResponse(revision=revision)
        self.answer.as_of.FromMicroseconds(now_us)
        self.answer.step.FromMicroseconds(question.step_us)

    def make(self, tables: Mapping[str, Slots]) -> Iterator[None]:
        """Add up the slots of each table, one slot or point per step of the work. Raises
        TooManyPointsError.
        """
        points: dict[str, Steps] = {metric.name: {} for metric in self._question.metrics}
        read: dict[str, dict[int, list[Slot]]] = {}
        for table, metrics in self._question.reads().items():
            steps: dict[int, Slots] = {}
            for begin_us, slot in sorted(tables[table].items()):
                steps.setdefault(begin_us // self._question.step_us, {})[begin_us] = slot
            read[table] = {number: [*slots.values()] for number, slots in steps.items()}
            for number, slots in steps.items():
                yield from self._read(table, number, slots, metrics, points)
        for table, metrics in self._question.reads().items():
            for metric, _ in metrics:
                yield from self._add(metric, points[metric.name], read[table])

    def _read(
        self,
        table: str,
        number: int,
        slots: Slots,
        metrics: list[tuple[SeriesMetric, Split]],
        points: dict[str, Steps],
    ) -> Iterator[None]:
        """Read the metrics of a step; those of matured slots where it has any."""
        known: dict[int, Reading] = {}
        for metric, split in metrics:
            parts = self._matured(slots) if metric.matured else [*slots.values()]
            if not parts:
                continue
            # The matured slots are the first ones.
            reading = known.get(len(parts))
            if reading is None:
                cell = yield from adding(table, (slot.data for slot in parts))
                reading = known[len(parts)] = Reading(cell)
            found = points[metric.name][number] = reading.figures(split)
            worth = self._worth[metric.name]
            for key, figure in found.items():
                counted = figure.value if figure.denominator is None else figure.denominator
                worth[key] = worth.get(key, 0) + abs(counted or 0)
            yield
        shown = sum(min(len(keys), MAX_KEYS) for keys in self._worth.values())
        if shown * (self._question.window_us // self._question.step_us) > MAX_ANSWER_POINTS:
            raise TooManyPointsError

    def _matured(self, slots: Slots) -> list[Slot]:
        """Return the slots whose actors have had their whole time; those of the history have."""
        latest_us = self._now_us - MATURES_US - self._question.slot_us
        return [
            slot
            for begin_us, slot in slots.items()
            if slot.source != Source.RING or begin_us <= latest_us
        ]

    def _add(
        self, metric: SeriesMetric, points: Steps, read: Mapping[int, list[Slot]]
    ) -> Iterator[None]:
        """Add the series of a metric, one for each key."""
        worth = self._worth[metric.name]
        keys = sorted(worth, key=lambda key: (key == OTHER, -worth[key], key))
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
            points_a_step = _POINTS_A_STEP if len(of_key) == 1 else 1
            for number in steps:
                point = series.points.add()
                point.time.FromMicroseconds(number * self._question.step_us)
                point.partial = (number + 1) * self._question.step_us > self._now_us
                found = points.get(number, {})
                self._fill(point, [found[each] for each in of_key if each in found])
                for slot in read.get(number, ()):
                    point.source = max(point.source, slot.source)
                    point.older_version |= slot.older
                if number % points_a_step == 0:
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
