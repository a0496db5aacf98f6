"""Slow queries and those that became slower are alerts once, soon, and never from history."""

from __future__ import annotations

import pytest

from metrics_service.alerts.engine.watch import Watch
from metrics_service.alerts.model import Change
from metrics_service.alerts.rules.load import load
from metrics_service.state.fold import State
from metrics_service.state.queries.critical import MAX_KEPT
from protos.metrics.v1.alert_pb2 import Alert
from protos.tracking.v1 import event_pb2
from tests.metrics.state.log import HOUR, MINUTE, SECOND, Log

WINDOW = 5 * MINUTE
RULES = {rule.name: rule for rule in load(None)}
MAX_ALERTS = RULES["slow_query"].max_alerts
MS = 1_000
SLOW_US = 1_500 * MS


class Scene:
    """Both rules over a log whose clock is theirs too."""

    def __init__(self) -> None:
        self.log = Log()
        self.watch = Watch([RULES["slow_query"], RULES["query_regression"]])
        self.alerts: list[Alert] = []
        self.changes: list[tuple[Change, str]] = []

    def take(self) -> list[tuple[Change, str]]:
        """What happened since the last call, and to which operation."""
        taken, self.changes = self.changes, []
        self.alerts.clear()
        return taken

    def judge(self) -> None:
        for event in self.watch.tick(self.log.state.watched, None):
            self.alerts.append(event.alert)
            self.changes.append((event.change, event.alert.labels["operation"]))

    def pass_us(self, duration_us: int) -> None:
        self.log.jump(self.log.now_us + duration_us)

    def run(self, fingerprint: int, *execute_us: int, **how: object) -> None:
        """Add queries that ended, and judge in another second."""
        self.pass_us(SECOND)
        self.log.append(
            self.log.queries(execute_us, fingerprint=fingerprint, **how)  # type: ignore[arg-type]
        )
        self.judge()


@pytest.fixture
def scene() -> Scene:
    made = Scene()
    for fingerprint, label in enumerate(
        ("bookings.list", "bookings.create", "bookings.complete", "sql.delete"), start=1
    ):
        made.log.append(made.log.define(fingerprint, label))
    return made


@pytest.mark.parametrize(("execute_us", "reported"), [(1_000_000, 0), (1_000_001, 1)])
def test_above_a_second_is_reported_and_exactly_a_second_is_not(
    scene: Scene, execute_us: int, reported: int
) -> None:
    scene.run(1, execute_us)
    assert len(scene.take()) == reported


def test_reads_and_writes_of_every_kind_are_reported(scene: Scene) -> None:
    for fingerprint in (1, 2, 3, 4, 5):
        scene.run(fingerprint, SLOW_US)
    assert scene.take() == [
        ("fired", "bookings.list"),
        ("fired", "bookings.create"),
        ("fired", "bookings.complete"),
        ("fired", "sql.delete"),
        ("fired", "unknown"),
    ]


def test_an_alert_names_the_operation_the_time_and_the_limit(scene: Scene) -> None:
    scene.run(2, 900 * MS, 1_234 * MS, 1_111 * MS)
    (alert,) = scene.alerts
    assert alert.summary == "bookings.create took 1,234 ms, line 1,000 ms"
    assert (alert.value, alert.threshold, alert.unit) == (1234.0, 1000.0, "ms")
    assert alert.labels == {"operation": "bookings.create", "fingerprint": "0000000000000002"}


def test_it_is_reported_once_for_each_fingerprint_and_window(scene: Scene) -> None:
    for _ in range(30):
        scene.run(2, SLOW_US, SLOW_US)
        scene.pass_us(9 * SECOND)
    scene.run(1, SLOW_US)
    assert scene.take() == [("fired", "bookings.create"), ("fired", "bookings.list")]
    scene.pass_us(WINDOW + MINUTE)
    scene.log.append(scene.log.queries([MS]))
    scene.judge()
    assert sorted(scene.take()) == [("resolved", "bookings.create"), ("resolved", "bookings.list")]
    scene.run(2, SLOW_US)
    assert scene.take() == [("fired", "bookings.create")]


def test_failed_queries_count_and_internal_cancelled_and_misused_ones_do_not(scene: Scene) -> None:
    for outcome in (event_pb2.QUERY_OUTCOME_CANCELLED, event_pb2.QUERY_OUTCOME_MISUSE):
        scene.run(1, SLOW_US, outcome=outcome)
    scene.run(1, SLOW_US, internal=True)
    assert scene.take() == []
    scene.run(1, SLOW_US, outcome=event_pb2.QUERY_OUTCOME_TIMEOUT)
    scene.run(2, SLOW_US, outcome=event_pb2.QUERY_OUTCOME_ERROR, sqlstate="23505")
    assert scene.take() == [("fired", "bookings.list"), ("fired", "bookings.create")]


