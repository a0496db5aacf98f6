"""All that a process serves to Prometheus: parts that are collected apart, so that one which fails
takes nothing from the others.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Final, NamedTuple

import structlog

from servicekit.background import TimeSlice
from servicekit.exposition.declare import Family, Metric
from servicekit.exposition.writer import END, Writer, Written
from servicekit.handlers import LineLimit

LINE_GAP_S: Final = 60.0

FAILURES: Final = Metric(
    "farehold_collector_failures_total",
    "counter",
    "Collections that failed, so that a part of the metrics was missing.",
    ("part",),
    everywhere=True,
)

log = structlog.get_logger()


class Part(NamedTuple):
    """Metrics that are collected together.

    active: whether they are served at all now. revision: what the figures are of; while it stays
    equal, they are not collected again; None: collected each time. on_failure is called with what
    was raised.
    """

    name: str
    collect: Callable[[], Iterable[Family]]
    active: Callable[[], bool] = lambda: True
    revision: Callable[[], object] | None = None
    on_failure: Callable[[Exception], None] = lambda _: None


class Exposition:
    """Writes the parts of a process. What a part collects is of one moment; others run while it is
    written, if that takes long.
    """

    def __init__(self, parts: Sequence[Part]) -> None:
        self._parts = parts
        self._writer = Writer()
        self._kept: dict[str, tuple[object, Written]] = {}
        self._failures = Counter({part.name: 0 for part in parts})
        self._lines = LineLimit(gap_s=LINE_GAP_S)

    async def write(self, *, openmetrics: bool) -> str:
        """Return all metrics, in the order of the parts, without the parts that fail."""
        turn = TimeSlice()
        written = [await self._part(part, turn) for part in self._parts]
        found = [each for each in written if each is not None]
        failures = {(name,): count for name, count in self._failures.items()}
        found.append(self._writer.write([Family(FAILURES, failures)]))
        if openmetrics:
            return "".join(each.openmetrics for each in found) + END
        return "".join(each.text for each in found)

    async def _part(self, part: Part, turn: TimeSlice) -> Written | None:
        try:
            if not part.active():
                self._kept.pop(part.name, None)
                return None
            revision = None if part.revision is None else part.revision()
            if revision is not None:
                known, written = self._kept.get(part.name, (None, None))
                if written is not None and known == revision:
                    return written
            written = await self._written([*part.collect()], turn)
        except Exception as failure:
            self._failed(part, failure)
            return None
        if revision is not None:
            self._kept[part.name] = revision, written
        return written

    async def _written(self, families: Iterable[Family], turn: TimeSlice) -> Written:
        found = []
        for family in families:
            found.append(self._writer.write([family]))
            if turn.over:
                await turn.renew()
        return Written(
            "".join(each.text for each in found), "".join(each.openmetrics for each in found)
        )

    def _failed(self, part: Part, failure: Exception) -> None:
        self._failures[part.name] += 1
        suppressed = self._lines.take()
        if suppressed is not None:
            log.error(
                "metrics_collection_failed",
                part=part.name,
                suppressed=suppressed,
                exc_info=failure,
            )
        part.on_failure(failure)
