"""The items of a deployment's report: each is a pure function of the hours before and after it.

A percentile is within 1%, since it comes from a sketch. A ratio is judged by Wilson's bounds: it
fails when even the better bound is beyond the line, and passes when even the worse one is not.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Final

from metrics_service.alerts.deployments.hours import MATURE_US, Hour, Watch
from metrics_service.measure.sketch import Sketch
from metrics_service.state.figures import rate
from metrics_service.state.series.rings import HOUR_US
from protos.metrics.v1.deployment_pb2 import DeploymentItem, DeploymentReport
from protos.metrics.v1.metrics_pb2 import Rate

P95_MS: Final = 300
P99_MS: Final = 500
SLOW_PER_HOUR: Final = 10
ERROR_RATE: Final = 0.01
CONVERSION: Final = 0.15

MIN_SAMPLES: Final = 100
"""Queries, RPCs or actors below which nothing is judged, an hour's percentiles neither."""

MAX_NAMED_RULES: Final = 5


def query_p95(watch: Watch) -> DeploymentItem:
    """Judge the 95th percentile of execute times, over the whole and in the worst hour."""
    return _percentile("query_p95", 0.95, P95_MS, watch, lambda hour: hour.p95_ms)


def query_p99(watch: Watch) -> DeploymentItem:
    """Judge the 99th percentile of execute times, over the whole and in the worst hour."""
    return _percentile("query_p99", 0.99, P99_MS, watch, lambda hour: hour.p99_ms)


def slow_queries(watch: Watch) -> DeploymentItem:
    """Judge the queries above 500 ms of each hour."""
    queries = watch.times_after.count
    item = DeploymentItem(
        name="slow_queries", target=f"< {SLOW_PER_HOUR} an hour", unit="count", samples=queries
    )
    most = max(watch.after, key=lambda hour: hour.slow, default=None)
    said = "no query"
    if most is not None and queries:
        item.observed = item.worst = most.slow
        item.worst_hour.FromMicroseconds(most.begin_us)
        said = f"at most {most.slow} slow queries an hour, in that of {_utc(most.begin_us)}"
    if watch.times_before.count:
        item.before = max(hour.slow for hour in watch.before)
    failed = most is not None and most.slow >= SLOW_PER_HOUR
    return _judged(item, watch, said, failed, passed=queries >= MIN_SAMPLES)


def error_rate(watch: Watch) -> DeploymentItem:
    """Judge counted errors by ended RPCs that change something."""
    item = DeploymentItem(name="error_rate", target=f"< {ERROR_RATE:.0%}", unit="1")
    found = _errors(watch.after)
    worst = max(
        (hour for hour in watch.after if hour.writes),
        key=lambda hour: _errors([hour]).low,
        default=None,
    )
    said = _ratio(item, found, _errors(watch.before), worst, _errors)
    enough = found.denominator >= MIN_SAMPLES
    failed, passed = found.low >= ERROR_RATE, found.high < ERROR_RATE
    return _judged(item, watch, said, enough and failed, passed=enough and passed)


def conversion(watch: Watch) -> DeploymentItem:
    """Judge the actors that confirmed by those that entered, of the hours whose conversions are
    final.
    """
    item = DeploymentItem(name="conversion", target=f"> {CONVERSION:.0%}", unit="1")
    final_us = watch.as_of_us - MATURE_US
    hours = [hour for hour in watch.after if hour.begin_us + HOUR_US <= final_us]
    before = [hour for hour in watch.before if hour.begin_us + HOUR_US <= final_us]
    found = _conversions(hours)
    worst = min(
        (hour for hour in hours if hour.entered),
        key=lambda hour: _conversions([hour]).high,
        default=None,
    )
    said = _ratio(item, found, _conversions(before), worst, _conversions)
    enough = found.denominator >= MIN_SAMPLES
    failed, passed = found.high <= CONVERSION, found.low > CONVERSION
    return _judged(
        item, watch, said, enough and failed, passed=enough and passed, over=watch.matured
    )


