"""Figures of slots that are closed: they count at once, and nothing shows whether and when they
were added to their slots.
"""

from __future__ import annotations

import random
from itertools import islice

import pytest

from metrics_service.state import fold
from metrics_service.state.business import MAX_PACKAGES
from metrics_service.state.errors import MAX_GROUPS
from metrics_service.state.fold import State
from metrics_service.state.queries import cell
from metrics_service.state.record import LogRecord
from metrics_service.state.series.rings import RESOLUTIONS
from protos.metrics.v1 import metrics_pb2
from protos.tracking.v1 import event_pb2
from tests.metrics.state.log import DAY, HOUR, MINUTE, SECOND, Fact, Flow, Log

WINDOWS = (None, *(resolution.span_us for resolution in RESOLUTIONS), HOUR - 10 * SECOND)


def late_log(seed: int, batches: int = 24) -> Log:
    """Return a log of events of every kind that counts by time, most of them late."""
    rng, log = random.Random(seed), Log(seed=seed)

    def late_us() -> int:
        return log.now_us - rng.choice((0, MINUTE, 20 * MINUTE, 5 * HOUR)) - rng.randrange(MINUTE)

    for number in range(batches):
        events: list[event_pb2.Event] = []
        for each in range(rng.randint(1, 12)):
            name = f"{number}.{each}"
            session = f"s{rng.randrange(20)}"
            at = late_us()
            events += [
                log.view(at, session),
                log.fact(
                    rng.choice((Fact.STARTED, Fact.COMPLETED, Fact.CONFIRMED, Fact.EXPIRED)),
                    at + rng.randrange(5 * MINUTE),
                    session,
                    booking=name,
                    package=f"p{rng.randrange(9)}",
                    hold_us=at,
                    complete_us=at + rng.randrange(1, MINUTE),
                    amount=rng.randrange(900),
                ),
                log.refund(log.now_us, rng.randrange(100), late_us() - 3 * DAY),
                log.flow(rng.choice((Flow.VIEW, Flow.ABANDON)), late_us(), session),
                log.refused(late_us(), f"R{rng.randrange(9)}"),
                log.queries(
                    [rng.randrange(1, 3_000_000) for _ in range(5)],
                    at_us=late_us(),
                    fingerprint=rng.randrange(9),
                    step_us=30 * SECOND,
                ),
            ]
        rng.shuffle(events)
        log.append(*events)
        log.jump(log.now_us + rng.choice((SECOND, 10 * SECOND, 3 * MINUTE, 2 * HOUR)))
    return log


def answers(state: State) -> list[bytes]:
    """Return every answer that is of a window."""
    by = metrics_pb2.GetQueryStatsRequest
    stats = [state.query_stats(by(group_by=each)) for each in (by.OPERATION, by.FINGERPRINT)]
    snapshots = [state.metrics(window_us) for window_us in WINDOWS]
    return [answer.SerializeToString() for answer in (*stats, *snapshots)]


@pytest.mark.parametrize("seed", range(2))
def test_late_figures_count_the_same_whenever_they_are_added_to_their_slots(seed: int) -> None:
    log, rng = late_log(seed), random.Random(seed)
    never, now_and_then, at_once = State(), State(), State()
    for record in log.records:
        for state in (never, now_and_then, at_once):
            state.apply(record)
        list(islice(now_and_then.prepare(), rng.randrange(30)))
        list(at_once.prepare())
        if record.position % 16 == 0:
            loaded = State.load(never.dump())
            rows = list(never.dump())
            for state in (now_and_then, at_once, loaded):
                assert list(state.dump()) == rows
            counts = [_without_extremes(state) for state in (never, now_and_then, at_once, loaded)]
            assert counts[1:] == counts[:1] * 3


def _without_extremes(state: State) -> list[metrics_pb2.MetricsSnapshot]:
    """Return the answers; the least and greatest time of a funnel's step are within 1% where a
    chain was subtracted.
    """
    found = []
    for window_us in WINDOWS:
        snapshot = metrics_pb2.MetricsSnapshot()
        snapshot.CopyFrom(state.metrics(window_us))
        for step in snapshot.funnel.steps:
            for times in (step.time_from_first, step.time_from_previous):
                for name in ("min_ms", "max_ms", "p50_ms", "p90_ms", "p95_ms", "p99_ms"):
                    times.ClearField(name)
        found.append(snapshot)
    return found


def test_two_prepare_calls_at_once_lose_no_late_figure() -> None:
    log = late_log(7)
    state, plain = State(), State()
    for record in log.records:
        state.apply(record)
        plain.apply(record)
        first, second = state.prepare(), state.prepare()
        for _ in range(40):
            next(first, None)
            next(second, None)
        list(first)
        list(second)
    assert list(state.dump()) == list(plain.dump())
    assert answers(state) == answers(State.load(plain.dump()))


def test_a_full_slot_keeps_its_bounds_for_late_figures() -> None:
    log = Log()
    then, count = log.now_us, MAX_PACKAGES - 2

    def confirmed(first: int, last: int) -> list[event_pb2.Event]:
        return [
            log.fact(Fact.CONFIRMED, then, booking=f"b{n}", package=f"p{n}", confirm_us=then)
            for n in range(first, last)
        ]

    log.append(*confirmed(0, count), *(log.refused(then, f"R{n}") for n in range(MAX_GROUPS - 2)))
    log.append(*(log.queries([5], fingerprint=n) for n in range(cell.MAX_GROUPS - 2)))
    log.jump(then + 10 * MINUTE)
    log.jump(then + 20 * MINUTE)
    log.append(*confirmed(count, count + 5), *(log.refused(then, f"L{n}") for n in range(5)))
    log.append(*confirmed(0, count + 9), *(log.queries([7], at_us=then) for _ in range(5)))
    added = State()
    for record in log.records:
        added.apply(record)
        list(added.prepare())
    rows = {(section, slot): data for section, slot, data in added.dump()}
    assert {(section, slot): data for section, slot, data in log.state.dump()} == rows
    packages = added._tables.business.rings.window(HOUR - 10 * SECOND)
    assert len(packages.packages) == MAX_PACKAGES
    assert packages.confirmed == log.state._tables.business.rings.window(HOUR).confirmed


def test_late_figures_are_added_between_records_once_there_are_many(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(fold, "MAX_LATE_FIGURES", 50)
    log = Log()
    most = 0
    for number in range(60):
        log.append(*(log.refused(log.now_us - n * MINUTE, "R") for n in range(2, 12)))
        log.jump(log.now_us + SECOND)
        list(log.state.settle())
        most = max(most, log.state._tables.late_figures)
        assert log.state.errors(DAY).breakdown[0].count == 10 * (number + 1)
    assert 0 < most <= 50


def test_a_clock_that_goes_back_takes_late_figures_with_it() -> None:
    log = Log()
    log.append(log.refused(log.now_us, "R"))
    ahead = log.now_us + 20 * DAY
    log.jump(ahead)
    log.append(*(log.fact(Fact.FAILED, ahead - n * HOUR) for n in range(48)))
    steps = log.state.prepare()
    list(islice(steps, 20))
    log.state.apply(LogRecord(len(log.records) + 1, log.now_us - 20 * DAY, "tick"))
    list(steps)
    list(log.state.prepare())
    assert [each.reason for each in log.state.errors(2 * DAY).breakdown] == ["R"]
