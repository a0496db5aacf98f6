"""Why an alert fires, as far as the figures of its window say: first whether the data can be
trusted, then the step, the packages, the errors and the queries that contribute most.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from itertools import chain, islice
from typing import Final, NamedTuple

from metrics_service.alerts.engine.signals import reasons_of
from metrics_service.alerts.engine.sources import Figures
from metrics_service.alerts.model import Rule, Sample
from metrics_service.alerts.rules.metrics import HEALTH_ISSUES, METRICS
from metrics_service.alerts.words import amount, span
from metrics_service.state.errors import ErrorCell
from metrics_service.state.funnel.cell import FunnelCounts
from metrics_service.state.funnel.funnel import STEPS
from metrics_service.state.series.rings import HOUR_US, MINUTE_US, WindowError
from protos.metrics.v1.alert_pb2 import AlertCause
from protos.metrics.v1.health_pb2 import DatabaseHealth

MAX_OF_A_KIND: Final = 3
MAX_TEXT: Final = 300
MIN_MISSED: Final = 2
"""Conversions that a package has to miss to be named."""

UNMATCHED_SHARE: Final = 0.05
"""Of the actors of the step: more events that extend no chain are worth a word."""

_STEP_METRICS: Final = ("view_to_start", "start_to_complete", "complete_to_confirm")
_STEPS_OF: Final = {
    "view_to_start": (0, 1),
    "start_to_complete": (1, 2),
    "complete_to_confirm": (2, 3),
    "overall_conversion": (0, 3),
}
_OF_BUSINESS: Final = frozenset({"funnel", "business"})


class Evidence(NamedTuple):
    """What is known at the moment: figures, health, the telemetry that was dropped in the last
    hour, and all rules.
    """

    figures: Figures | None
    health: DatabaseHealth | None
    dropped: int
    rules: Sequence[Rule]


def causes(rule: Rule, sample: Sample, evidence: Evidence) -> list[AlertCause]:
    """Return what has contributed, in the order of weight."""
    if METRICS[rule.metric].signals:
        return list(_reasons(rule, evidence.health))
    figures = evidence.figures
    if figures is None:
        return []
    window_us = sample.window_us or 5 * MINUTE_US
    series = METRICS[rule.metric].series
    kinds: list[Iterator[AlertCause]] = [_quality(figures, window_us, evidence.dropped)]
    if series is not None and series.table in _OF_BUSINESS:
        kinds.append(_steps(rule, figures, window_us, evidence.rules))
        kinds.append(_packages(rule, figures, window_us))
    kinds += [_errors(figures, window_us), _queries(figures, window_us)]
    return list(chain.from_iterable(islice(each, MAX_OF_A_KIND) for each in kinds))


def _cause(kind: str, key: str, text: str) -> AlertCause:
    return AlertCause(kind=kind, key=key, text=text[:MAX_TEXT])


def _quality(figures: Figures, window_us: int, dropped: int) -> Iterator[AlertCause]:
    """Yield why the figures themselves may be wrong: what has stopped to be counted looks like bad
    business.
    """
    if dropped:
        text = f"{dropped} events or timings were dropped in the last hour: figures are too low"
        yield _cause("quality", "dropped", text)
    cell: FunnelCounts = figures.cell("funnel", _kept(window_us))
    for number, step in enumerate(STEPS):
        unmatched = cell.unmatched[number]
        if unmatched > UNMATCHED_SHARE * max(cell.reached[number], 1):
            text = (
                f"{unmatched} events of step {step} followed no step before it, beside"
                f" {cell.reached[number]} that did: an earlier step may no longer be reported"
            )
            yield _cause("quality", f"unmatched {step}", text)


def _steps(
    rule: Rule, figures: Figures, window_us: int, rules: Sequence[Rule]
) -> Iterator[AlertCause]:
    """Yield the steps of the funnel, the one that is furthest below its good range first."""
    cell: FunnelCounts = figures.matured("funnel", window_us)
    found = []
    for number, metric in enumerate(_STEP_METRICS, 1):
        reached, before = cell.reached[number], cell.reached[number - 1]
        own = next((each for each in rules if each.metric == metric), None)
        if not before or (rule.metric in _STEP_METRICS and rule.metric != metric):
            continue
        good = own.good[0] if own and own.good else 0.0
        share = reached / before
        name = f"{STEPS[number - 1]} to {STEPS[number]}"
        text = f"{name}: {amount(share, '1')}, {reached} of {before}"
        if good:
            text += f", good from {amount(good, '1')}"
        found.append((share / good if good else 1.0, number, _cause("step", STEPS[number], text)))
    yield from (each[2] for each in sorted(found, key=lambda each: each[:2]) if each[0] < 1)


def _packages(rule: Rule, figures: Figures, window_us: int) -> Iterator[AlertCause]:
    """Yield the packages that miss most conversions of a step, against the good range of the rule,
    or of the whole funnel. The rate of the others says whether it is a matter of the package.
    """
    first, last = _STEPS_OF.get(rule.metric, (0, len(STEPS) - 1))
    good = rule.good[0] if rule.good and rule.metric in _STEPS_OF else 0.0
    with suppress(WindowError):
        found = figures.packages(window_us)
        before, after = (sum(reached[step] for reached in found.values()) for step in (first, last))
        share = good or (after / before if before else 0.0)
        missed = Counter(
            {
                package: round(share * reached[first] - reached[last])
                for package, reached in found.items()
            }
        )
        for package, missing in _most(missed):
            if missing < MIN_MISSED:
                return
            mine, own = found[package][first], found[package][last]
            text = f"package {package}: {own} of {mine} in {span(window_us)}"
            if before > mine:
                text += f", the others {amount((after - own) / (before - mine), '1')}"
            yield _cause("package", package, text)


def _errors(figures: Figures, window_us: int) -> Iterator[AlertCause]:
    """Yield the most frequent reasons of errors."""
    cell: ErrorCell = figures.cell("errors", _kept(window_us))
    counts: Counter[str] = Counter()
    for key, (count, _, _) in cell.groups.items():
        if key.counts_as_error:
            counts[key.reason] += count
    for reason, count in _most(counts):
        text = f"{count} errors with the reason {reason} in {span(_kept(window_us))}"
        yield _cause("error", reason, text)


def _queries(figures: Figures, window_us: int) -> Iterator[AlertCause]:
    """Yield the operations with the slowest queries."""
    slowest: Counter[str] = Counter()
    for slow, query in figures.critical_queries(figures.as_of_us - _kept(window_us)):
        slowest[query.operation] = max(slowest[query.operation], slow.execute_us // 1000)
    for operation, took_ms in _most(slowest):
        yield _cause("query", operation, f"{operation} took up to {took_ms:,} ms")


def _reasons(rule: Rule, health: DatabaseHealth | None) -> Iterator[AlertCause]:
    """Yield the reasons of health."""
    if health is None:
        return
    known = rule.metric in HEALTH_ISSUES or rule.metric == "database_unhealthy"
    for reason in reasons_of(rule, health) if known else health.reasons:
        text = f"{reason.instance}: {reason.message}" if reason.instance else reason.message
        yield _cause("reason", reason.criterion, text)


def _kept(window_us: int) -> int:
    """Return the window up to now that shows what goes on: an hour at most."""
    return min(window_us, HOUR_US)


def _most(counts: Counter[str]) -> list[tuple[str, int]]:
    """Return the greatest counts, and of equal ones those that come first by name."""
    return sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:MAX_OF_A_KIND]
