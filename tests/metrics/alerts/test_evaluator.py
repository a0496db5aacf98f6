"""When people are told, what is recorded, and how evaluation goes on after a restart, without a
database.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest

from metrics_service.alerts import recorder as recorder_module
from metrics_service.alerts.evaluator import MAX_UNTOLD, Evaluator
from metrics_service.alerts.feed import AlertFeed
from metrics_service.alerts.model import AlertEvent
from metrics_service.alerts.recorder import Present, Recorder
from metrics_service.alerts.rules.load import load
from metrics_service.eventlog.recovery import UnreadableError
from metrics_service.storage.alerts import Stored
from metrics_service.storage.errors import LogUnavailableError
from protos.metrics.v1.alert_pb2 import Alert
from protos.metrics.v1.health_pb2 import DatabaseHealth, HealthReason
from tests.metrics.state.log import SECOND, Log

RULES = [rule for rule in load(None) if rule.metric in ("database_unhealthy", "lead_lost")]


@dataclass
class Scene:
    """Rules over health; what is recorded and who is told."""

    lag_us: int = 0
    readable: bool = True
    reasons: list[str] = field(default_factory=list)
    recorded: list[AlertEvent] = field(default_factory=list)
    told: list[list[AlertEvent]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.log = Log()
        self.evaluator = Evaluator(
            RULES,
            None,
            figures=self._figures,
            health=self._health,
            lag_us=lambda: self.lag_us,
            record=self.recorded.extend,
            tell=lambda changes: self.told.append(list(changes)),
        )

    def judge(self, *reasons: str, leads: bool = True) -> None:
        """Judge a second later by a health with these reasons."""
        self.reasons[:] = reasons
        self.log.jump(self.log.now_us + SECOND)
        self.log.append(self.log.queries([1_000]))
        self.evaluator.judge(leads=leads)

    def _figures(self) -> Any:
        if not self.readable:
            raise UnreadableError("it is repaired")
        return self.log.state.watched

    def _health(self) -> DatabaseHealth:
        bad = [HealthReason(criterion=name, message="why") for name in self.reasons]
        status = DatabaseHealth.UNHEALTHY if bad else DatabaseHealth.HEALTHY
        health = DatabaseHealth(status=status, reasons=bad)
        health.log.writable = "lead_lost" not in self.reasons
        return health


def changes(events: list[AlertEvent]) -> list[tuple[str, str]]:
    return [(event.alert.rule, event.change) for event in events]


def test_nobody_is_told_while_the_figures_are_behind_and_then_all_at_once() -> None:
    scene = Scene()
    scene.lag_us = 10 * SECOND + 1
    scene.judge("probe")
    scene.judge()
    assert changes(scene.recorded) == [
        ("database_unhealthy", "fired"),
        ("database_unhealthy", "resolved"),
    ]
    assert scene.told == []
    scene.lag_us = 10 * SECOND
    scene.judge()
    (told,) = scene.told
    assert told == scene.recorded
    scene.judge("probe")
    assert changes(scene.told[-1]) == [("database_unhealthy", "fired")]


def test_what_nobody_is_told_of_is_bounded() -> None:
    scene = Scene()
    scene.lag_us = 11 * SECOND
    for _ in range(MAX_UNTOLD // 2 + 1):
        scene.judge("probe")
        scene.judge()
    assert [len(told) for told in scene.told] == [MAX_UNTOLD + 1]


def test_once_another_process_leads_only_that_is_judged_until_this_one_leads_again() -> None:
    scene = Scene()
    scene.judge()
    scene.judge("lead_lost", "probe", leads=False)
    assert changes(scene.recorded) == [("lead_lost", "fired")]
    scene.judge()
    assert changes(scene.recorded) == [("lead_lost", "fired"), ("lead_lost", "resolved")]


def test_health_is_judged_while_figures_are_repaired_at_the_time_of_the_last_ones() -> None:
    scene = Scene()
    scene.readable = False
    scene.judge("probe")
    assert scene.recorded == [], "there is no time yet"
    scene.readable = True
    scene.judge()
    at_us = scene.log.now_us
    scene.readable = False
    scene.judge("probe")
    (fired,) = scene.recorded
    assert fired.time_us == at_us // SECOND * SECOND


def test_alerts_go_on_from_what_is_stored() -> None:
    scene = Scene()
    scene.judge("probe")
    present = scene.evaluator.present()
    again = Scene()
    again.evaluator.restore(Stored(present.machine, present.time_us, present.alerts, [], 2), 7)
    assert again.evaluator.alerts() == present.alerts
    assert again.recorded == []
    again.judge()
    assert changes(again.recorded) == [("database_unhealthy", "resolved")]
    assert again.recorded[0].alert.id == present.alerts[0].id


def test_alerts_whose_state_cannot_be_read_end_and_say_so() -> None:
    scene = Scene()
    scene.judge("probe")
    present = scene.evaluator.present()
    again = Scene()
    again.evaluator.restore(Stored(b"\xff", present.time_us, present.alerts, [], 2), 7)
    ((ended,),) = again.told
    assert ended.alert.end_reason == "its state was lost"
    assert ended.alert.resolve_time.ToMicroseconds() == 7
    assert again.evaluator.alerts() == []
    again.judge("probe")
    assert changes(again.recorded)[1:] == [("database_unhealthy", "fired")]


class Store:
    """Stores, or is lost."""

    def __init__(self) -> None:
        self.lost = False
        self.saved: list[int] = []

    async def save(self, events: Any, alerts: Any, machine: bytes, **_: int) -> None:
        if self.lost:
            raise LogUnavailableError("the database is lost")
        self.saved += [event.number for event in events]


async def test_changes_wait_for_a_lost_database_in_order_and_bounded(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(recorder_module, "MAX_WAITING", 3)
    store, feed = Store(), AlertFeed()
    feed.begin(0, [])
    recorder = Recorder(store, feed, lambda: Present([], b"", 7))  # type: ignore[arg-type]  # what it needs
    change = AlertEvent(Alert(id="a" * 32, rule="r"), "fired", 5)
    store.lost = True
    recorder.record([change] * 5)
    with pytest.raises(LogUnavailableError):
        await recorder.save()
    assert (recorder.waiting, recorder.left_out, feed.newest) == (3, 2, 0)
    assert [event.number for event in recorder.history("a" * 32)] == [1, 2, 3]
    store.lost = False
    await recorder.save()
    recorder.record([change])
    await recorder.save()
    assert store.saved == [1, 2, 3, 4]
    assert (recorder.waiting, feed.newest, feed.as_of_us) == (0, 4, 7)
