"""What rules watch: the figures of windows of a state at one moment."""

from __future__ import annotations

from typing import Any

from metrics_service.measure.sketch import Sketch
from metrics_service.state.breakdown.cell import REACHED, STEPS, BreakdownCell
from metrics_service.state.breakdown.packages import OTHER
from metrics_service.state.funnel.funnel import MATURES_US
from metrics_service.state.queries.cell import QueryTotals
from metrics_service.state.queries.critical import CriticalQuery
from metrics_service.state.queries.fingerprints import Query
from metrics_service.state.series.rings import RESOLUTIONS, Rings, WindowError
from metrics_service.state.tables import Tables


class Watched:
    """The figures of one revision, for as long as nothing else is folded. Cells are shared: callers
    must not change them. A window that is not kept raises WindowError.
    """

    def __init__(self, tables: Tables, as_of_us: int) -> None:
        self.as_of_us = as_of_us
        self._tables = tables

    def cell(self, table: str, window_us: int, ended_us: int = 0) -> Any:
        """Return the sum of a window that ended `ended_us` ago, a whole number of its ring's steps:
        of "business", "errors", "breakdown", "query_totals", or of the actors of "funnel".
        """
        tables = self._tables
        if table == "query_totals":
            totals = QueryTotals()
            totals.total = tables.queries.total(window_us, ended_us)
            return totals
        if table == "funnel":
            return tables.funnel.rings.counts(tables.funnel.counts, window_us, ended_us)
        rings: dict[str, Rings[Any]] = {
            "business": tables.business.rings,
            "errors": tables.errors.rings,
            "breakdown": tables.breakdown.rings,
        }
        return rings[table].window(window_us, ended_us)

    def hour(self, table: str, time_us: int) -> Any:
        """Return the clock hour of a time, which is kept for 30 days; empty where nothing is."""
        return self._rings(table).hours.slot(time_us)

    def oldest_hour_us(self, table: str) -> int | None:
        """Return the begin of the oldest hour that is kept; None without figures."""
        return self._rings(table).hours.oldest_us

    def _rings(self, table: str) -> Rings[Any]:
        tables = self._tables
        rings: dict[str, Rings[Any]] = {
            "funnel": tables.funnel.rings,
            "business": tables.business.rings,
            "errors": tables.errors.rings,
            "query_totals": tables.queries.totals,
        }
        return rings[table]

    def matured(self, table: str, window_us: int) -> Any:
        """Return the newest window of this length, none of whose slots can change any more but for
        what is later than late.
        """
        for resolution in RESOLUTIONS:
            step_us = resolution.step_us
            # The step of now is not over.
            ended_us = (-(-MATURES_US // step_us) + 1) * step_us
            if not window_us % step_us and window_us + ended_us <= resolution.span_us:
                return self.cell(table, window_us, ended_us)
        raise WindowError("no ring keeps the window for as long as it takes to mature")

    def packages(self, window_us: int) -> dict[str, list[int]]:
        """Return how many actors of each package reached each step, of a matured window. Packages
        without a place of their own are left out.
        """
        cell: BreakdownCell = self.matured("breakdown", window_us)
        found: dict[str, list[int]] = {}
        for group, counts in cell.groups.items():
            if group.package != OTHER:
                reached = found.setdefault(group.package, [0] * STEPS)
                for step in range(STEPS):
                    reached[step] += counts[REACHED + step]
        return found

    @property
    def dropped(self) -> int:
        """How many events and timings producers have dropped so far."""
        quality = self._tables.quality
        return quality.dropped_events + quality.dropped_timings

    @property
    def errors_in_five_minutes(self) -> int:
        """The greatest number of counted errors within five minutes (see ErrorFold)."""
        return self._tables.errors.peak_of_five_minutes(self.as_of_us)

    @property
    def errors_last_five_minutes(self) -> int:
        """The number of counted errors of the last five minutes."""
        return self._tables.errors.last_five_minutes(self.as_of_us)

    def critical_queries(self, ended_after_us: int) -> list[tuple[CriticalQuery, Query]]:
        """Return the newest queries above the critical threshold that ended after a time, in the
        order of their arrival, with their definitions.
        """
        critical, fingerprints = self._tables.critical, self._tables.queries.fingerprints
        return [
            (slow, fingerprints.resolve(slow.fingerprint))
            for slow in critical
            if slow.start_us + slow.execute_us > ended_after_us
        ]

    def execute_times(self, window_us: int, ended_us: int = 0) -> dict[str, Sketch]:
        """See QueryFold.execute_times."""
        return self._tables.queries.execute_times(window_us, ended_us)
