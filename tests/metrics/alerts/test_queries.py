"""Slow queries and those that became slower are reported once, soon, and never from history."""

from __future__ import annotations

import pytest

from metrics_service.alerts.notify import Notice, NullNotifier
from metrics_service.alerts.regressions import INTERVAL_S, RegressionAlert
from metrics_service.alerts.slow_queries import MAX_NOTICES, WINDOW_S, SlowQueryAlert
from metrics_service.state.fold import State
from metrics_service.state.queries.critical import MAX_KEPT
from protos.tracking.v1 import event_pb2
from tests.metrics.state.log import HOUR, MINUTE, SECOND, Log

MS = 1_000
SLOW_US = 1_500 * MS


class RecordingNotifier(NullNotifier):
    """Keeps the notices."""

    def __init__(self) -> None:
        self.notices: list[Notice] = []

    def send(self, notice: Notice) -> None:
        self.notices.append(notice)

    def take(self) -> list[tuple[str, str]]:
        """Level and operation of those since the last call."""
        taken: list[tuple[str, str]] = [(notice.level, notice.operation) for notice in self.notices]
        self.notices.clear()
        return taken


class Watch:
    """Both rules over a log whose clock is theirs too."""

    def __init__(self) -> None:
        self.log = Log()
        self.reported = RecordingNotifier()
        self.slow = SlowQueryAlert(
            lambda: self.log.state,
            self.reported,
            now_us=lambda: self.log.now_us,
            monotonic_s=self.monotonic_s,
        )
        self.regressions = RegressionAlert(
            lambda: self.log.state, self.reported, monotonic_s=self.monotonic_s
        )

    def monotonic_s(self) -> float:
        return self.log.now_us / SECOND

    def pass_us(self, duration_us: int) -> None:
        self.log.jump(self.log.now_us + duration_us)

    def run(self, fingerprint: int, *execute_us: int, **how: object) -> None:
        """Add queries that ended, and let the rule slow_query observe them."""
        self.log.append(
            self.log.queries(execute_us, fingerprint=fingerprint, **how)  # type: ignore[arg-type]
        )
        self.slow.observe()


@pytest.fixture
def watch() -> Watch:
    made = Watch()
    for fingerprint, label in enumerate(
        ("bookings.list", "bookings.create", "bookings.complete", "sql.delete"), start=1
    ):
        made.log.append(made.log.define(fingerprint, label))
    return made


@pytest.mark.parametrize(("execute_us", "reported"), [(1_000_000, 0), (1_000_001, 1)])
def test_above_a_second_is_reported_and_exactly_a_second_is_not(
    watch: Watch, execute_us: int, reported: int
) -> None:
    watch.run(1, execute_us)
    assert len(watch.reported.notices) == reported


def test_reads_and_writes_of_every_kind_are_reported(watch: Watch) -> None:
    for fingerprint in (1, 2, 3, 4, 5):
        watch.run(fingerprint, SLOW_US)
    assert watch.reported.take() == [
        ("warning", "bookings.list"),
        ("warning", "bookings.create"),
        ("warning", "bookings.complete"),
        ("warning", "sql.delete"),
        ("warning", "unknown"),
    ]


def test_a_notice_names_the_operation_the_time_the_limit_and_a_trace(watch: Watch) -> None:
    event = watch.log.queries([900 * MS, 1_234 * MS, 1_111 * MS], fingerprint=2)
    event.query_timings.traces.add(index=1, trace_id=bytes(range(16)))
    watch.log.append(event)
    watch.slow.observe()
    (notice,) = watch.reported.notices
    assert notice.message == "Slow query: bookings.create took 1234 ms, limit 1000 ms"
    assert notice.key == ("slow_query", "0000000000000002")
    assert notice.facts == {
        "operation": "bookings.create",
        "fingerprint": "0000000000000002",
        "execute_ms": 1234.0,
        "threshold_ms": 1000.0,
        "trace_id": bytes(range(16)).hex(),
        "instance": "booking-1",
        "not_emitted": 0,
    }


def test_it_is_reported_once_for_each_fingerprint_and_window(watch: Watch) -> None:
    for _ in range(30):
        watch.run(2, SLOW_US, SLOW_US)
        watch.pass_us(9 * SECOND)
    watch.run(1, SLOW_US)
    assert watch.reported.take() == [("warning", "bookings.create"), ("warning", "bookings.list")]
    watch.pass_us(30 * SECOND)
    watch.run(2, SLOW_US)
    watch.run(1, SLOW_US)
    assert watch.reported.take() == [("warning", "bookings.create")]


def test_failed_queries_count_and_internal_cancelled_and_misused_ones_do_not(watch: Watch) -> None:
    for outcome in (event_pb2.QUERY_OUTCOME_CANCELLED, event_pb2.QUERY_OUTCOME_MISUSE):
        watch.run(1, SLOW_US, outcome=outcome)
    watch.run(1, SLOW_US, internal=True)
    assert watch.reported.take() == []
    watch.run(1, SLOW_US, outcome=event_pb2.QUERY_OUTCOME_TIMEOUT)
    watch.run(2, SLOW_US, outcome=event_pb2.QUERY_OUTCOME_ERROR, sqlstate="23505")
    assert watch.reported.take() == [("warning", "bookings.list"), ("warning", "bookings.create")]


