"""Every table of figures, and how all of them are written to a checkpoint and read back: what one
state dumped gives an equal state.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final, NamedTuple, Protocol

from metrics_service.state.breakdown.breakdown import BreakdownFold
from metrics_service.state.business import BusinessFold
from metrics_service.state.counter_base import CounterBase
from metrics_service.state.errors import ErrorCell, ErrorFold
from metrics_service.state.funnel.cell import FunnelCell
from metrics_service.state.funnel.funnel import STEPS, FunnelFold
from metrics_service.state.journeys.journeys import Journeys
from metrics_service.state.quality import COUNTERS, Quality
from metrics_service.state.queries.cell import QueryCell
from metrics_service.state.queries.critical import CriticalQueries
from metrics_service.state.queries.recent import RecentQueries
from metrics_service.state.queries.slowest import SlowestQueries
from metrics_service.state.queries.stats import QueryFold
from metrics_service.state.recent_keys import RecentKeys
from metrics_service.state.rpcs import RpcFold
from metrics_service.state.sections import naming
from metrics_service.state.series.past import Past
from metrics_service.state.series.rings import Rings

MAX_SEEN_EVENTS: Final = 65_536
MAX_SEEN_BOOKINGS: Final = 50_000

_UNMATCHED: Final = tuple(f"unmatched_{step}" for step in STEPS)


class Checkpointed(Protocol):
    """What writes rows (section, bucket, bytes) to a checkpoint."""

    @property
    def tables(self) -> tuple[str, ...]:
        """What its sections begin with, up to the first dot."""

    def dump(self) -> Iterator[tuple[str, int, bytes]]:
        """Yield its rows."""

    def load(self, section: str, bucket: int, data: bytes) -> None:
        """Take back one row."""


class HourCells(NamedTuple):
    """The figures of one clock hour; callers must not change them."""

    queries: QueryCell
    errors: ErrorCell
    funnel: FunnelCell


class Tables:
    """What the events are counted in. EventFold writes, State reads."""

    def __init__(self) -> None:
        self.quality = Quality()
        self.breakdown = BreakdownFold()
        self.funnel = FunnelFold(breakdown=self.breakdown)
        self.journeys = Journeys(self.funnel)
        self.business = BusinessFold(self.breakdown)
        self.errors = ErrorFold()
        self.rpcs = RpcFold()
        self.queries = QueryFold()
        self.recent = RecentQueries()
        self.slowest = SlowestQueries()
        self.critical = CriticalQueries()
        self.anonymous_actors = 0
        self.facts_resent = 0
        self.counter_base = CounterBase()
        self.seen_events = RecentKeys("seen_events", MAX_SEEN_EVENTS)
        self.seen_bookings = RecentKeys("seen_bookings", MAX_SEEN_BOOKINGS)
        self._rings = (
            self.funnel.month,
            self.business.rings,
            self.errors.rings,
            self.rpcs.rings,
        )
        self._month: dict[str, Rings[Any]] = {
            rings.tables[0]: rings
            for rings in (*self._rings, self.breakdown.month, *self.queries.month)
        }
        self._checkpointed: tuple[Checkpointed, ...] = (
            self.funnel,
            self.journeys,
            self.breakdown,
            self.business.rings,
            self.errors,
            self.rpcs.rings,
            self.queries,
            self.queries.durations,
            self.counter_base,
            self.recent,
            self.slowest,
            self.critical,
            self.seen_events,
            self.seen_bookings,
        )

    def advance(self, now_us: int, running_us: int) -> None:
        """Advance the clocks of all tables (see FunnelFold.advance)."""
        self.funnel.advance(now_us, running_us)
        self.business.rings.advance(now_us)
        self.errors.advance(now_us)
        self.rpcs.rings.advance(now_us)
        self.breakdown.advance(now_us)
        self.queries.advance(now_us)
        self.slowest.advance(now_us)

    def make(self, window_us: int, ended_us: int = 0) -> Iterator[None]:
        """See Rings.make."""
        self.settle()
        for rings in self._rings:
            yield from rings.make(window_us, ended_us)
        yield from self.breakdown.rings.make(*self.breakdown.whole_minutes(window_us, ended_us))
        yield from self.queries.make(window_us, ended_us)

    def hour(self, time_us: int) -> HourCells:
        """Return the clock hour of a time, without figures where it is not kept."""
        return HourCells(
            self.queries.totals.hours.slot(time_us).total,
            self.errors.rings.hours.slot(time_us),
            self.funnel.rings.hours.slot(time_us),
        )

    def prepare(self) -> Iterator[None]:
        """See Rings.prepare."""
        self.settle()
        for rings in (*self._rings, self.breakdown.rings):
            yield from rings.prepare()
        yield from self.queries.prepare()

    def kept(self) -> dict[str, Rings[Any]]:
        """Return the rings of a month by table, with everything counted."""
        self.settle()
        return self._month

    def settle(self) -> None:
        """Write what waits to the rings."""
        self.funnel.settle()
        self.queries.settle()
        self.breakdown.settle()

    def pasts(self) -> dict[str, Past[Any]]:
        """Return what has left the rings of a month, by table."""
        found = {table: rings.past for table, rings in self._month.items()}
        return {table: past for table, past in found.items() if past is not None}

    @property
    def late_figures(self) -> int:
        """See Rings.late_figures."""
        return sum(each.late_figures for each in (self.queries, self.breakdown, *self._rings))

    def evicted(self) -> dict[str, int]:
        """Return what did not fit into the tables, by table."""
        return {
            "actors": self.funnel.evicted,
            "sessions": self.journeys.evicted,
            **self.business.evicted(),
            **self.errors.evicted(),
            **self.rpcs.evicted(),
            **self.queries.evicted(),
            **self.slowest.evicted(),
            **self.breakdown.evicted(),
        }

    def counters(self) -> dict[str, int]:
        """Return every counter that no row of dump() contains."""
        return {
            **self.quality.counters(),
            "anonymous_actors": self.anonymous_actors,
            "facts_resent": self.facts_resent,
            "late": self.funnel.late,
            "evicted_actors": self.funnel.evicted,
            **{name: self.funnel.unmatched.counts[at] for at, name in enumerate(_UNMATCHED)},
            "visits": self.journeys.last_number,
            "evicted_sessions": self.journeys.evicted,
            "evicted_currencies": self.business.evicted_currencies,
            "evicted_error_times": self.errors.evicted_times,
            "evicted_error_samples": self.errors.samples.evicted,
            "evicted_operations": self.queries.evicted_operations,
            "evicted_fingerprints": self.queries.fingerprints.evicted_fingerprints,
            "evicted_query_definitions": self.queries.fingerprints.evicted_definitions,
        }

    def dump(self) -> Iterator[tuple[str, int, bytes]]:
        """Yield rows (section, bucket, bytes) of a checkpoint; a section begins with its table."""
        for each in self._checkpointed:
            with naming(each.tables[0]):
                yield from each.dump()

    def load(
        self,
        rows: Iterable[tuple[str, int, bytes]],
        counters: Mapping[str, int],
        now_us: int,
        running_us: int,
    ) -> None:
        """Load what dump() and counters() returned at now_us; rows in order of section and bucket.

        Raises KeyError for an unknown table, ValueError for rows that cannot be read.
        """
        owners = {name: each for each in self._checkpointed for name in each.tables}
        for section, bucket, data in rows:
            owners[section.partition(".")[0]].load(section, bucket, data)
        self.quality = Quality({name: counters[name] for name in COUNTERS})
        self.anonymous_actors = counters["anonymous_actors"]
        self.facts_resent = counters["facts_resent"]
        self.funnel.late = counters["late"]
        self.funnel.evicted = counters["evicted_actors"]
        self.funnel.unmatched.counts = [counters.get(name, 0) for name in _UNMATCHED]
        self.journeys.evicted = counters["evicted_sessions"]
        self.journeys.loaded(counters["visits"])
        self.business.evicted_currencies = counters["evicted_currencies"]
        self.errors.evicted_times = counters["evicted_error_times"]
        self.errors.samples.evicted = counters["evicted_error_samples"]
        self.queries.evicted_operations = counters["evicted_operations"]
        self.queries.fingerprints.evicted_fingerprints = counters["evicted_fingerprints"]
        self.queries.fingerprints.evicted_definitions = counters["evicted_query_definitions"]
        self.funnel.loaded()
        self.advance(now_us, running_us)
