"""The one table of what can be charted, kept for years and watched by rules: each metric's name and
unit, and how its figure follows from the cell of a slot or of a sum of slots.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from types import MappingProxyType
from typing import Any, Final

from metrics_service.measure.sketch import Sketch
from metrics_service.state.breakdown.cell import (
    ABANDONED,
    ATTEMPTS,
    ERRORS,
    REACHED,
    STEPS,
    VIEWS,
    BreakdownCell,
)
from metrics_service.state.breakdown.packages import Group
from metrics_service.state.breakdown.sums import Sums, sums_by
from metrics_service.state.business import BusinessCell
from metrics_service.state.errors import ErrorCell
from metrics_service.state.funnel.cell import FunnelCell
from metrics_service.state.history.figure import OTHER, Figure, Figures, Split, ratio
from metrics_service.state.queries.cell import QueryCell, QueryCells, QueryTotals

COUNT: Final = "count"
RATIO: Final = "1"
MS: Final = "ms"
MONEY: Final = "currency"
"""Minor units; each figure is of the currency that is its key."""

_US_PER_MS: Final = 1000


@dataclass(frozen=True, slots=True)
class SeriesMetric:
    """`table` is the table of the state whose cells `read` takes, such as "business". matured: of
    slots that have matured.
    """

    name: str
    unit: str
    table: str
    read: Callable[[Any], Figures]
    by: Mapping[str, Split] = field(default_factory=dict)
    matured: bool = False


def _one(of: Callable[[Any], Figure]) -> Callable[[Any], Figures]:
    return lambda cell: {"": of(cell)}


def _count(of: Callable[[Any], int]) -> Callable[[Any], Figures]:
    return lambda cell: {"": Figure(of(cell))}


def _step(number: int, before: int) -> Callable[[FunnelCell], Figures]:
    return lambda cell: {"": ratio(cell.reached[number], cell.reached[before])}


def _mean(of: Callable[[Any], Sketch]) -> Callable[[Any], Figures]:
    return lambda cell: {"": ratio(of(cell).sum / _US_PER_MS, of(cell).count)}


def _quantile(of: Callable[[Any], Sketch], q: float) -> Callable[[Any], Figures]:
    return lambda cell: {"": _quantile_of(of(cell), q)}


def _quantile_of(durations_us: Sketch, q: float) -> Figure:
    value = durations_us.quantile(q)
    return Figure(None if value is None else value / _US_PER_MS, None, durations_us.count)


def _money(of: Callable[[list[int]], Figure]) -> Callable[[BusinessCell], Figures]:
    return lambda cell: {currency: of(sums) for currency, sums in sorted(cell.revenue.items())}


def _by_package(number: int) -> Mapping[str, Split]:
    """Split by package: number 0 of its counts is confirmed, 1 is cancelled."""

    def read(cell: BusinessCell) -> Figures:
        found = {package: Figure(counts[number]) for package, counts in cell.packages.items()}
        if cell.other_packages[number]:
            found[OTHER] = Figure(cell.other_packages[number])
        return found

    return {"package": Split("business", read)}


def _groups(cell: BreakdownCell, dimension: int) -> dict[str, Sums]:
    found = sums_by(cell, dimension)
    rest = found.pop(None)
    groups = {key: sums for key, sums in found.items() if key is not None}
    if any(rest.counts) or rest.money:
        groups.setdefault(OTHER, Sums()).add(rest)
    return groups


_PARTS: Final[Mapping[str, Callable[[BreakdownCell], dict[str, Sums]]]] = {
    name: partial(_groups, dimension=number) for number, name in enumerate(Group._fields)
}


def _by_group(of: Callable[[Sums], Figure]) -> Mapping[str, Split]:
    """Split by each dimension. Keys of which nothing is counted have no figure."""

    def read(groups: dict[str, Sums]) -> Figures:
        found = {key: of(sums) for key, sums in groups.items()}
        return {key: each for key, each in found.items() if each.value or each.denominator}

    return {name: Split("breakdown", read, part) for name, part in _PARTS.items()}


def _by_counter(counter: int) -> Mapping[str, Split]:
    return _by_group(lambda sums: Figure(sums.counts[counter]))


def _by_ratio(counter: int, of: int) -> Mapping[str, Split]:
    return _by_group(lambda sums: ratio(sums.counts[counter], sums.counts[of]))


def _confirmed(sums: Sums) -> Figure:
    return Figure(sum(confirmed for confirmed, _, _ in sums.money.values()))


def _rate(name: str, number: int, before: int) -> tuple[SeriesMetric, ...]:
    """Return the rate of a step to one before it, live and matured."""
    read = _step(number, before)
    by = _by_ratio(REACHED + number, REACHED + before)
    return (
        SeriesMetric(name, RATIO, "funnel", read, by),
        SeriesMetric(f"{name}_matured", RATIO, "funnel", read, by, matured=True),
    )


def _by_reason(cell: ErrorCell) -> Figures:
    counts: dict[str, int] = {}
    for key, seen in cell.groups.items():
        if key.counts_as_error:
            counts[key.reason] = counts.get(key.reason, 0) + seen[0]
    return {reason: Figure(count) for reason, count in counts.items()}


def _by_operation(of: Callable[[QueryCell], Figure]) -> Mapping[str, Split]:
    def read(cells: QueryCells) -> Figures:
        return {operation: of(cell) for operation, cell in cells.groups.items()}

    return {"operation": Split("queries", read)}


def _of_queries(
    name: str, unit: str, of: Callable[[QueryCell], Figure], *, split: bool = True
) -> SeriesMetric:
    def read(totals: QueryTotals) -> Figures:
        return {"": of(totals.total)}

    return SeriesMetric(name, unit, "query_totals", read, _by_operation(of) if split else {})


def _booking_time(cell: BusinessCell) -> Sketch:
    return cell.booking_time_us


def _errors(cell: ErrorCell) -> int:
    return sum(cell.kinds.values())


def _errors_of(kind: str) -> Callable[[ErrorCell], Figures]:
    return _count(lambda cell: cell.kinds.get(kind, 0))


_FUNNEL: Final = (
    SeriesMetric(
        *("funnel_entered", COUNT, "funnel", _count(lambda cell: cell.entered)),
        _by_counter(REACHED),
    ),
    SeriesMetric(
        *("funnel_converted", COUNT, "funnel", _count(lambda cell: cell.converted)),
        _by_counter(REACHED + STEPS - 1),
    ),
    SeriesMetric(
        *("funnel_abandoned", COUNT, "funnel", _count(lambda cell: cell.abandoned)),
        _by_counter(ABANDONED),
    ),
    *_rate("view_to_start", 1, 0),
    *_rate("start_to_complete", 2, 1),
    *_rate("complete_to_confirm", 3, 2),
    *_rate("overall_conversion", 3, 0),
)
_BUSINESS: Final = (
    SeriesMetric(
        "package_views", COUNT, "business", _count(lambda cell: cell.views), _by_counter(VIEWS)
    ),
    SeriesMetric("bookings_started", COUNT, "business", _count(lambda cell: cell.started)),
    SeriesMetric("bookings_completed", COUNT, "business", _count(lambda cell: cell.completed)),
    SeriesMetric(
        *("bookings_confirmed", COUNT, "business", _count(lambda cell: cell.confirmed)),
        {**_by_group(_confirmed), **_by_package(0)},
    ),
    SeriesMetric(
        "bookings_cancelled", COUNT, "business", _count(lambda cell: cell.cancelled), _by_package(1)
    ),
    SeriesMetric("bookings_abandoned", COUNT, "business", _count(lambda cell: cell.abandoned)),
    SeriesMetric("bookings_expired", COUNT, "business", _count(lambda cell: cell.expired)),
    SeriesMetric("revenue_gross", MONEY, "business", _money(lambda sums: Figure(sums[1]))),
    SeriesMetric("revenue_refunded", MONEY, "business", _money(lambda sums: Figure(sums[2]))),
    SeriesMetric("revenue_net", MONEY, "business", _money(lambda sums: Figure(sums[1] - sums[2]))),
    SeriesMetric(
        "revenue_average", MONEY, "business", _money(lambda sums: ratio(sums[1], sums[0]))
    ),
    SeriesMetric("avg_booking_time", MS, "business", _mean(_booking_time)),
    SeriesMetric("booking_time_p50", MS, "business", _quantile(_booking_time, 0.5)),
    SeriesMetric("booking_time_p95", MS, "business", _quantile(_booking_time, 0.95)),
    SeriesMetric(
        "form_abandonment",
        RATIO,
        "business",
        _one(lambda cell: ratio(cell.form_abandoned, cell.started)),
    ),
)
_ERRORS: Final = (
    SeriesMetric(
        *("errors", COUNT, "errors", _count(_errors)),
        {"reason": Split("errors", _by_reason), **_by_counter(ERRORS)},
    ),
    SeriesMetric("booking_errors", COUNT, "errors", _errors_of("booking")),
    SeriesMetric("payment_failures", COUNT, "errors", _errors_of("payment")),
    SeriesMetric("availability_errors", COUNT, "errors", _errors_of("availability")),
    SeriesMetric("internal_errors", COUNT, "errors", _errors_of("internal")),
    SeriesMetric(
        *("error_rate", RATIO, "errors"),
        _one(lambda cell: ratio(_errors(cell), cell.write_rpcs)),
        _by_ratio(ERRORS, ATTEMPTS),
    ),
)
_QUERIES: Final = (
    _of_queries("queries", COUNT, lambda cell: Figure(cell.total)),
    _of_queries("failed_queries", COUNT, lambda cell: Figure(cell.failed)),
    _of_queries("slow_queries", COUNT, lambda cell: Figure(cell.over_500ms)),
    _of_queries("critical_queries", COUNT, lambda cell: Figure(cell.over_1000ms)),
    _of_queries("query_rows", COUNT, lambda cell: Figure(cell.rows), split=False),
    _of_queries(
        "query_mean",
        MS,
        lambda cell: ratio(cell.execute_us.sum / _US_PER_MS, cell.execute_us.count),
    ),
    _of_queries("query_p50", MS, lambda cell: _quantile_of(cell.execute_us, 0.5), split=False),
    _of_queries("query_p95", MS, lambda cell: _quantile_of(cell.execute_us, 0.95)),
    _of_queries("query_p99", MS, lambda cell: _quantile_of(cell.execute_us, 0.99)),
    _of_queries(
        "pool_wait_p95", MS, lambda cell: _quantile_of(cell.pool_wait_us, 0.95), split=False
    ),
)

METRICS: Final[Mapping[str, SeriesMetric]] = MappingProxyType(
    {metric.name: metric for metric in (*_FUNNEL, *_BUSINESS, *_ERRORS, *_QUERIES)}
)
"""By name. The step rates include actors whose chain is still open; "_matured" ones are of slots
that ended at least a conversion window and the lateness ago. The actor of a split is (session,
package), and the keys of a split add up to all that its table has.
"""
