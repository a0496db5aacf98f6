"""The figures of a state as metrics: those of the other answers, and counters never fall."""

from __future__ import annotations

import random
from typing import Any

import pytest

from metrics_service.measure.sketch import Sketch
from metrics_service.state.counters import OTHER
from metrics_service.state.fold import State
from metrics_service.state.queries import cell as query_cells
from metrics_service.state.queries.durations import BOUNDS_US, QueryDurations
from metrics_service.web.scrape import figures
from protos.tracking.v1 import event_pb2
from servicekit.exposition.writer import END, Writer
from tests.metrics.state.log import MINUTE, NOW, SECOND, Fact, Log
from tests.metrics.web.scrape.figures_of import Samples, exemplars, of_state

HOUR = 60 * MINUTE


def booked(log: Log, number: int, at_us: int, currency: str = "EUR") -> list[event_pb2.Event]:
    session, booking = f"s{number}", f"b{number}"
    start_us = at_us + SECOND
    complete_us, confirm_us = at_us + 61 * SECOND, at_us + 62 * SECOND
    begun: dict[str, Any] = {"booking": booking, "hold_us": start_us, "currency": currency}
    done: dict[str, Any] = {**begun, "complete_us": complete_us}
    return [
        log.view(at_us, session),
        log.fact(Fact.STARTED, start_us, session, **begun),
        log.fact(Fact.COMPLETED, complete_us, session, **done),
        log.fact(Fact.CONFIRMED, confirm_us, session, **done, confirm_us=confirm_us, amount=12_345),
    ]


def of_metric(found: Samples, name: str) -> Samples:
    """The values of a metric by its labels."""
    return {key[1:]: value for key, value in found.items() if key[0] == name}


def counters_of(state: State) -> Samples:
    """The counters, and the buckets of histograms, of a state."""
    found: Samples = {}
    value: Any
    for metric, samples in figures.families(state):
        for labels, value in samples.items():
            if metric.type == "counter":
                found[metric.name, *labels] = float(value)
            elif metric.type == "histogram":
                found |= {
                    (metric.name, *labels, str(at)): count for at, count in enumerate(value.counts)
                }
    return found


def test_bookings_and_money_are_those_of_the_snapshot() -> None:
    log = Log()
    for number in range(5):
        log.append(*booked(log, number, NOW - HOUR, "JPY" if number == 4 else "EUR"))
    log.append(log.refund(NOW, 345, NOW - HOUR))
    log.append(log.view(NOW - HOUR, "looks on"), log.fact(Fact.ABANDONED, NOW, "s9", booking="b9"))
    log.tick(NOW + SECOND)
    found, snapshot = of_state(log.state), log.state.metrics()
    assert found["farehold_state_revision",] == snapshot.revision
    assert found["farehold_state_as_of_timestamp_seconds",] == log.state.as_of_us / 1e6
    funnel = snapshot.funnel
    assert of_metric(found, "farehold_bookings_total") == {
        ("started",): funnel.bookings_started,
        ("completed",): funnel.bookings_completed,
        ("confirmed",): snapshot.business.confirmed,
        ("cancelled",): funnel.bookings_cancelled,
        ("abandoned",): funnel.bookings_abandoned,
        ("expired",): funnel.bookings_expired,
    }
    assert found["farehold_package_views_total",] == 6
    assert found["farehold_revenue_gross_total", "EUR"] == 4 * 123.45
    assert found["farehold_revenue_gross_total", "JPY"] == 12_345
    assert found["farehold_revenue_refunded_total", "EUR"] == 3.45
    assert found["farehold_revenue_bookings_total", "EUR"] == 4
    assert found["farehold_booking_duration_seconds_count",] == 5
    assert found["farehold_booking_duration_seconds_sum",] == 300
    assert found["farehold_booking_duration_seconds_bucket", "30.0"] == 0
    assert found["farehold_booking_duration_seconds_bucket", "120.0"] == 5
    assert found["farehold_funnel_actors", "confirm", "live", "6h"] == 5
    assert found["farehold_funnel_previous_actors", "start", "live", "6h"] == 6
    assert found["farehold_funnel_actors", "overall", "matured", "1h"] == 5
    assert found["farehold_funnel_previous_actors", "overall", "matured", "1h"] == 6
    by_outcome = {key[1]: value for key, value in found.items() if key[2:] == ("24h",)}
    assert by_outcome == {"converted": 5, "abandoned": 1, "open": 0}


def test_errors_are_counted_by_reason_and_those_without_a_place_by_kind() -> None:
    log = Log()
    for number in range(250):
        log.append(log.refused(NOW, f"R{number}", counts=number % 5 != 0))
    log.append(log.tally(NOW, 990, 10))
    found = of_state(log.state)
    by_labels = of_metric(found, "farehold_errors_total")
    assert by_labels["R1", "booking", "true"] == 1
    assert by_labels["R0", "booking", "false"] == 1
    assert by_labels[OTHER, "booking", "true"] + by_labels[OTHER, OTHER, "false"] == 50
    assert sum(by_labels.values()) == 250
    counted = sum(value for labels, value in by_labels.items() if labels[-1] == "true")
    assert counted == found["farehold_errors_last_5_minutes",] == 200
    assert found["farehold_write_rpcs_total",] == 1_000


