"""Checkpoints: a loaded state continues as if it had never been stored, or is refused."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from metrics_service.state.fold import VERSION, CheckpointError, State
from metrics_service.state.record import LogRecord
from protos.metrics.v1 import checkpoint_pb2, metrics_pb2
from protos.tracking.v1 import event_pb2
from tests.metrics.state.log import DAY, HOUR, MINUTE, NOW, SECOND, Fact, Flow, Log


def busy() -> Log:
    """Return a log with records of every kind."""
    log = Log()
    log.append(log.define(1, "bookings.get", "SELECT"), log.queries([5, 600_000], rows=1))
    for number in range(40):
        log.now_us = NOW + number * 20 * SECOND
        session, booking = f"s{number % 9}", f"b{number}"
        at = log.now_us
        log.append(
            log.view(at, session),
            log.fact(Fact.STARTED, at + 5, session, booking=booking, hold_us=at + 5),
            log.flow(Flow.ABANDON, at + 6, f"s{number % 5}"),
            log.refused(at, f"R{number % 3}"),
            log.tally(at, 5, 1, rpc=f"rpc{number % 3}", queries=number, most=number),
            log.queries([number * 10, 30], fingerprint=number % 4 + 1),
        )
        log.append(log.fact(Fact.CONFIRMED, at, session, booking=booking, confirm_us=at, amount=9))
    log.append(*(log.view(NOW + number, "often") for number in range(20)))
    log.append(log.view(NOW - 1, "often"), log.view(NOW, ""), log.view(NOW - 2 * DAY, "old"))
    log.append_payload(b"broken", 3)
    log.unclean_end()
    log.append(log.running(1, 900_000), log.ended(2, 700_000), log.plan(1, "Seq Scan"))
    log.append(log.loss(1, 1))
    return log


def test_a_loaded_state_answers_and_dumps_the_same() -> None:
    log = busy()
    rows = list(log.state.dump())
    loaded = State.load(reversed(rows))
    assert list(loaded.dump()) == rows
    for window_us in (None, MINUTE, HOUR, DAY):
        assert loaded.metrics(window_us) == log.state.metrics(window_us)
    for group in (1, 2):
        request = metrics_pb2.GetQueryStatsRequest(group_by=group)  # type: ignore[arg-type]
        assert loaded.query_stats(request) == log.state.query_stats(request)
    recent = metrics_pb2.ListRecentQueriesRequest(limit=500, include_internal=True)
    assert loaded.recent_queries(recent) == log.state.recent_queries(recent)
    slow = metrics_pb2.ListSlowQueriesRequest(limit=500)
    assert len(loaded.slow_queries(slow).queries) == 3
    assert loaded.slow_queries(slow) == log.state.slow_queries(slow)
    assert (loaded.position, loaded.revision) == (log.state.position, log.state.revision)


def test_every_counter_outlives_a_restart() -> None:
    log = busy()
    twice = log.view(log.now_us)
    log.append(twice, twice)
    gap = event_pb2.FactsGap(lacking=5, beyond=7, resent=9)
    payload = event_pb2.EventList(events=[event_pb2.Event(facts_gap=gap)]).SerializeToString()
    at = log.state.position + 1
    log.state.apply(LogRecord(at, log.now_us, "batch", lane=1, payload=payload, count=1))
    quality = State.load(log.state.dump()).metrics().quality
    counted = {field.name for field, value in quality.ListFields() if value}
    assert counted == set(quality.DESCRIPTOR.fields_by_name)


def test_actors_without_a_name_stay_apart_after_a_restart() -> None:
    log = Log()
    log.append(log.view(NOW, ""))
    log.state = State.load(log.state.dump())
    log.append(log.view(NOW, ""))
    assert log.state.funnel().entered == 2


def test_no_two_rows_have_the_same_place() -> None:
    rows = list(busy().state.dump())
    assert len({row[:2] for row in rows}) == len(rows)


def test_the_names_of_sections_are_those_that_databases_hold() -> None:
    rings = {"total", "10s", "1m", "1h"}
    expected = {
        "business": rings,
        "breakdown": rings - {"10s"},
        "critical_queries": {""},
        "errors": {*rings, "times", "samples"},
        "fingerprints": {"10s", "1m"},
        "funnel": {*rings, "actors"},
        "head": {""},
        "journeys": {"loose"},
        "packages": {""},
        "queries": {*rings, "known"},
        "query_durations": {"total"},
        "query_totals": rings,
        "recent_queries": {""},
        "rpcs": rings,
        "seen_bookings": {"newer"},
        "seen_captures": {"newer"},
        "seen_events": {"newer"},
        "slow_queries": {"ended", "plans", "running"},
    }
    found: dict[str, set[str]] = {}
    for section, _, _ in busy().state.dump():
        table, _, name = section.partition(".")
        found.setdefault(table, set()).add(name)
    assert found == expected


Rows = list[tuple[str, int, bytes]]


def with_row(section: str, data: bytes) -> Rows:
    """Return a valid checkpoint with one row replaced."""
    rows = [row for row in busy().state.dump() if row[0] != section]
    return [*rows, (section, 0, data)]


@pytest.mark.parametrize(
    "rows",
    [
        list,
        lambda: [row for row in busy().state.dump() if row[0] != "head"],
        lambda: with_row("head", b"\xff"),
        lambda: with_row(
            "head", checkpoint_pb2.CheckpointHead(version=VERSION + 1).SerializeToString()
        ),
        lambda: with_row("funnel.total", b"\xff"),
        lambda: with_row("unknown", b""),
        lambda: with_row("funnel.5s", b""),
        lambda: with_row("slow_queries.other", b""),
        lambda: with_row("seen_events.newer", checkpoint_pb2.Seen(flags=[1]).SerializeToString()),
    ],
    ids=["none", "no head", "head", "version", "cell", "table", "ring", "list", "columns"],
)
def test_rows_that_are_no_checkpoint_of_this_version_are_refused(rows: Callable[[], Rows]) -> None:
    with pytest.raises(CheckpointError):
        State.load(rows())
