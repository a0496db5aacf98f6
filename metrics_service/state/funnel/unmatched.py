"""Events of the funnel that extended no chain when they were seen."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from metrics_service.state.funnel import chain


class Unmatched:
    """By step: how many there have ever been. Those that found a chain later, since what it began
    with came late, stay counted, so that none of the numbers falls.
    """

    def __init__(self, steps: int) -> None:
        self.counts = [0] * steps

    def see(self, before: Sequence[int], after: Sequence[int]) -> None:
        """Count the events of an actor that are in `after` and were not before."""
        for event in (Counter(after) - Counter(before)).elements():
            self.counts[chain.unpack(event)[1]] += 1
