"""Events of the funnel that extended no chain when they were seen."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from metrics_service.state.funnel import chain


class Unmatched:
    """By step: how many there have ever been. Those that found a chain later, since what it began
    with came late, stay counted, so that none of the numbers falls.
    """

    def __init__(self, steps: int) -> None:
        self.counts = [0] * steps

    def see(self, before: tuple[int, ...], after: tuple[int, ...]) -> None:
        """Count the events of an actor that are in `after` and were not before."""
        known = len(before)
        new: Iterable[int] = after[known:]
        if after[:known] != before:
            new = (Counter(after) - Counter(before)).elements()
        for event in new:
            self.counts[chain.unpack(event)[1]] += 1
