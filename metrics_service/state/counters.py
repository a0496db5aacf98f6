"""Everything counted since the log began, as monitors read it: whole numbers that never fall, also
when the log is folded anew.
"""

from __future__ import annotations

from collections import defaultdict
from typing import Final

from metrics_service.state.breakdown.cell import ATTEMPTS, VIEWS
from metrics_service.state.breakdown.packages import OTHER as OTHER_PACKAGE
from metrics_service.state.counter_base import Counts
from metrics_service.state.errors import ErrorCell
from metrics_service.state.queries.cell import QueryCell
from metrics_service.state.tables import Tables

TRANSITIONS: Final = ("started", "completed", "confirmed", "cancelled", "abandoned", "expired")
BOOKING_TIMES_US: Final = tuple(
    bound_s * 1_000_000 for bound_s in (15, 30, 60, 120, 180, 300, 600, 1800)
)
POOL_WAITS_US: Final = (1_000, 5_000, 10_000, 50_000, 100_000, 500_000, 1_000_000, 5_000_000)

OTHER: Final = "other"
"""The reason of errors that found no place of their own."""

SUM: Final = "sum"
"""In place of the number of a bucket: the sum of all values, in microseconds."""


def counters(tables: Tables) -> Counts:
    """Return the counters. The last label of a histogram is the number of a bucket, or SUM; money
    is in minor units.
    """
    return tables.counter_base.subtract_from(counted(tables))


def counted(tables: Tables) -> Counts:
    """Return what was counted, whatever the counters were before."""
    tables.settle()
    return {
        **_business(tables),
        **_errors(tables.errors.rings.total),
        **_queries(tables),
        **_quality(tables),
    }


def _business(tables: Tables) -> Counts:
    cell = tables.business.rings.total
    revenue = cell.revenue.items()
    times = cell.booking_time_us
    return {
        "bookings": {(name,): getattr(cell, name) for name in TRANSITIONS},
        "package_views": {(): cell.views},
        "revenue_bookings": {(currency,): sums[0] for currency, sums in revenue},
        "revenue_gross": {(currency,): sums[1] for currency, sums in revenue},
        "revenue_refunded": {(currency,): sums[2] for currency, sums in revenue},
        "booking_duration": _histogram((), times.up_to(BOOKING_TIMES_US), int(times.sum)),
    }


def _errors(cell: ErrorCell) -> Counts:
    found: dict[tuple[str, ...], int] = defaultdict(int)
    kinds = dict(cell.kinds)
    other = cell.other
    for key, (count, *_) in cell.groups.items():
        found[key.reason, key.kind, "true" if key.counts_as_error else "false"] += count
        if key.counts_as_error:
            kinds[key.kind] = kinds.get(key.kind, 0) - count
    # Of what found no place, the kind of those that count is known.
    for kind, count in kinds.items():
        if count > 0:
            found[OTHER, kind, "true"] += count
            other -= count
    if other > 0:
        found[OTHER, OTHER, "false"] += other
    return {"errors": found, "write_rpcs": {(): cell.write_rpcs}}


def _queries(tables: Tables) -> Counts:
    total_rings, operation_rings = tables.queries.month
    totals, operations = total_rings.total, operation_rings.total
    queries: dict[tuple[str, ...], int] = {}
    slow: dict[tuple[str, ...], int] = {}
    rows: dict[tuple[str, ...], int] = {}
    for operation, cell in operations.groups.items():
        queries.update(_outcomes(operation, cell))
        slow[operation, "warning"] = cell.over_500ms - cell.over_1000ms
        slow[operation, "critical"] = cell.over_1000ms
        rows[operation,] = cell.rows
    durations = tables.queries.durations
    histogram: dict[tuple[str, ...], int] = {}
    for operation, counts in durations.counts.items():
        for at, count in enumerate(counts):
            histogram[operation, str(at)] = count
        histogram[operation, SUM] = durations.sums_us[operation]
    waits = totals.total.pool_wait_us
    methods = tables.rpcs.rings.total.methods.items()
    return {
        "queries": queries,
        "slow_queries": slow,
        "query_rows": rows,
        "query_duration": histogram,
        "pool_wait": _histogram((), waits.up_to(POOL_WAITS_US), int(waits.sum)),
        "rpc_calls": {(rpc or OTHER,): calls for rpc, (calls, *_) in methods},
        "rpc_queries": {(rpc or OTHER,): queries for rpc, (_, queries, _) in methods},
    }


def _outcomes(operation: str, cell: QueryCell) -> dict[tuple[str, ...], int]:
    timed, untimed = cell.execute_us.count, cell.cancelled + cell.misuse
    outcomes: dict[tuple[str, ...], int] = {
        (operation, "ok"): max(0, timed - cell.failed - cell.errors),
        (operation, "failed"): cell.failed,
        (operation, "error"): cell.errors,
        (operation, "cancelled"): cell.cancelled,
        (operation, "misuse"): cell.misuse,
    }
    if cell.total > timed + untimed:
        outcomes[operation, "unknown"] = cell.total - timed - untimed
    return outcomes


def _quality(tables: Tables) -> Counts:
    quality = tables.quality
    evicted = tables.evicted()
    groups = tables.breakdown.rings.total.groups.items()
    # Actors are counted there too, and may leave it again.
    evicted["breakdown"] = sum(
        counts[VIEWS] + counts[ATTEMPTS]
        for group, counts in groups
        if group.package == OTHER_PACKAGE
    )
    steps, unmatched = tables.funnel.steps, tables.funnel.unmatched.counts
    return {
        "events": {
            ("fact",): quality.facts,
            ("telemetry",): quality.telemetry_events,
            ("lane",): quality.events - quality.facts - quality.telemetry_events,
        },
        "duplicates": {(): quality.duplicates},
        "late": {(): tables.funnel.late},
        "skewed": {(): quality.skewed},
        "dropped": {(): quality.dropped_events + quality.dropped_timings},
        "unmatched": {(step,): count for step, count in zip(steps, unmatched, strict=True)},
        "quarantined": {(): quality.quarantined_batches},
        "unclean_ends": {(): quality.unclean_ends},
        "evictions": {(table,): count for table, count in evicted.items()},
    }


def _histogram(
    labels: tuple[str, ...], up_to: list[int], total_us: int
) -> dict[tuple[str, ...], int]:
    """Return how many values are in each bucket of a histogram, and their sum."""
    found = {
        (*labels, str(at)): reached - below
        for at, (below, reached) in enumerate(zip([0, *up_to], up_to, strict=False))
    }
    return {**found, (*labels, SUM): total_us}
