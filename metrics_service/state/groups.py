"""Converts figures by package, package type, location and vendor, and by day of entry, to messages
of the contract: ranked and bounded, with the rest in one sum.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Final

from metrics_service.state.breakdown.cell import (
    ABANDONED,
    ATTEMPTS,
    ERRORS,
    REACHED,
    VIEWS,
    BreakdownCell,
)
from metrics_service.state.breakdown.sums import Sums, sums_by
from metrics_service.state.figures import matured_rates, rate, revenue
from metrics_service.state.funnel.cell import FunnelCell, FunnelCounts
from metrics_service.state.funnel.funnel import MATURES_US
from metrics_service.state.sections import naming
from metrics_service.state.series.kind import Kind
from metrics_service.state.series.rings import DAY_US, HOUR_US, Rings
from metrics_service.state.tables import Tables
from protos.metrics.v1 import metrics_pb2
from protos.metrics.v1.series_pb2 import DIMENSION_PACKAGE, Dimension

MAX_SHOWN_GROUPS: Final = 100
MAX_SHOWN_CURRENCIES: Final = 10
MAX_DAYS: Final = 30

_PACKAGE: Final = 0
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


@naming("breakdown")
def add_groups(
    answer: metrics_pb2.Funnel,
    tables: Tables,
    window: tuple[int | None, int],
    now_us: int,
    by: Dimension.ValueType,
) -> None:
    """Add the groups of a funnel, of its matured slots if that is its state."""
    window_us, ended_us = window
    if window_us is not None:
        window_us, ended_us = tables.breakdown.whole_minutes(window_us, ended_us)
    rings, before_us = tables.breakdown.rings, now_us - MATURES_US
    matured, until_us = _matured(rings, window_us, ended_us, before_us)
    cell = matured
    if answer.state != metrics_pb2.GetFunnelRequest.MATURED:
        cell = rings.window(window_us, ended_us)
    groups = sums_by(cell, by - DIMENSION_PACKAGE)
    settled = sums_by(matured, by - DIMENSION_PACKAGE)
    answer.by = by
    ranked = sorted(
        (key for key in groups if key is not None),
        key=lambda key: (-groups[key].counts[REACHED], -groups[key].counts[VIEWS], key),
    )
    shown = ranked[:MAX_SHOWN_GROUPS]
    for key in shown:
        of_matured = settled.get(key, Sums())
        answer.groups.append(_group(str(key), groups[key], of_matured, until_us))
    every = groups.keys() | settled.keys()
    for message, keys in ((answer.other_groups, every - {*shown}), (answer.all_groups, every)):
        live, old = _summed(groups, keys), _summed(settled, keys)
        message.CopyFrom(_group("", live, old, until_us))


def _matured(
    rings: Rings[BreakdownCell], window_us: int | None, ended_us: int, before_us: int
) -> tuple[BreakdownCell, int]:
    """Return the figures of the matured slots of a window, and their end."""
    if window_us is not None:
        cell = rings.window(window_us, ended_us, before_us)
        return cell, rings.bounds(window_us, ended_us, before_us)[1]
    cell = BreakdownCell()
    cell.merge(rings.total)
    cell.merge(rings.since(rings.whole, before_us), -1)
    return cell, before_us


def _summed(groups: dict[str | None, Sums], keys: Iterable[str | None]) -> Sums:
    total = Sums()
    for key in keys:
        if key in groups:
            total.add(groups[key])
    return total


def _group(key: str, live: Sums, matured: Sums, until_us: int) -> metrics_pb2.FunnelGroup:
    money = sorted(live.money.items(), key=lambda item: (-item[1][0], item[0]))
    answer = _funnel(key, live.counts[REACHED:], live.counts[ABANDONED])
    answer.package_views = live.counts[VIEWS]
    answer.revenue.extend(revenue(*each) for each in money[:MAX_SHOWN_CURRENCIES])
    _add_matured(answer, matured.counts[REACHED:], matured.counts[ABANDONED], until_us)
    return answer


def _funnel(key: str, reached: list[int], abandoned: int) -> metrics_pb2.FunnelGroup:
    return metrics_pb2.FunnelGroup(
        key=key,
        actors=reached,
        abandoned=abandoned,
        open=reached[0] - reached[-1] - abandoned,
        from_previous=[rate(after, before) for before, after in pairwise(reached)],
        overall=rate(reached[-1], reached[0]),
    )


def _add_matured(
    answer: metrics_pb2.FunnelGroup, reached: list[int], abandoned: int, until_us: int
) -> None:
    if reached[0]:
        answer.matured.CopyFrom(matured_rates(reached, abandoned, until_us))


@naming("funnel")
def add_days(answer: metrics_pb2.Funnel, tables: Tables, now_us: int, days: int) -> None:
    """Add the funnel of each of so many days, by the day of entry."""
    rings, counts = tables.funnel.rings, tables.funnel.counts
    matured_us = (now_us - MATURES_US) // HOUR_US * HOUR_US
    for day in range(now_us // DAY_US, now_us // DAY_US - days, -1):
        low_us, high_us = day * DAY_US, (day + 1) * DAY_US
        until_us = max(low_us, min(high_us, matured_us))
        matured = _between(rings, counts, low_us, until_us)
        live = matured
        if answer.state != metrics_pb2.GetFunnelRequest.MATURED and until_us < high_us:
            live = _between(rings, counts, low_us, high_us)
        name = (_EPOCH + timedelta(days=day)).date().isoformat()
        group = _funnel(name, live.reached, live.abandoned)
        _add_matured(group, matured.reached, matured.abandoned, until_us)
        answer.days.append(group)


def _between(
    rings: Rings[FunnelCell], kind: Kind[FunnelCounts], low_us: int, high_us: int
) -> FunnelCounts:
    """Return the actors of whole hours."""
    found = kind.new()
    for data in rings.hours.parts(low_us, high_us):
        found.merge(kind.decode(data) if isinstance(data, bytes) else data)
    for cell in rings.hours.late(low_us, high_us):
        found.merge(cell)
    return found


@naming("breakdown")
def add_package_errors(
    answer: metrics_pb2.ErrorMetrics, tables: Tables, window_us: int | None, ended_us: int
) -> None:
    """Add the packages with errors of a window."""
    if window_us is not None:
        window_us, ended_us = tables.breakdown.whole_minutes(window_us, ended_us)
    packages = sums_by(tables.breakdown.rings.window(window_us, ended_us), _PACKAGE)
    answer.other_packages = packages.pop(None).counts[ERRORS]
    ranked = sorted(
        (-sums.counts[ERRORS], str(key), sums.counts[ATTEMPTS])
        for key, sums in packages.items()
        if sums.counts[ERRORS]
    )
    for place, (negative, key, attempts) in enumerate(ranked):
        if place < MAX_SHOWN_GROUPS:
            errors = rate(-negative, attempts)
            answer.packages.add(package_id=key, count=-negative, error_rate=errors)
        else:
            answer.other_packages -= negative
