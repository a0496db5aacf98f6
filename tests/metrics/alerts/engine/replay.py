"""Replays a log and a verdict on health into the shipped rules."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial

from metrics_service.alerts.engine.watch import Watch
from metrics_service.alerts.model import AlertEvent, Rule
from metrics_service.alerts.rules.load import load
from metrics_service.state.fold import State
from metrics_service.state.record import LogRecord
from protos.metrics.v1.health_pb2 import DatabaseHealth, HealthReason
from protos.tracking.v1 import event_pb2
from tests.metrics.state.log import MINUTE, SECOND, Fact, Log

SHIPPED: Sequence[Rule] = load(None)


@dataclass(frozen=True)
class Sessions:
    """What becomes of the sessions that begin within five minutes."""

    viewed: int = 20
    started: int = 6
    completed: int = 5
    confirmed: int = 5
    abandoned: int = 0
    took_us: int = 2 * MINUTE


class Replay(Log):
    """A log that ticks the rules after each record, and keeps what they say."""

    def __init__(self, rules: Sequence[Rule] = SHIPPED) -> None:
        self.watch = Watch(rules)
        self.health = DatabaseHealth(status=DatabaseHealth.HEALTHY)
        self.health.log.writable = True
        self.health.window.FromSeconds(300)
        self.events: list[AlertEvent] = []
        self.seen: list[AlertEvent] = []
        self.verdicts: list[DatabaseHealth] = []
        self._booked = 0
        super().__init__()

    def pass_minutes(self, minutes: int, sessions: Sessions | None = None) -> None:
        """Let minutes pass, with sessions each five minutes."""
        if sessions is None:
            for _ in range(minutes):
                self.jump(self.now_us + MINUTE)
            return
        for _ in range(minutes // 5):
            self.append(*self._five_minutes(sessions))
            self.jump(self.now_us + 5 * MINUTE)

    def pass_hours(self, hours: int) -> None:
        """Let hours pass in which nothing happens."""
        for _ in range(2 * hours):
            self.jump(self.now_us + 30 * MINUTE)

    def unwell(self, criterion: str, instance: str = "", status: str = "UNHEALTHY") -> None:
        """Take a verdict on health, with one reason."""
        reason = HealthReason(criterion=criterion, instance=instance, message="it is so", value=1)
        self.judge(DatabaseHealth(status=DatabaseHealth.Status.Value(status), reasons=[reason]))

    def judge(self, health: DatabaseHealth) -> None:
        """Take a verdict on health; the log is writable unless that is the verdict's reason."""
        health.window.FromSeconds(300)
        health.log.writable = not {"log", "lead_lost"} & {each.criterion for each in health.reasons}
        self.health = health
        self.jump(self.now_us + SECOND)

    def changes(self, rule: str) -> list[str]:
        """What has changed of the alerts of a rule since the last call; pending ones aside."""
        found: list[str] = [
            event.change
            for event in self.events
            if event.alert.rule == rule and event.change not in ("pending", "cancelled")
        ]
        self.seen += self.events
        self.events.clear()
        return found

    def _five_minutes(self, sessions: Sessions) -> Iterator[event_pb2.Event]:
        at_us = self.now_us
        for number in range(sessions.viewed):
            self._booked += 1
            name = f"s{self._booked}"
            yield self.view(at_us, name)
            if number >= sessions.started:
                continue
            hold_us, done_us = at_us, at_us + sessions.took_us
            yield self.fact(Fact.STARTED, hold_us, name, booking=name, hold_us=hold_us)
            if number >= sessions.started - sessions.abandoned:
                yield self.fact(Fact.ABANDONED, done_us, name, booking=name, hold_us=hold_us)
            elif number < sessions.completed:
                booked = partial(self.fact, hold_us=hold_us, complete_us=done_us)
                yield booked(Fact.COMPLETED, done_us, name, booking=name)
                if number < sessions.confirmed:
                    yield booked(Fact.CONFIRMED, done_us, name, booking=name, confirm_us=done_us)

    def _apply(self, record: LogRecord) -> None:
        super()._apply(record)
        self.verdicts.append(self.health)
        self.events += self.watch.tick(self.state.watched, self.health)
        assert not self.watch.faults


def again(replay: Replay, restarts: int = 0) -> list[AlertEvent]:
    """Fold the log of a replay again, with restarts from checkpoints spread over it."""
    state, watch = State(), Watch(SHIPPED)
    events = []
    every = len(replay.records) // (restarts + 1) + 1
    for number, record in enumerate(replay.records, 1):
        state.apply(record)
        events += watch.tick(state.watched, replay.verdicts[number - 1])
        if not number % every:
            state, watch = State.load(list(state.dump())), Watch.load(SHIPPED, watch.dump())
    return events
