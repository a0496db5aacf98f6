"""Declarations of metrics, from which what is written, its help and its page derive."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal, NamedTuple, TypeAlias

Type: TypeAlias = Literal["counter", "gauge", "histogram", "info"]

_NAME: Final = re.compile(r"[a-z][a-z0-9_]*")
_ENDINGS: Final = {"counter": "_total", "info": "_info"}


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric, by the name that its samples have; a histogram's get _bucket, _sum and _count.

    buckets: the upper bounds of a histogram, ascending, without infinity. everywhere: a process
    that stands by serves it too.
    """

    name: str
    type: Type
    help: str
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = field(default=(), compare=False)
    everywhere: bool = False

    def __post_init__(self) -> None:
        """Raise ValueError for a declaration that the formats have no place for."""
        ending = _ENDINGS.get(self.type, "")
        total = self.name.endswith(tuple(set(_ENDINGS.values()) - {ending}))
        if not _NAME.fullmatch(self.name) or not self.name.endswith(ending) or total:
            raise ValueError(f"{self.name} is no name of a {self.type}")
        if not all(map(_NAME.fullmatch, self.labels)) or "le" in self.labels:
            raise ValueError(f"{self.name} has a label without a good name")
        if bool(self.buckets) != (self.type == "histogram"):
            raise ValueError(f"{self.name}: histograms have buckets, and nothing else has")
        if [*self.buckets] != sorted({*self.buckets}):
            raise ValueError(f"the buckets of {self.name} do not ascend")

    @property
    def family(self) -> str:
        """The name that OpenMetrics gives to all samples of it together."""
        return self.name.removesuffix(_ENDINGS.get(self.type, ""))


class Exemplar(NamedTuple):
    """One observation behind a bucket, and the trace that it belongs to."""

    trace_id: str
    value: float
    time_s: float


class Buckets(NamedTuple):
    """The observations of a histogram: how many are at most each bound, and last how many there
    are; their sum; and exemplars by the position of their bucket.
    """

    counts: Sequence[int]
    sum: float
    exemplars: Mapping[int, Exemplar] = {}


class Family(NamedTuple):
    """A metric and its values by the values of its labels, in the order of the declaration."""

    metric: Metric
    samples: Mapping[Any, float] | Mapping[Any, Buckets]


def once(metric: Metric, value: float) -> Family:
    """Return a metric without labels."""
    return Family(metric, {(): value})
