"""What is judged of each clock hour around a deployment."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from metrics_service.measure.sketch import Sketch
from metrics_service.state.funnel.funnel import MATURES_US
from metrics_service.state.series.rings import HOUR_US
from metrics_service.state.tables import HourCells

HOURS: Final = 72
SPAN_US: Final = HOURS * HOUR_US

MATURE_US: Final = MATURES_US
"""An hour's conversions are final this long after its end."""


@dataclass(frozen=True, slots=True)
class Hour:
    """The figures of one clock hour, which begins at `begin_us`.

    p95_ms, p99_ms: of the queries' execute times. slow: queries above 500 ms. errors: counted
    errors; writes: ended RPCs that change something. entered, converted: actors of the funnel.
    """

    begin_us: int
    queries: int = 0
    p95_ms: float = 0.0
    p99_ms: float = 0.0
    slow: int = 0
    errors: int = 0
    writes: int = 0
    entered: int = 0
    converted: int = 0


@dataclass(frozen=True, slots=True)
class Fired:
    """A critical alert, and when it fired."""

    rule: str
    fired_us: int


@dataclass(frozen=True, slots=True)
class Watch:
    """All that a deployment is judged by, as of a time of the log.

    The 72 hours are clock hours, and the first is that of the deployment. after, before: their
    hours, and those of the 72 hours before, as far as they are kept and have begun; times_after,
    times_before: all execute times of them, in microseconds. missing: how many of the 72 hours are
    not kept. alerts: critical alerts that have fired since the 72 hours before began, oldest
    first; None where alerts are not recorded.
    """

    deployed_us: int
    as_of_us: int
    after: Sequence[Hour]
    before: Sequence[Hour]
    times_after: Sketch
    times_before: Sketch
    missing: int
    alerts: Sequence[Fired] | None

    @property
    def end_us(self) -> int:
        """The end of the 72 hours."""
        return begin_of(self.deployed_us) + SPAN_US

    @property
    def over(self) -> bool:
        """Whether the 72 hours are over."""
        return self.as_of_us >= self.end_us

    @property
    def matured(self) -> bool:
        """Whether their conversions are final too."""
        return self.as_of_us >= self.end_us + MATURE_US


def begin_of(deployed_us: int) -> int:
    """Return the begin of the 72 hours."""
    return deployed_us // HOUR_US * HOUR_US


class HourReader:
    """Reads the hours around a deployment in small steps, as of `as_of_us`. Those before kept_us
    are not kept.
    """

    def __init__(
        self,
        read: Callable[[int], HourCells],
        deployed_us: int,
        as_of_us: int,
        kept_us: int = 0,
    ) -> None:
        self._read = read
        self._deployed_us = deployed_us
        self._as_of_us = as_of_us
        self._kept_us = kept_us
        self._after: list[Hour] = []
        self._before: list[Hour] = []
        self._times_after, self._times_before = Sketch(), Sketch()

    def steps(self) -> Iterator[None]:
        """Read one hour in each step."""
        begin_us = begin_of(self._deployed_us)
        end_us = min(begin_us + SPAN_US, self._as_of_us)
        for time_us in range(max(begin_us - SPAN_US, self._kept_us), end_us, HOUR_US):
            cells = self._read(time_us)
            if time_us < begin_us:
                self._before.append(hour_of(time_us, cells))
                self._times_before.merge(cells.queries.execute_us)
            else:
                self._after.append(hour_of(time_us, cells))
                self._times_after.merge(cells.queries.execute_us)
            yield

    def watch(self, alerts: Sequence[Fired] | None) -> Watch:
        """Return what was read, with the alerts."""
        begin_us = begin_of(self._deployed_us)
        missing = min(max(self._kept_us - begin_us, 0) // HOUR_US, HOURS)
        return Watch(
            deployed_us=self._deployed_us,
            as_of_us=self._as_of_us,
            after=self._after,
            before=self._before,
            times_after=self._times_after,
            times_before=self._times_before,
            missing=missing,
            alerts=alerts,
        )


def hour_of(begin_us: int, cells: HourCells) -> Hour:
    """Return what is judged of the figures of an hour."""
    times = cells.queries.execute_us
    p95_us, p99_us = times.quantiles((0.95, 0.99)) or (0.0, 0.0)
    return Hour(
        begin_us=begin_us,
        queries=times.count,
        p95_ms=p95_us / 1000,
        p99_ms=p99_us / 1000,
        slow=cells.queries.over_500ms,
        errors=sum(cells.errors.kinds.values()),
        writes=cells.errors.write_rpcs,
        entered=cells.funnel.entered,
        converted=cells.funnel.converted,
    )
