"""One figure of a cell, and how it is read."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

OTHER: Final = "other"
"""The key of all that a bounded table has no place for."""


class Figure(NamedTuple):
    """One figure. Of a ratio or a mean, `value` is numerator / denominator, None where that is 0.
    Of a percentile, the denominator is the number of samples. A count or a sum has neither.
    """

    value: float | None
    numerator: float | None = None
    denominator: float | None = None


Figures = dict[str, Figure]
"""By key: "" for a figure that is not split, a currency for money, else what it is split by."""


def _itself(cell: Any) -> Any:
    return cell


@dataclass(frozen=True, slots=True)
class Split:
    """A metric by a dimension: the table whose cells have it, and how it is read of a part of one,
    by default the cell.
    """

    table: str
    read: Callable[[Any], Figures]
    part: Callable[[Any], Any] = _itself


class Reading:
    """Reads metrics of one cell; a part that several of them are read of is made once."""

    def __init__(self, cell: Any) -> None:
        self._cell = cell
        self._parts: dict[Callable[[Any], Any], Any] = {}

    def figures(self, split: Split) -> Figures:
        """Return the figures of a metric."""
        if split.part not in self._parts:
            self._parts[split.part] = split.part(self._cell)
        return split.read(self._parts[split.part])


def ratio(numerator: float, denominator: float) -> Figure:
    """Return a share or a mean; without a value where the denominator is 0."""
    value = numerator / denominator if denominator > 0 else None
    return Figure(value, numerator, denominator)


def added(figures: list[Figure]) -> Figure:
    """Return the sum of counts, or of the parts of ratios; percentiles do not add up."""
    numerators = [figure.numerator for figure in figures if figure.numerator is not None]
    denominators = [figure.denominator for figure in figures if figure.denominator is not None]
    if not denominators:
        return Figure(sum(figure.value or 0 for figure in figures))
    numerator, denominator = sum(numerators), sum(denominators)
    value = numerator / denominator if numerators and denominator else None
    return Figure(value, numerator if numerators else None, denominator)
