"""The figures of the last five minutes are exact counts, and bounded."""

from __future__ import annotations

import random

import pytest

from metrics_service.client.health import (
    Figures,
    HealthWindow,
    Status,
    judge,
)
from metrics_service.client.queries.record import Outcome, QueryDefinition, QueryRecord
from metrics_service.measure.sketch import Sketch
from protos.tracking.v1 import tracking_pb2
from tests.metrics.client.health.feeding import DEFINITION, MS, feed, record
from tests.metrics.client.recording import Clock


@pytest.mark.parametrize(
    ("execute_us", "slow", "at_least_1000", "over_1000", "at_least_2000", "over_2000"),
    [
        (500_000, 0, 0, 0, 0, 0),
        (500_001, 1, 0, 0, 0, 0),
        (999_999, 1, 0, 0, 0, 0),
        (1_000_000, 1, 1, 0, 0, 0),
        (1_000_001, 1, 1, 1, 0, 0),
        (2_000_000, 1, 1, 1, 1, 0),
        (2_000_001, 1, 1, 1, 1, 1),
    ],
)
def test_thresholds_are_exact_to_the_microsecond(
    window: HealthWindow,
    execute_us: int,
    slow: int,
    at_least_1000: int,
    over_1000: int,
    at_least_2000: int,
    over_2000: int,
) -> None:
    figures = feed(window, execute_us)
    assert figures.samples == 1
    assert (
        figures.slow,
        figures.at_least_1000ms,
        figures.over_1000ms,
        figures.at_least_2000ms,
        figures.over_2000ms,
    ) == (slow, at_least_1000, over_1000, at_least_2000, over_2000)


def test_cancelled_misuse_and_internal_are_not_in_the_figures(window: HealthWindow) -> None:
    window.record_query(record(9_000_000, Outcome.CANCELLED), DEFINITION)
    window.record_query(record(9_000_000, Outcome.MISUSE), DEFINITION)
    window.record_query(record(9_000_000, Outcome.TIMEOUT, internal=True), DEFINITION)
    assert window.figures() == Figures()


def test_percentiles_are_of_execute_time_within_one_percent(window: HealthWindow) -> None:
    figures = feed(window, *(n * MS for n in range(1, 101)))
    assert figures.p50_ms == pytest.approx(50, rel=0.01)
    assert figures.p95_ms == pytest.approx(95, rel=0.01)
    assert figures.p99_ms == pytest.approx(99, rel=0.01)


def test_the_window_slides(window: HealthWindow, clock: Clock) -> None:
    feed(window, *[600_000] * 5)
    clock.s += 150
    feed(window, *[600_000] * 5)
    clock.s += 149
    assert (window.figures().samples, window.figures().slow) == (10, 10)
    clock.s += 2
    assert (window.figures().samples, window.figures().slow) == (5, 5)
    clock.s += 300
    assert window.figures() == Figures()


def test_failures_beyond_the_limit_are_still_counted(window: HealthWindow) -> None:
    for _ in range(40):
        window.record_query(record(1, Outcome.TIMEOUT), DEFINITION)
    assert window.figures().failed == 40


def test_beats_add_up_to_the_direct_counts(clock: Clock) -> None:
    chance = random.Random(7)
    windows = [HealthWindow(monotonic_ns=clock.monotonic_ns) for _ in range(3)]
    direct = HealthWindow(monotonic_ns=clock.monotonic_ns)
    merged = HealthWindow(monotonic_ns=clock.monotonic_ns)
    for _ in range(20):
        for window in windows:
            for _ in range(50):
                execute_us = int(chance.lognormvariate(12.5, 1.2))
                outcome = Outcome.TIMEOUT if chance.random() < 0.02 else Outcome.OK
                for one in (window, direct):
                    one.record_query(record(execute_us, outcome), chance.choice([DEFINITION]))
            counts, operations = window.beat()
            sent = tracking_pb2.QueryCounts.FromString(counts.SerializeToString())
            merged.add_counts(sent, operations)
        clock.s += 2
    assert merged.figures() == direct.figures()
    assert merged.figures().samples == 3000


def test_frequent_calls_of_figures_do_not_change_them(window: HealthWindow, clock: Clock) -> None:
    chance = random.Random(5)
    outcomes = [Outcome.OK] * 8 + [Outcome.TIMEOUT, Outcome.CANCELLED]
    fed: list[tuple[float, QueryRecord, QueryDefinition]] = []
    for step in range(400):
        for _ in range(chance.randrange(4)):
            execute_us, outcome = round(chance.lognormvariate(11, 2)), chance.choice(outcomes)
            named = QueryDefinition(1, "m", f"made_up_{chance.randrange(150)}", "")
            fed.append((clock.s, record(execute_us, outcome), named))
            window.record_query(*fed[-1][1:])
        # Within a slot, to the next, over some, and now and then past the whole window.
        clock.s += 301 if step % 90 == 89 else chance.choice([0.5, 2, 4.9, 5, 7, 30])
        figures = window.figures()
        if step % 40 == 0:
            other_clock = Clock()
            other = HealthWindow(monotonic_ns=other_clock.monotonic_ns)
            for other_clock.s, each, named in fed:
                other.record_query(each, named)
            other_clock.s = clock.s
            assert figures == other.figures()


def test_figures_do_not_add_up_the_whole_window_each_time(
    window: HealthWindow, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(59):
        feed(window, 1000)
        clock.s += 5
    merges = 0
    merge = Sketch.merge

    def counted(self: Sketch, other: Sketch) -> None:
        nonlocal merges
        merges += 1
        merge(self, other)

    monkeypatch.setattr(Sketch, "merge", counted)
    assert feed(window, 1000).samples == 60
    assert 59 <= merges < 70
    merges = 0
    assert feed(window, 1000).samples == 61
    assert merges < 10


def test_a_malformed_sketch_leaves_the_counts_exact(window: HealthWindow) -> None:
    broken = tracking_pb2.Sketch(index_delta=[1, 2], count=[1])
    window.add_counts(tracking_pb2.QueryCounts(total=12, failed=11, execute_us=broken))
    assert window.figures().p99_ms is None
    assert judge(window.figures(), None).status is Status.UNHEALTHY


def test_a_beat_counts_what_came_since_the_last(window: HealthWindow) -> None:
    feed(window, 600_000, 1)
    counts, operations = window.beat()
    assert (counts.total, counts.over_500ms) == (2, 1)
    assert [(o.operation, o.total, o.slow) for o in operations] == [("bookings.create", 1, 1)]
    counts, operations = window.beat()
    assert counts == tracking_pb2.QueryCounts()
    assert operations == []
    assert window.figures().samples == 2


def test_many_operations_stay_bounded(window: HealthWindow) -> None:
    for n in range(1000):
        window.record_query(record(1, Outcome.TIMEOUT), QueryDefinition(n, "m", f"made_up_{n}", ""))
    shown = window.figures().operations
    assert len(shown) == 101
    assert (shown[0].operation, shown[0].failed) == ("other", 900)
    assert len(window.beat()[1]) == 10
