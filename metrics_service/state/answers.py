"""Converts figures to the messages of the contract: each list is ranked and bounded, with the rest
in one sum.
"""

from __future__ import annotations

from typing import Final, NamedTuple, Self, TypeAlias

from metrics_service.state import groups
from metrics_service.state.business import ATTEMPTS, Attempts, BusinessCell
from metrics_service.state.errors import MAX_GROUPS
from metrics_service.state.figures import distribution, matured_rates, rate, revenue
from metrics_service.state.funnel.cell import FunnelCell, FunnelCounts
from metrics_service.state.funnel.funnel import MATURES_US
from metrics_service.state.sections import naming
from metrics_service.state.series.rings import RESOLUTIONS
from metrics_service.state.tables import Tables
from protos.metrics.v1 import metrics_pb2

MAX_SHOWN_PACKAGES: Final = 100
MAX_SHOWN_RPCS: Final = 100

SECTIONS: Final = ("funnel", "business", "performance", "errors", "quality")
"""The fields of a snapshot that are figures."""

_Request: TypeAlias = metrics_pb2.GetFunnelRequest
State: TypeAlias = metrics_pb2.GetFunnelRequest.State.ValueType
Section: TypeAlias = (
    metrics_pb2.Funnel
    | metrics_pb2.BusinessMetrics
    | metrics_pb2.PerformanceMetrics
    | metrics_pb2.ErrorMetrics
    | metrics_pb2.QualityMetrics
)


def section(
    tables: Tables, name: str, window_us: int | None, ended_us: int, now_us: int
) -> Section:
    """Return one of SECTIONS. Raises WindowError for a window that is not kept."""
    if name == "errors":
        return errors(tables, window_us, ended_us, now_us)
    if name == "quality":
        return quality(tables)
    if name == "funnel":
        return funnel(tables, window_us, ended_us, now_us)
    attempts = tables.business.rings.window(window_us, ended_us)
    if name == "business":
        return business(attempts)
    return performance(tables, window_us, ended_us, attempts)


@naming("funnel")
def funnel(
    tables: Tables, window_us: int | None, ended_us: int, now_us: int, state: State = _Request.LIVE
) -> metrics_pb2.Funnel:
    """Return the funnel of a window and the attempts in it, or of its matured slots."""
    fold = tables.funnel
    attempts: Attempts
    matured = Matured.of(tables, window_us, ended_us, now_us)
    if state == _Request.MATURED:
        cell = _matured_cell(tables, window_us, ended_us, now_us)
        attempts = matured.attempts
    else:
        cell = fold.window(window_us, ended_us)
        attempts = tables.business.rings.window(window_us, ended_us)
    answer = metrics_pb2.Funnel(
        state=state,
        entered=cell.entered,
        converted=cell.converted,
        abandoned=cell.abandoned,
        open=cell.open,
        overall=rate(cell.converted, cell.entered),
        bookings_started=attempts.started,
        bookings_completed=attempts.completed,
        bookings_confirmed=attempts.confirmed,
        bookings_cancelled=attempts.cancelled,
        bookings_abandoned=attempts.abandoned,
        bookings_expired=attempts.expired,
    )
    answer.conversion_window.FromMicroseconds(fold.window_us)
    reached = cell.reached
    for number, name in enumerate(fold.steps):
        step = answer.steps.add(name=name, actors=reached[number], unmatched=cell.unmatched[number])
        if number:
            step.from_previous.CopyFrom(rate(reached[number], reached[number - 1]))
            step.from_first.CopyFrom(rate(reached[number], reached[0]))
            step.dropped = reached[number - 1] - reached[number]
            step.time_from_first.CopyFrom(distribution(cell.from_first_us[number - 1]))
            step.time_from_previous.CopyFrom(distribution(cell.from_previous_us[number - 1]))
    if matured.actors.entered or matured.attempts.started:
        answer.matured.CopyFrom(_matured(matured))
    return answer