def critical_alerts(watch: Watch) -> DeploymentItem:
    """Judge whether a critical alert has fired since the deployment."""
    item = DeploymentItem(name="critical_alerts", target="none", unit="count")
    if watch.alerts is None:
        return _judged(item, watch, "alerts are not recorded", failed=False, passed=False)
    since = [alert for alert in watch.alerts if watch.deployed_us <= alert.fired_us < watch.end_us]
    item.observed = item.samples = len(since)
    item.before = sum(alert.fired_us < watch.deployed_us for alert in watch.alerts)
    said = "no critical alert has fired"
    if since:
        rules = list(dict.fromkeys(alert.rule for alert in since))
        named = ", ".join(rules[:MAX_NAMED_RULES])
        said = f"{len(since)} critical alerts, the first at {_utc(since[0].fired_us)}: {named}"
    return _judged(item, watch, said, failed=bool(since), passed=True)


def _percentile(
    name: str, q: float, line_ms: int, watch: Watch, of: Callable[[Hour], float]
) -> DeploymentItem:
    item = DeploymentItem(name=name, target=f"< {line_ms} ms", unit="ms")
    whole = watch.times_after
    item.samples = whole.count
    said = "no query"
    if whole.count:
        item.observed = _ms(whole, q)
        said = f"{item.observed:.0f} ms over {whole.count:,} queries"
    judged = [hour for hour in watch.after if hour.queries >= MIN_SAMPLES]
    worst = max(judged, key=of, default=None)
    if worst is not None:
        item.worst = of(worst)
        item.worst_hour.FromMicroseconds(worst.begin_us)
        said += f", at worst {item.worst:.0f} ms in the hour of {_utc(worst.begin_us)}"
    if watch.times_before.count:
        item.before = _ms(watch.times_before, q)
    enough = whole.count >= MIN_SAMPLES
    failed = enough and max(item.observed, item.worst) >= line_ms
    return _judged(item, watch, said, failed, passed=enough)


def _ratio(
    item: DeploymentItem,
    found: Rate,
    before: Rate,
    worst: Hour | None,
    of: Callable[[Sequence[Hour]], Rate],
) -> str:
    """Fill in the figures of a ratio; returns them as a text."""
    item.samples = found.denominator
    if before.HasField("value"):
        item.before = before.value
    if not found.HasField("value"):
        return "no sample"
    item.observed, item.low, item.high = found.value, found.low, found.high
    said = f"{found.value:.2%} of {found.denominator:,}, {found.low:.2%} to {found.high:.2%}"
    if worst is not None:
        item.worst = of([worst]).value
        item.worst_hour.FromMicroseconds(worst.begin_us)
        said += f", at worst {item.worst:.2%} in the hour of {_utc(worst.begin_us)}"
    return said


def _judged(
    item: DeploymentItem,
    watch: Watch,
    said: str,
    failed: bool,
    *,
    passed: bool,
    over: bool | None = None,
) -> DeploymentItem:
    """Set the verdict and the summary. Hours that are not kept let nothing pass."""
    if watch.missing:
        said += f"; {watch.missing} of the 72 hours are not kept"
    item.summary = said
    if failed:
        item.verdict = DeploymentReport.FAIL
    elif not (watch.over if over is None else over):
        item.verdict = DeploymentReport.RUNNING
    elif passed and not watch.missing:
        item.verdict = DeploymentReport.PASS
    else:
        item.verdict = DeploymentReport.TOO_LITTLE_DATA
    return item


def _ms(execute_us: Sketch, q: float) -> float:
    return (execute_us.quantile(q) or 0.0) / 1000


def _errors(hours: Sequence[Hour]) -> Rate:
    return rate(sum(hour.errors for hour in hours), sum(hour.writes for hour in hours))


def _conversions(hours: Sequence[Hour]) -> Rate:
    return rate(sum(hour.converted for hour in hours), sum(hour.entered for hour in hours))


def _utc(time_us: int) -> str:
    return f"{datetime.fromtimestamp(time_us / 1e6, UTC):%Y-%m-%d %H:%M} UTC"
