"""Figures as messages of the contract: a rate without a denominator and a percentile without
samples are absent, never 0.
"""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Final

from metrics_service.measure.sketch import Sketch
from metrics_service.state.currency import exponent
from protos.metrics.v1 import metrics_pb2

# The 97.5% quantile of the normal distribution.
_Z: Final = 1.959963984540054
_US_PER_MS: Final = 1000


def rate(numerator: int, denominator: int) -> metrics_pb2.Rate:
    """Return a share with the bounds of its interval."""
    answer = metrics_pb2.Rate(numerator=numerator, denominator=denominator)
    if denominator > 0:
        answer.value = numerator / denominator
        answer.low, answer.high = wilson(numerator, denominator)
    return answer


def wilson(numerator: int, denominator: int) -> tuple[float, float]:
    """Return the bounds of Wilson's 95% score interval (E. B. Wilson, JASA 22, 1927); the
    denominator is above 0.
    """
    share = min(max(numerator / denominator, 0.0), 1.0)
    spread = _Z * _Z / denominator
    centre = share + spread / 2
    half = math.sqrt(spread * (share * (1 - share) + spread / 4))
    # Rounding must not push a bound past the share itself.
    low = min(max((centre - half) / (1 + spread), 0.0), share)
    return low, max(min((centre + half) / (1 + spread), 1.0), share)


def distribution(durations_us: Sketch) -> metrics_pb2.Distribution:
    """Convert a sketch of microseconds to milliseconds."""
    answer = metrics_pb2.Distribution(count=durations_us.count)
    if durations_us.min is None or durations_us.max is None or durations_us.mean is None:
        return answer
    p50, p90, p95, p99 = durations_us.quantiles((0.5, 0.9, 0.95, 0.99))
    answer.mean_ms = durations_us.mean / _US_PER_MS
    answer.p50_ms = p50 / _US_PER_MS
    answer.p90_ms = p90 / _US_PER_MS
    answer.p95_ms = p95 / _US_PER_MS
    answer.p99_ms = p99 / _US_PER_MS
    answer.min_ms = durations_us.min / _US_PER_MS
    answer.max_ms = durations_us.max / _US_PER_MS
    return answer


def divide_half_even(amount: int, count: int) -> int:
    """Return amount / count, rounded half to even; count is above 0."""
    quotient, rest = divmod(amount, count)
    if 2 * rest > count or (2 * rest == count and quotient % 2):
        quotient += 1
    return quotient


def revenue(currency: str, sums: list[int]) -> metrics_pb2.Revenue:
    """Convert [confirmed, gross, refunded] of a currency."""
    confirmed, gross_minor, refunded_minor = sums
    answer = metrics_pb2.Revenue(
        currency=currency,
        exponent=exponent(currency),
        confirmed=confirmed,
        gross_minor=gross_minor,
        refunded_minor=refunded_minor,
        net_minor=gross_minor - refunded_minor,
    )
    if confirmed:
        answer.average_minor = divide_half_even(gross_minor, confirmed)
    return answer


def matured_rates(reached: list[int], abandoned: int, until_us: int) -> metrics_pb2.MaturedRates:
    """Return the rates of matured slots that end at until_us."""
    answer = metrics_pb2.MaturedRates(
        entered=reached[0],
        converted=reached[-1],
        abandoned=abandoned,
        from_previous=[rate(after, before) for before, after in pairwise(reached)],
        overall=rate(reached[-1], reached[0]),
    )
    answer.until.FromMicroseconds(until_us)
    return answer
