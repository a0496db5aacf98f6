"""The figures of the log at one revision: what was counted since it began, and the windows of the
funnel.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator
from itertools import accumulate, pairwise
from typing import Final

from metrics_service.state.counter_base import Counts
from metrics_service.state.counters import SUM
from metrics_service.state.currency import exponent
from metrics_service.state.fold import State
from metrics_service.state.funnel.cell import FunnelCounts
from metrics_service.state.funnel.funnel import STEPS
from metrics_service.state.queries.durations import BOUNDS_US
from metrics_service.state.series.rings import HOUR_US
from metrics_service.state.watched import Watched
from metrics_service.web.scrape import declarations as declared
from servicekit.exposition.declare import Buckets, Exemplar, Family, Metric, once

WINDOWS_US: Final = {"1h": HOUR_US, "6h": 6 * HOUR_US, "24h": 24 * HOUR_US}
OVERALL: Final = "overall"

_COUNTERS: Final = {
    "bookings": declared.BOOKINGS,
    "package_views": declared.VIEWS,
    "revenue_bookings": declared.PAID,
    "errors": declared.ERRORS,
    "write_rpcs": declared.WRITES,
    "queries": declared.QUERIES,
    "slow_queries": declared.SLOW,
    "query_rows": declared.ROWS,
    "rpc_queries": declared.RPC_QUERIES,
    "rpc_calls": declared.RPC_CALLS,
    "events": declared.EVENTS,
    "duplicates": declared.DUPLICATES,
    "late": declared.LATE,
    "skewed": declared.SKEWED,
    "dropped": declared.DROPPED,
    "unmatched": declared.UNMATCHED,
    "quarantined": declared.QUARANTINED,
    "unclean_ends": declared.UNCLEAN_ENDS,
    "evictions": declared.EVICTIONS,
}
_MONEY: Final = {"revenue_gross": declared.GROSS, "revenue_refunded": declared.REFUNDED}
_HISTOGRAMS: Final = {
    "booking_duration": declared.BOOKING_TIMES,
    "query_duration": declared.QUERY_TIMES,
    "pool_wait": declared.POOL_WAITS,
}


def families(state: State) -> Iterator[Family]:
    """Yield the figures of a state, all of its revision."""
    watched = state.watched
    yield once(declared.REVISION, state.revision)
    yield once(declared.AS_OF, state.as_of_us / 1e6)
    counts = state.counters()
    for counter, metric in _COUNTERS.items():
        yield Family(metric, counts[counter])
    for counter, metric in _MONEY.items():
        yield Family(
            metric,
            {
                (currency,): minor / 10 ** exponent(currency)
                for (currency,), minor in counts[counter].items()
            },
        )
    exemplars = _exemplars(watched)
    for counter, metric in _HISTOGRAMS.items():
        yield _histogram(metric, counts, counter, exemplars)
    yield once(declared.LAST_ERRORS, watched.errors_last_five_minutes)
    yield from _funnel(watched)


def _histogram(
    metric: Metric,
    counts: Counts,
    counter: str,
    exemplars: dict[tuple[str, ...], dict[int, Exemplar]],
) -> Family:
    """Add up buckets, which follow one another, and their sum."""
    by_labels: dict[tuple[str, ...], list[int]] = {}
    sums: dict[tuple[str, ...], int] = {}
    for (*labels, bucket), count in counts[counter].items():
        if bucket == SUM:
            sums[tuple(labels)] = count
        else:
            by_labels.setdefault(tuple(labels), []).append(count)
    marked = exemplars if metric is declared.QUERY_TIMES else {}
    return Family(
        metric,
        {
            labels: Buckets([*accumulate(found)], sums[labels] / 1e6, marked.get(labels, {}))
            for labels, found in by_labels.items()
        },
    )


def _exemplars(watched: Watched) -> dict[tuple[str, ...], dict[int, Exemplar]]:
    """Return the newest query above a second of each operation and bucket that has a trace."""
    found: dict[tuple[str, ...], dict[int, Exemplar]] = {}
    for slow, query in watched.critical_queries(0):
        if slow.trace_id:
            bucket = bisect_left(BOUNDS_US, slow.execute_us)
            ended_s = (slow.start_us + slow.execute_us) / 1e6
            exemplar = Exemplar(slow.trace_id.hex(), slow.execute_us / 1e6, ended_s)
            found.setdefault((query.operation,), {})[bucket] = exemplar
    return found


def _funnel(watched: Watched) -> Iterator[Family]:
    actors: dict[tuple[str, ...], int] = {}
    previous: dict[tuple[str, ...], int] = {}
    outcomes: dict[tuple[str, ...], int] = {}
    for window, window_us in WINDOWS_US.items():
        live: FunnelCounts = watched.cell("funnel", window_us)
        matured: FunnelCounts = watched.matured("funnel", window_us)
        for state, cell in (("live", live), ("matured", matured)):
            pairs = [*pairwise(cell.reached), (cell.entered, cell.converted)]
            for step, (before, after) in zip((*STEPS[1:], OVERALL), pairs, strict=True):
                actors[step, state, window] = after
                previous[step, state, window] = before
        outcomes["converted", window] = live.converted
        outcomes["abandoned", window] = live.abandoned
        outcomes["open", window] = live.open
    yield Family(declared.ACTORS, actors)
    yield Family(declared.PREVIOUS, previous)
    yield Family(declared.OUTCOMES, outcomes)
