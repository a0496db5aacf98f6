"""What holds for whatever alerts, targets and silences do, and whenever a process ends."""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from itertools import pairwise

import pytest

from metrics_service.alerts.targets.groups import Groups, Sent, Timing
from metrics_service.alerts.targets.notice import Notice
from protos.metrics.v1.alert_pb2 import Alert
from tests.metrics.alerts.targets.incidents import firing, resolved

TARGETS = ("sentry", "webhook")
TIMING = Timing()
STEP_S = 5.0
STEPS = 3_000


class World:
    """Alerts that come and go, targets that are up or down, and a ledger."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.now_s = 0.0
        self.alerts: dict[str, Alert] = {}
        self.over: dict[str, Alert] = {}
        self.silenced: set[str] = set()
        self.down: set[str] = set()
        self.told: dict[tuple[str, str], list[Notice]] = defaultdict(list)
        self.times: dict[tuple[str, str], list[float]] = defaultdict(list)
        self.ledger: dict[str, dict[str, Sent]] = defaultdict(dict)
        self.begin()

    def begin(self) -> None:
        self.groups = Groups(TARGETS, lambda alert: "silence" * (alert.id in self.silenced), TIMING)

    def crash(self) -> None:
        """Another process takes over; this one's clock goes on."""
        self.begin()
        for alert in (*self.alerts.values(), *self.over.values()):
            self.groups.restore(alert, self.ledger[alert.id], self.now_s)

    def change(self) -> None:
        draw = self.random.random()
        if draw < 0.05 and len(self.alerts) < 20:
            number = len(self.alerts) + len(self.over)
            rule = self.random.choice("xyz")
            alert = firing(f"{number:032x}", rule=rule, at_s=self.now_s)
            self.alerts[alert.id] = alert
            self.groups.offer(alert, self.now_s)
        elif draw < 0.09 and self.alerts:
            alert = self.alerts.pop(self.random.choice(sorted(self.alerts)))
            begun_s = alert.fire_time.ToMicroseconds() / 1e6 - firing().fire_time.seconds
            self.over[alert.id] = resolved(alert, after_s=self.now_s - begun_s)
            self.groups.offer(self.over[alert.id], self.now_s)
        elif draw < 0.11 and self.alerts:
            self.silenced ^= {self.random.choice(sorted(self.alerts))}
        elif draw < 0.12:
            self.down ^= {self.random.choice(TARGETS)}
        elif draw < 0.122:
            self.crash()

    def step(self) -> None:
        self.now_s += STEP_S
        self.change()
        for target, notification in self.groups.due(self.now_s):
            if target not in self.down:
                self.times[target, notification.rule].append(self.now_s)
                for notice in notification.news:
                    self.groups.took(target, notice, self.now_s)
                    self.told[target, notice.alert.id].append(notice)
                    self.ledger[notice.alert.id][target] = Sent(
                        notice.ordinal + 1, self.now_s, notice.releases, notice.over
                    )
            self.groups.settle(target, notification.rule, self.now_s)


@pytest.mark.parametrize("seed", range(6))
def test_every_target_is_told_the_truth_once(seed: int) -> None:
    world = World(seed)
    for _ in range(STEPS):
        world.step()
    world.down.clear()
    world.silenced.clear()
    for _ in range(int(2 * TIMING.interval_s / STEP_S) + 2):
        world.now_s += STEP_S
        for target, notification in world.groups.due(world.now_s):
            for notice in notification.news:
                world.groups.took(target, notice, world.now_s)
                world.told[target, notice.alert.id].append(notice)
            world.groups.settle(target, notification.rule, world.now_s)
    assert len(world.told) > 50
    for (target, alert_id), notices in world.told.items():
        changes = Counter(notice.change for notice in notices)
        # Each notice once, in its order, and nothing after the end.
        assert [notice.ordinal for notice in notices] == [*range(len(notices))]
        assert len({notice.id for notice in notices}) == len(notices)
        assert changes["fired"] <= 1
        assert changes["resolved"] <= 1
        assert not any(notice.over for notice in notices[:-1])
        # Whoever knows that it fired knows how it is now.
        assert notices[-1].over == (alert_id in world.over), (target, alert_id)
    for target in TARGETS:
        assert {alert_id for name, alert_id in world.told if name == target} >= set(world.alerts)
    for times in world.times.values():
        gaps = [after - before for before, after in pairwise(times)]
        assert all(gap >= TIMING.interval_s for gap in gaps)