class Matured(NamedTuple):
    """The figures of the matured slots of a window, and their end."""

    actors: FunnelCounts
    attempts: Attempts
    until_us: int

    @classmethod
    def of(cls, tables: Tables, window_us: int | None, ended_us: int, now_us: int) -> Self:
        """Return those of a window. Of all times they are all but those of the newest slots."""
        before_us = now_us - MATURES_US
        fold, business = tables.funnel, tables.business.rings
        if window_us is None:
            actors, attempts = fold.counts.new(), Attempts()
            actors.merge(fold.rings.total)
            attempts.merge(business.total)
            actors.merge(fold.rings.since(fold.counts, before_us), -1)
            attempts.merge(business.since(ATTEMPTS, before_us), -1)
            step_us = RESOLUTIONS[0].step_us
            return cls(actors, attempts, before_us // step_us * step_us)
        return cls(
            fold.rings.counts(fold.counts, window_us, ended_us, before_us),
            business.counts(ATTEMPTS, window_us, ended_us, before_us),
            business.bounds(window_us, ended_us, before_us)[1],
        )


def _matured_cell(tables: Tables, window_us: int | None, ended_us: int, now_us: int) -> FunnelCell:
    fold, before_us = tables.funnel.rings, now_us - MATURES_US
    if window_us is not None:
        return fold.window(window_us, ended_us, before_us)
    return fold.total.less(fold.since(fold.whole, before_us))


def _matured(matured: Matured) -> metrics_pb2.MaturedRates:
    actors, attempts = matured.actors, matured.attempts
    answer = matured_rates(actors.reached, actors.abandoned, matured.until_us)
    answer.form_abandonment.CopyFrom(rate(attempts.form_abandoned, attempts.started))
    return answer


@naming("business")
def business(cell: BusinessCell) -> metrics_pb2.BusinessMetrics:
    ranked = sorted(cell.packages.items(), key=lambda item: (-item[1][0], -item[1][1], item[0]))
    rest = cell.other_packages[0] + sum(counts[0] for _, counts in ranked[MAX_SHOWN_PACKAGES:])
    return metrics_pb2.BusinessMetrics(
        confirmed=cell.confirmed,
        cancelled=cell.cancelled,
        revenue=[revenue(currency, sums) for currency, sums in sorted(cell.revenue.items())],
        packages=[
            metrics_pb2.PackageBookings(
                package_id=package_id, confirmed=counts[0], cancelled=counts[1]
            )
            for package_id, counts in ranked[:MAX_SHOWN_PACKAGES]
        ],
        other_packages=rest,
        package_views=cell.views,
    )


@naming("performance")
def performance(
    tables: Tables, window_us: int | None, ended_us: int, attempts: BusinessCell
) -> metrics_pb2.PerformanceMetrics:
    """Return the times of bookings and queries of a window, and the queries that its RPCs ran."""
    rpcs = tables.rpcs.rings.window(window_us, ended_us)
    return metrics_pb2.PerformanceMetrics(
        booking_time=distribution(attempts.booking_time_us),
        form_abandonment=rate(attempts.form_abandoned, attempts.started),
        queries=tables.queries.total(window_us, ended_us).stats(),
        rpcs=[
            metrics_pb2.RpcQueries(
                rpc=rpc, calls=calls, queries=total, mean=total / calls, max=most
            )
            for rpc, calls, total, most in rpcs.ranked()[:MAX_SHOWN_RPCS]
        ],
    )


@naming("errors")
def errors(
    tables: Tables, window_us: int | None, ended_us: int, now_us: int
) -> metrics_pb2.ErrorMetrics:
    """Return the errors of a window, most frequent first, and the count of the last 5 minutes."""
    cell = tables.errors.rings.window(window_us, ended_us)
    ranked = sorted(cell.groups.items(), key=lambda item: (-item[1][0], item[0]))
    answer = metrics_pb2.ErrorMetrics(
        booking_errors=cell.kinds.get("booking", 0),
        payment_failures=cell.kinds.get("payment", 0),
        availability_errors=cell.kinds.get("availability", 0),
        internal_errors=cell.kinds.get("internal", 0),
        error_rate=rate(sum(cell.kinds.values()), cell.write_rpcs),
        last_5_minutes=tables.errors.last_five_minutes(now_us),
        other=cell.other + sum(seen[0] for _, seen in ranked[MAX_GROUPS:]),
    )
    for key, (count, first_us, last_us) in ranked[:MAX_GROUPS]:
        group = answer.breakdown.add(
            reason=key.reason,
            kind=key.kind,
            counts_as_error=key.counts_as_error,
            code=key.code,
            rpc=key.rpc,
            count=count,
        )
        group.first_seen.FromMicroseconds(first_us)
        group.last_seen.FromMicroseconds(last_us)
    return answer


@naming("errors")
def error_breakdown(
    tables: Tables, window_us: int | None, ended_us: int, now_us: int
) -> metrics_pb2.ErrorMetrics:
    """Return the errors of a window with samples of them, and the packages with errors."""
    answer = errors(tables, window_us, ended_us, now_us)
    for each in answer.breakdown:
        key = each.reason, each.kind, each.counts_as_error, each.code, each.rpc
        for time_us, package_id in tables.errors.samples.of(key):
            each.samples.add(package_id=package_id).time.FromMicroseconds(time_us)
    groups.add_package_errors(answer, tables, window_us, ended_us)
    return answer


@naming("quality")
def quality(tables: Tables) -> metrics_pb2.QualityMetrics:
    """Return the counters of everything folded so far."""
    return metrics_pb2.QualityMetrics(
        **tables.quality.counters(),
        late=tables.funnel.late,
        unmatched_steps=sum(tables.funnel.window(None).unmatched),
        evicted=tables.evicted(),
    )
