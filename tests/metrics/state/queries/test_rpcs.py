"""Queries of RPCs by method: a query in a loop comes first, in every window, and nothing that a
producer says makes the table large or unreadable.
"""

from __future__ import annotations

from metrics_service.measure.sums import MAX_SUM
from metrics_service.state.answers import MAX_SHOWN_RPCS
from metrics_service.state.fold import State
from metrics_service.state.ranges import MAX_COUNT
from metrics_service.state.rpcs import MAX_METHODS
from metrics_service.state.truncate import MAX_NAME_BYTES
from protos.metrics.v1 import metrics_pb2
from tests.metrics.state.log import DAY, HOUR, MINUTE, NOW, Log

MOST = MAX_COUNT


def rpcs(log: Log, window_us: int | None = None) -> list[tuple[str, int, int, float, int]]:
    answer = log.state.metrics(window_us).performance.rpcs
    return [(each.rpc, each.calls, each.queries, each.mean, each.max) for each in answer]


def test_the_method_with_the_most_queries_an_rpc_comes_first() -> None:
    log = Log()
    log.append(
        log.tally(NOW, 90, 10, rpc="b/Get", write=False, queries=100, most=1),
        log.tally(NOW, 1, 1, rpc="b/List", write=False, queries=102, most=101),
        log.tally(NOW, 4, rpc="b/Start", queries=8, most=2),
        log.tally(NOW, 4, rpc="b/Quiet"),
    )
    log.append(log.tally(NOW, 0, 4, rpc="b/Start", queries=24, most=9))
    assert rpcs(log) == [
        ("b/List", 2, 102, 51.0, 101),
        ("b/Start", 8, 32, 4.0, 9),
        ("b/Get", 100, 100, 1.0, 1),
        ("b/Quiet", 4, 0, 0.0, 0),
    ]


def test_every_kept_window_has_its_own_count() -> None:
    log = Log()
    for ago_us, queries in ((2 * HOUR, 50), (30 * MINUTE, 7), (0, 2)):
        log.now_us = NOW - ago_us
        log.append(log.tally(log.now_us, 1, rpc="b/Get", queries=queries, most=queries))
    assert rpcs(log, MINUTE) == [("b/Get", 1, 2, 2.0, 2)]
    assert rpcs(log, HOUR) == [("b/Get", 2, 9, 4.5, 7)]
    assert rpcs(log, DAY) == rpcs(log) == [("b/Get", 3, 59, 59 / 3, 50)]


def test_a_flood_of_method_names_is_bounded_and_counted_and_keeps_known_methods() -> None:
    log = Log()
    log.append(log.tally(NOW, 1, rpc="b/Get", queries=1_000, most=1_000))
    flood = [log.tally(NOW, 2, rpc=f"m{number}", queries=1, most=1) for number in range(5_000)]
    log.append(*flood)
    log.append(log.tally(NOW, 1, rpc="b/Get", queries=1_000, most=1_000))
    shown = rpcs(log)
    assert len(shown) == MAX_SHOWN_RPCS
    assert shown[0] == ("b/Get", 2, 2_000, 1_000.0, 1_000)
    evicted = log.state.metrics().quality.evicted["rpcs"]
    assert evicted == 2 * (5_000 - (MAX_METHODS - 1))
    assert list(State.load(log.state.dump()).dump()) == list(log.state.dump())
    assert State.load(log.state.dump()).metrics() == log.state.metrics()


def test_a_flood_that_is_spread_over_time_makes_no_window_larger() -> None:
    log = Log()
    for slot in range(5):
        log.now_us = NOW + slot * MINUTE
        names = [f"{slot}/{number}" for number in range(MAX_METHODS)]
        log.append(*(log.tally(log.now_us, 1, rpc=name) for name in names))
    cell = log.state._tables.rpcs.rings.window(HOUR)
    assert len(cell.methods) <= MAX_METHODS + 1
    assert sum(calls for calls, _, _ in cell.methods.values()) == 5 * MAX_METHODS


def test_a_method_without_a_usable_name_or_without_an_rpc_is_not_shown() -> None:
    log = Log()
    log.append(
        log.tally(NOW, 1, rpc="", queries=1, most=1),
        log.tally(NOW, 1, rpc="m" * (MAX_NAME_BYTES + 1), queries=1, most=1),
        log.tally(NOW, 0, rpc="b/None", queries=9, most=9),
        log.tally(NOW, 1, rpc="m" * MAX_NAME_BYTES, queries=3, most=3),
    )
    assert rpcs(log) == [("m" * MAX_NAME_BYTES, 1, 3, 3.0, 3)]
    assert log.state.metrics().quality.evicted["rpcs"] == 2


def test_counts_stop_at_the_bound_of_sums() -> None:
    log = Log()
    tally = log.tally(NOW, MOST, MOST, rpc="b/Get", queries=MOST, most=MOST)
    tally.event_id = b""
    log.append(*[tally] * (MAX_SUM // MOST + 2))
    assert rpcs(log) == [("b/Get", MAX_SUM, MAX_SUM, 1.0, MOST)]
    assert log.state.errors().error_rate.denominator == MAX_SUM
    loaded = State.load(log.state.dump())
    assert loaded.metrics(MINUTE) == log.state.metrics(MINUTE)
    assert metrics_pb2.MetricsSnapshot.FromString(log.state.metrics().SerializeToString())