def test_queries_by_operation_and_end() -> None:
    log = Log()
    trace = bytes(range(16))
    slow = log.queries([500_000, 500_001, 1_000_000, 1_000_001, 2_000_000, 9], rows=7)
    slow.query_timings.traces.add(index=4, trace_id=trace)
    log.append(log.define(1, "bookings.load"), slow)
    failed = event_pb2.QUERY_OUTCOME_CONNECTION_LOST
    log.append(log.queries([1_000], outcome=failed), log.queries([1], internal=True))
    log.append(log.queries([5], outcome=event_pb2.QUERY_OUTCOME_CANCELLED, pool_wait_us=3))
    log.append(log.tally(NOW, 4, rpc="x.Y/Z", queries=12))
    found = of_state(log.state)
    of = "bookings.load"
    outcomes = of_metric(found, "farehold_db_queries_total")
    assert {key[1]: count for key, count in outcomes.items()} == {
        "ok": 6,
        "failed": 1,
        "error": 0,
        "cancelled": 1,
        "misuse": 0,
    }
    assert found["farehold_db_slow_queries_total", of, "warning"] == 2
    assert found["farehold_db_slow_queries_total", of, "critical"] == 2
    bucket = "farehold_db_query_duration_seconds_bucket"
    # These are exact; the queries of 500, 1,000 and 2,000 ms are not above.
    assert [found[bucket, of, bound] for bound in ("0.3", "0.5", "1.0", "2.0", "+Inf")] == [
        *(2, 3, 5, 7, 7),
    ]
    assert found["farehold_db_rows_total", of] == 42
    assert found["farehold_db_pool_wait_seconds_count",] == 7
    assert (
        found["farehold_rpc_queries_total", "x.Y/Z"],
        found["farehold_rpc_calls_total", "x.Y/Z"],
    ) == (12, 4)
    text = Writer().write(figures.families(log.state)).openmetrics + END
    ((labels, exemplar),) = exemplars(text)
    assert labels == {"operation": of, "le": "2.0"}
    assert (exemplar.labels, exemplar.value) == ({"trace_id": trace.hex()}, 2.0)


def test_buckets_of_durations_only_grow_while_sketches_become_coarser(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(query_cells, "MAX_BUCKETS", 60)
    dice, log = random.Random(1), Log()
    before: Samples = {}
    counted: list[int] = []
    for _ in range(30):
        took = [int(dice.lognormvariate(9, 3)) for _ in range(40)]
        counted += took
        log.append(log.queries(took))
        found = of_state(log.state)
        histogram = {key: each for key, each in found.items() if "query_duration" in key[0]}
        assert all(histogram[key] >= each for key, each in before.items())
        before = histogram
    assert log.state._tables.queries.month[1].total.level > 0
    counts, *_ = log.state._tables.queries.durations.counts.values()
    below = 0
    for bound, count in zip(BOUNDS_US, counts, strict=False):
        below += count
        sure, possible = bound * 0.98, bound
        if bound in (500_000, 1_000_000, 2_000_000):
            sure = bound
        assert sum(each <= sure for each in counted) <= below
        assert below <= sum(each <= possible for each in counted)


def test_durations_are_stored_with_the_state() -> None:
    log = Log()
    log.append(log.queries([1, 700_000]), log.view(NOW, "a"), log.fact(Fact.STARTED, NOW, "b"))
    again = State.load(log.state.dump())
    assert of_state(again) == of_state(log.state)
    assert QueryDurations().counts == {}


def test_events_that_find_their_chain_later_stay_counted_as_unmatched() -> None:
    log = Log()
    log.append(log.fact(Fact.STARTED, NOW, "s", booking="b"))
    unmatched = "farehold_funnel_unmatched_total"
    assert of_state(log.state)[unmatched, "start"] == 1
    log.append(log.view(NOW - MINUTE, "s"))
    assert log.state.metrics().quality.unmatched_steps == 0
    assert of_state(log.state)[unmatched, "start"] == 1
    log.append(log.fact(Fact.STARTED, NOW, "t", booking="c"))
    assert of_state(log.state)[unmatched, "start"] == 2


def test_a_sketch_counts_up_to_bounds_within_two_percent() -> None:
    dice, sketch = random.Random(2), Sketch()
    values = [dice.lognormvariate(8, 2) for _ in range(1_000)] + [0.0]
    sketch.add_many(values)
    bounds = (0.5, 1_000.0, 3_000.0, 100_000.0)
    *found, count = sketch.up_to(bounds)
    assert count == len(values)
    for bound, reached in zip(bounds, found, strict=True):
        assert sum(value <= bound * 0.98 for value in values) <= reached
        assert reached <= sum(value <= bound for value in values)
    assert Sketch().up_to(bounds) == [0] * 5


def test_no_counter_falls_whatever_a_log_says() -> None:
    dice, log = random.Random(3), Log()
    before: Samples = {}
    for number in range(200):
        at_us = log.now_us - dice.randrange(60) * MINUTE
        session = f"s{dice.randrange(40)}"
        events = [
            log.view(at_us, session),
            *booked(log, dice.randrange(60), at_us)[1:],
            log.fact(Fact.ABANDONED, at_us, session, booking=f"b{dice.randrange(60)}"),
            log.queries([dice.randrange(3_000_000)], fingerprint=dice.randrange(9)),
            log.refused(at_us, f"R{dice.randrange(4)}"),
        ]
        dice.shuffle(events)
        log.append(*events[: dice.randrange(1, 6)])
        log.tick(log.now_us + dice.randrange(90) * SECOND) if number % 7 == 0 else None
        found = counters_of(log.state)
        assert [key for key, value in before.items() if found.get(key, 0) < value] == []
        before = found