def test_history_is_not_reported(scene: Scene) -> None:
    scene.run(1, SLOW_US, at_us=scene.log.now_us - WINDOW - SLOW_US)
    assert scene.take() == []


def test_a_query_that_ran_for_longer_than_the_window_is_reported(scene: Scene) -> None:
    scene.run(1, HOUR, at_us=scene.log.now_us - HOUR)
    assert scene.take() == [("fired", "bookings.list")]


def test_what_a_restart_folds_again_or_restores_is_not_reported(scene: Scene) -> None:
    scene.log.append(scene.log.queries([SLOW_US]))
    scene.pass_us(10 * MINUTE)
    scene.log.append(scene.log.queries([MS]))
    refolded = State()
    for record in scene.log.records:
        refolded.apply(record)
    for state in (refolded, State.load(refolded.dump())):
        assert Watch(RULES.values()).tick(state.watched, None) == []


def test_alerts_are_bounded_and_the_rest_is_counted(scene: Scene) -> None:
    for fingerprint in range(100, 150):
        scene.run(fingerprint, SLOW_US)
    assert len(scene.take()) == MAX_ALERTS
    assert scene.watch.machine.dropped > 0


def test_a_flood_of_slow_queries_is_held_bounded(scene: Scene) -> None:
    scene.log.append(*(scene.log.queries([SLOW_US] * 3, fingerprint=n) for n in range(1, 1_500)))
    kept = scene.log.state.watched.critical_queries(0)
    assert len(kept) == MAX_KEPT
    assert kept[-1][1].fingerprint == f"{1_499:016x}"
    scene.judge()
    assert len(scene.take()) == MAX_ALERTS


def a_day(scene: Scene, execute_us: int = 20 * MS, samples: int = 2_000) -> None:
    """An operation's queries over the last twenty hours, and some in the last five minutes."""
    log = scene.log
    step_us = 20 * HOUR // samples
    batch = 200
    for done in range(0, samples, batch):
        scene.pass_us(batch * step_us)
        count = min(batch, samples - done)
        log.append(
            log.queries([execute_us] * count, at_us=log.now_us - count * step_us, step_us=step_us)
        )
    scene.pass_us(6 * MINUTE)


def minutes(scene: Scene, count: int, execute_us: int, samples: int = 200) -> None:
    """So many minutes of queries that take so long, with the rule looking in each of them."""
    for _ in range(count):
        scene.pass_us(MINUTE)
        scene.log.append(scene.log.queries([execute_us] * samples))
        scene.judge()


def test_an_operation_that_became_slower_is_reported_once_and_so_is_its_end(scene: Scene) -> None:
    a_day(scene)
    minutes(scene, 5, 20 * MS)
    assert scene.take() == []
    minutes(scene, 30, 90 * MS)
    (alert,) = scene.alerts
    assert alert.summary == "bookings.list: p95 90 ms over 5 min, limit 70 ms by the day"
    assert alert.threshold == pytest.approx(70, rel=0.01)
    scene.take()
    minutes(scene, 10, 20 * MS)
    assert scene.take() == [("resolved", "bookings.list")]


@pytest.mark.parametrize(
    ("day_ms", "now_ms", "reported"),
    [(20, 68, 0), (20, 72, 1), (100, 195, 0), (100, 206, 1), (1, 45, 0)],
)
def test_a_regression_is_both_twice_as_slow_and_fifty_ms_slower(
    scene: Scene, day_ms: int, now_ms: int, reported: int
) -> None:
    a_day(scene, day_ms * MS)
    minutes(scene, 3, now_ms * MS)
    assert len(scene.take()) == reported


def test_too_few_samples_report_nothing(scene: Scene) -> None:
    a_day(scene, samples=800)
    minutes(scene, 1, 90 * MS, samples=150)
    assert scene.take() == [], "of the day"
    other = Scene()
    a_day(other)
    minutes(other, 1, 90 * MS, samples=99)
    assert other.take() == [], "of the five minutes"


def test_silence_neither_ends_nor_repeats_a_regression(scene: Scene) -> None:
    a_day(scene)
    minutes(scene, 3, 90 * MS)
    assert scene.take() == [("fired", "bookings.list")]
    minutes(scene, 10, 20 * MS, samples=10)
    assert scene.take() == []
    minutes(scene, 2, 90 * MS)
    assert scene.take() == []
