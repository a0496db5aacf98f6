"""Judges values by a rule. A ratio or a mean is beyond a line only where its 95% interval is."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Final, NamedTuple

from metrics_service.alerts.model import Labels, Rule, Sample, Verdict
from metrics_service.alerts.words import amount, span
from metrics_service.state.figures import rate, wilson

_Z: Final = 1.96


class Interval(NamedTuple):
    """What one window says: a value of n samples, with the bounds of its 95% interval."""

    window_us: int
    numerator: int
    samples: int
    value: float
    low: float
    high: float


def share(window_us: int, numerator: int, samples: int) -> Interval:
    """Return a ratio with Wilson's bounds; of no samples its value is 0."""
    if samples <= 0:
        return Interval(window_us, numerator, 0, 0.0, 0.0, 1.0)
    low, high = wilson(numerator, samples)
    return Interval(window_us, numerator, samples, numerator / samples, low, high)


def mean(window_us: int, samples: int, value: float, variance: float) -> Interval:
    """Return a mean with the bounds of its standard error."""
    half = _Z * math.sqrt(variance / samples) if samples else 0.0
    return Interval(window_us, 0, samples, value, value - half, value + half)


def judge_intervals(rule: Rule, intervals: Iterable[Interval], *, ratio: bool) -> Sample:
    """Judge by the shortest window that decides: bad where its whole interval is beyond the line,
    good where it is on the right side, the value resolves, and no shorter window has a value beyond
    the line. Where none decides, the longest is good by its value alone. Where nothing has come in
    the shortest window, nothing is known: what is old says nothing of now.
    """
    below = rule.comparison == "below"
    longest: Interval | None = None
    contradicted = False
    for number, each in enumerate(intervals):
        if not number and not each.samples:
            break
        if each.samples >= max(rule.min_samples, 1):
            longest = each
            best, worst = (each.high, each.low) if below else (each.low, each.high)
            if _beyond(rule, best):
                return _sample(rule, Verdict.BAD, each, ratio=ratio)
            if not (_beyond(rule, worst) or contradicted) and _resolves(rule, each.value):
                return _sample(rule, Verdict.GOOD, each, ratio=ratio)
        contradicted = contradicted or (each.samples > 0 and _beyond(rule, each.value))
    if longest is None:
        return Sample((), Verdict.UNKNOWN)
    good = _resolves(rule, longest.value) and not contradicted
    return _sample(rule, Verdict.GOOD if good else Verdict.BETWEEN, longest, ratio=ratio)


def judge_none(rule: Rule, recent: Interval) -> Sample | None:
    """Return a sample that fires at once if nothing converts at all, of at least none_of; None if
    that is not so.
    """
    if not rule.none_of or recent.numerator or recent.samples < rule.none_of:
        return None
    return _sample(rule, Verdict.BAD, recent, ratio=True, urgent=True)


def judge_value(
    rule: Rule,
    value: float,
    *,
    labels: Labels = (),
    samples: int | None = None,
    window_us: int = 0,
    summary: str = "",
) -> Sample:
    """Judge a value as it is; too few samples are no data."""
    if samples is not None and samples < max(rule.min_samples, 1):
        return Sample(labels, Verdict.UNKNOWN)
    verdict = Verdict.BETWEEN
    if _beyond(rule, value):
        verdict = Verdict.BAD
    elif _resolves(rule, value):
        verdict = Verdict.GOOD
    if not summary:
        within = f" over {span(window_us)}" if window_us else ""
        summary = f"{rule.title}: {amount(value, rule.unit)}{within}, {_line(rule)}"
    return Sample(labels, verdict, summary, value, window_us=window_us)


def _sample(
    rule: Rule, verdict: Verdict, found: Interval, *, ratio: bool, urgent: bool = False
) -> Sample:
    of = f"{found.numerator} of {found.samples}" if ratio else f"of {found.samples}"
    return Sample(
        (),
        verdict,
        f"{rule.title}: {amount(found.value, rule.unit)} ({of}) over {span(found.window_us)},"
        f" {_line(rule)}",
        found.value,
        ratio=rate(found.numerator, found.samples) if ratio else None,
        window_us=found.window_us,
        urgent=urgent,
    )


def _beyond(rule: Rule, value: float) -> bool:
    """Whether a value is on the wrong side of the line; the line itself is healthy."""
    return value < rule.line if rule.comparison == "below" else value > rule.line


def _resolves(rule: Rule, value: float) -> bool:
    return value >= rule.resolve if rule.comparison == "below" else value <= rule.resolve


def _line(rule: Rule) -> str:
    return f"line {amount(rule.line, rule.unit)}"
