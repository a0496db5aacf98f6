"""What the counters that monitors read are less than what was counted: it moves where the log was
folded anew and that gave other sums, so that no counter falls or leaps by a sum.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final, TypeAlias

from protos.metrics.v1 import checkpoint_pb2

Counts: TypeAlias = dict[str, dict[tuple[str, ...], int]]
"""Whole numbers by counter and the values of its labels."""

_TABLE: Final = "counters"
_SECTION: Final = f"{_TABLE}.base"


class CounterBase:
    """Subtracted from what was counted; 0 where nothing is named, and nearly always empty."""

    tables = (_TABLE,)

    def __init__(self) -> None:
        self._base: Counts = {}

    def subtract_from(self, counts: Counts) -> Counts:
        """Subtract it from what was counted, in place, and return that."""
        for counter, base in self._base.items():
            samples = counts.setdefault(counter, {})
            for labels, value in base.items():
                samples[labels] = samples.get(labels, 0) - value
        return counts

    def move(self, counted: Counts, shown: Mapping[str, Mapping[tuple[str, ...], int]]) -> None:
        """Set it so that the counters are what was shown before. What was not shown is as it is."""
        self._base = {}
        for counter, samples in shown.items():
            now = counted.get(counter, {})
            base = {
                labels: now.get(labels, 0) - value
                for labels, value in samples.items()
                if now.get(labels, 0) != value
            }
            if base:
                self._base[counter] = base

    def dump(self) -> Iterator[tuple[str, int, bytes]]:
        """Yield the row of a checkpoint, if there is one."""
        if self._base:
            message = checkpoint_pb2.CounterBase()
            for counter, base in sorted(self._base.items()):
                for labels, value in sorted(base.items()):
                    message.entries.add(counter=counter, labels=labels, value=value)
            yield _SECTION, 0, message.SerializeToString()

    def load(self, section: str, _bucket: int, data: bytes) -> None:
        """Take back the row of dump(). Raises KeyError for another section."""
        if section != _SECTION:
            raise KeyError(section)
        for entry in checkpoint_pb2.CounterBase.FromString(data).entries:
            self._base.setdefault(entry.counter, {})[tuple(entry.labels)] = entry.value
