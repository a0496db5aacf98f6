"""What a scrape of about 2,500 series costs the event loop, and prometheus-client for as many.

Run with `make bench-scrape`. It ends with 1 if a claim does not hold.
"""

from __future__ import annotations

import argparse
import gzip
import random
import sys
import time
from collections.abc import Callable, Iterable
from typing import Any, Final

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.openmetrics.exposition import generate_latest as generate_openmetrics

from metrics_service.state.fold import State
from metrics_service.web.scrape import figures
from servicekit.exposition.declare import Family
from servicekit.exposition.scrape import GZIP_LEVEL
from servicekit.exposition.writer import Writer
from tests.bench.report import verdict
from tests.metrics.state.log import MINUTE, NOW, SECOND, Fact, Log

MAX_MS: Final = 5.0
MIN_TIMES: Final = 5.0
"""How many times as much the usual library is to cost, for the same series."""

SERIES: Final = 2_500
OPERATIONS: Final = 90
REASONS: Final = 60
RPCS: Final = 45


def main() -> int:
    """Print each figure and whether its claim holds."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--times", type=int, default=30)
    times = parser.parse_args().times
    state = filled()
    writer = Writer()
    lines = writer.write(figures.families(state)).openmetrics
    print(f"{series(lines):,} series of the log, {len(lines) / 1e3:,.0f} kB")
    ours = least_ms(lambda: writer.write(figures.families(state)), times)
    collected = least_ms(lambda: list(figures.families(state)), times)
    zipped = least_ms(lambda: gzip.compress(lines.encode(), GZIP_LEVEL), times)
    usual = usual_ms(list(figures.families(state)), times)
    holds = ours <= MAX_MS
    print(f"one scrape: {ours:.1f} ms of CPU, {collected:.1f} of them to collect: {verdict(holds)}")
    print(f"gzip, in a thread of its own: {zipped:.1f} ms")
    cheaper = min(usual) / ours >= MIN_TIMES
    print(
        f"prometheus-client: {usual[0]:.1f} ms, OpenMetrics {usual[1]:.1f} ms: {verdict(cheaper)}"
    )
    return 0 if holds and cheaper else 1


def filled() -> State:
    """A state with about SERIES series."""
    dice, log = random.Random(1), Log(NOW)
    for number in range(OPERATIONS):
        log.append(log.define(number, f"bookings.operation_{number}"))
        took = [int(dice.lognormvariate(8, 2)) for _ in range(200)]
        log.append(log.queries(took, fingerprint=number, rows=3))
    for number in range(REASONS):
        log.append(log.refused(NOW, f"REASON_{number}"))
    for number in range(RPCS):
        log.append(log.tally(NOW, 9, 1, rpc=f"booking.v1.BookingService/Rpc{number}", queries=20))
    for number in range(500):
        at_us = NOW - dice.randrange(20 * 60) * MINUTE
        log.append(log.view(at_us, f"s{number}"))
        log.append(
            log.fact(
                Fact.STARTED, at_us + SECOND, f"s{number}", booking=f"b{number}", hold_us=at_us
            )
        )
    log.tick(NOW + 2 * SECOND)
    for _ in log.state.prepare():
        pass
    return log.state


def series(text: str) -> int:
    """Return how many samples a text has."""
    return sum(not line.startswith("#") for line in text.splitlines())


def least_ms(work: Callable[[], object], times: int) -> float:
    """Return the CPU of the cheapest of some runs."""
    work()
    spent = []
    for _ in range(times):
        began = time.process_time()
        work()
        spent.append(time.process_time() - began)
    return min(spent) * 1_000


def usual_ms(families: Iterable[Family], times: int) -> tuple[float, float]:
    """Return what the usual library takes for the same series, in both formats."""

    class Collector:
        def collect(self) -> Iterable[Any]:
            for metric, samples in families:
                yield _usual(metric, samples)

    registry = CollectorRegistry()
    registry.register(Collector())
    return (
        least_ms(lambda: generate_latest(registry), max(3, times // 5)),
        least_ms(lambda: generate_openmetrics(registry), max(3, times // 5)),  # type: ignore[no-untyped-call]
    )


def _usual(metric: Any, samples: Any) -> Any:
    if metric.type == "histogram":
        made: Any = HistogramMetricFamily(metric.family, metric.help, labels=metric.labels)
        bounds = [*map(str, metric.buckets), "+Inf"]
        for labels, (counts, total, _) in samples.items():
            made.add_metric(labels, [*zip(bounds, counts, strict=True)], total)
        return made
    kind: Any = CounterMetricFamily if metric.type == "counter" else GaugeMetricFamily
    made = kind(metric.family, metric.help, labels=metric.labels)
    for labels, value in samples.items():
        made.add_metric(labels, value)
    return made


if __name__ == "__main__":
    sys.exit(main())