def test_history_is_not_reported(watch: Watch) -> None:
    oldest_us = watch.log.now_us - int(WINDOW_S) * SECOND
    watch.run(1, SLOW_US, at_us=oldest_us - SLOW_US - 1)
    assert watch.reported.take() == []
    watch.run(1, SLOW_US, at_us=oldest_us - SLOW_US)
    assert watch.reported.take() == [("warning", "bookings.list")]


def test_a_query_that_ran_for_longer_than_the_window_is_reported(watch: Watch) -> None:
    hour_us = 60 * MINUTE
    watch.run(1, hour_us, at_us=watch.log.now_us - hour_us)
    assert watch.reported.take() == [("warning", "bookings.list")]


def test_what_a_restart_folds_again_or_restores_is_not_reported(watch: Watch) -> None:
    watch.log.append(watch.log.queries([SLOW_US]))
    watch.pass_us(10 * MINUTE)
    refolded = State()
    for record in watch.log.records:
        refolded.apply(record)
    for state in (refolded, State.load(refolded.dump())):
        reported = RecordingNotifier()
        SlowQueryAlert(
            lambda state=state: state,  # type: ignore[misc]
            reported,
            now_us=lambda: watch.log.now_us,
        ).observe()
        assert reported.notices == []


def test_notices_are_bounded_and_the_rest_is_counted(watch: Watch) -> None:
    for fingerprint in range(100, 150):
        watch.run(fingerprint, SLOW_US)
    assert len(watch.reported.take()) == MAX_NOTICES
    assert watch.slow.not_emitted == 50 - MAX_NOTICES
    watch.pass_us(int(WINDOW_S) * SECOND)
    watch.run(149, SLOW_US)
    (notice,) = watch.reported.notices
    assert notice.facts["not_emitted"] == 50 - MAX_NOTICES


def test_a_flood_of_slow_queries_is_held_bounded(watch: Watch) -> None:
    watch.log.append(*(watch.log.queries([SLOW_US] * 3, fingerprint=n) for n in range(1, 1_500)))
    kept = watch.log.state.critical_queries(0)
    assert len(kept) == MAX_KEPT
    assert kept[-1][1].fingerprint == f"{1_499:016x}"
    watch.slow.observe()
    assert len(watch.reported.notices) == MAX_NOTICES


def a_day(watch: Watch, execute_us: int = 20 * MS, samples: int = 2_000) -> None:
    """An operation's queries over the last twenty hours, and some in the last five minutes."""
    log = watch.log
    step_us = 20 * HOUR // samples
    batch = 200
    for done in range(0, samples, batch):
        watch.pass_us(batch * step_us)
        count = min(batch, samples - done)
        log.append(
            log.queries([execute_us] * count, at_us=log.now_us - count * step_us, step_us=step_us)
        )
    watch.pass_us(6 * MINUTE)


def minutes(watch: Watch, count: int, execute_us: int, samples: int = 200) -> None:
    """So many minutes of queries that take so long, with the rule looking in each of them."""
    for _ in range(count):
        watch.pass_us(MINUTE)
        watch.log.append(watch.log.queries([execute_us] * samples))
        watch.regressions.observe()


def test_an_operation_that_became_slower_is_reported_once_and_so_is_its_end(watch: Watch) -> None:
    a_day(watch)
    minutes(watch, 5, 20 * MS)
    assert watch.reported.take() == []
    minutes(watch, 30, 90 * MS)
    (notice,) = watch.reported.notices
    assert notice.level == "warning"
    assert notice.message == "Query slower: bookings.list p95 90 ms, 20 ms over the day"
    assert notice.key == ("query_regression", "bookings.list")
    assert notice.facts["day_p95_ms"] == pytest.approx(20, rel=0.01)
    watch.reported.take()
    minutes(watch, 10, 20 * MS)
    assert watch.reported.take() == [("info", "bookings.list")]


@pytest.mark.parametrize(
    ("day_ms", "now_ms", "reported"),
    [(20, 68, 0), (20, 72, 1), (100, 195, 0), (100, 206, 1), (1, 45, 0)],
)
def test_a_regression_is_both_twice_as_slow_and_fifty_ms_slower(
    watch: Watch, day_ms: int, now_ms: int, reported: int
) -> None:
    a_day(watch, day_ms * MS)
    minutes(watch, 3, now_ms * MS)
    assert len(watch.reported.notices) == reported


def test_too_few_samples_report_nothing(watch: Watch) -> None:
    a_day(watch, samples=800)
    minutes(watch, 1, 90 * MS, samples=150)
    assert watch.reported.take() == [], "of the day"
    other = Watch()
    a_day(other)
    minutes(other, 1, 90 * MS, samples=99)
    assert other.reported.take() == [], "of the five minutes"


def test_silence_neither_ends_nor_repeats_a_regression(watch: Watch) -> None:
    a_day(watch)
    minutes(watch, 3, 90 * MS)
    assert watch.reported.take() == [("warning", "bookings.list")]
    minutes(watch, 10, 20 * MS, samples=10)
    assert watch.reported.take() == []
    minutes(watch, 2, 90 * MS)
    assert watch.reported.take() == []


def test_it_is_compared_once_a_minute(watch: Watch) -> None:
    a_day(watch)
    watch.regressions.observe()
    watch.log.append(watch.log.queries([90 * MS] * 200))
    watch.pass_us(int(INTERVAL_S) * SECOND - 1)
    watch.regressions.observe()
    assert watch.reported.take() == []
    watch.pass_us(1)
    watch.regressions.observe()
    assert watch.reported.take() == [("warning", "bookings.list")]
