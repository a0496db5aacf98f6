"""Each reason turns the verdict, is one notice when it begins and one when it is over, however long
it lasts, and then is gone.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import pytest

from metrics_service.alerts.engine.watch import Watch
from metrics_service.alerts.rules.load import load
from metrics_service.alerts.rules.metrics import HEALTH_ISSUES
from metrics_service.health.reasons import MAX_REASONS
from protos.metrics.v1.health_pb2 import DatabaseHealth, LogHealth
from protos.tracking.v1.tracking_pb2 import LaneSignal, Probe, Signals
from tests.docs.test_health_reasons import rows
from tests.metrics.health.registry_world import (
    DEGRADED,
    HEALTHY,
    STALE,
    UNHEALTHY,
    World,
    criteria,
    probe,
    reachable,
)

LASTS_S = 600
ISSUES = {*HEALTH_ISSUES, "database_unhealthy"}


@dataclass
class Notices:
    """What changes: (the rule, whether it fires)."""

    sent: list[tuple[str, bool]] = field(default_factory=list)
    messages: list[str] = field(default_factory=list)
    watch: Watch = field(
        default_factory=lambda: Watch(rule for rule in load(None) if rule.metric in ISSUES)
    )

    def observe(self, health: DatabaseHealth) -> None:
        """Judge the rules over health."""
        for event in self.watch.tick(None, health):
            if event.change in ("fired", "resolved"):
                self.sent.append((event.alert.rule, event.change == "fired"))
                self.messages.append(event.alert.summary)


@pytest.fixture
def notices(world: World) -> Notices:
    told = Notices()
    world.registry.on_change(told.observe)
    return told


def relay(pending: int | None = 0) -> Signals:
    """Of a process that delivers facts, and leads unless pending is None."""
    signals = reachable()
    signals.delivers_facts = True
    if pending is not None:
        signals.facts_pending = pending
    return signals


def lane(state: LaneSignal.State.ValueType) -> Signals:
    signals = relay()
    signals.lane.state = state
    signals.lane.reason = "why not"
    return signals


def fenced_telemetry() -> Signals:
    signals = relay()
    signals.telemetry.state = LaneSignal.FENCED
    return signals


def withheld(facts: int) -> Signals:
    signals = relay()
    signals.facts_withheld = facts
    return signals


def over_budget(*lines: str) -> Signals:
    signals = relay()
    signals.over_budget.extend(lines)
    return signals


def good(world: World, seconds: int) -> None:
    world.log = LogHealth(writable=True, role=LogHealth.LEADER)
    world.beat(relay(), seconds=seconds)


def log_of(role: LogHealth.Role.ValueType) -> Callable[[World], None]:
    def bad(world: World) -> None:
        world.log = LogHealth(writable=False, role=role, message="why not")
        world.beat(relay(), seconds=LASTS_S)

    return bad


def beating(signals: Signals) -> Callable[[World], None]:
    def bad(world: World) -> None:
        for _ in range(LASTS_S):
            world.beat(signals)
            world.pass_s(1)

    return bad


def silent(world: World) -> None:
    world.pass_s(LASTS_S)


SCENES: dict[str, Callable[[World], None]] = {
    "probe": beating(probe(Probe.UNREACHABLE)),
    "failed": beating(reachable(total=1, failed=1)),
    "p99_ms": beating(reachable(total=50, over_500ms=2, at_least_2000ms=2, over_2000ms=2)),
    "p95_ms": beating(reachable(total=50, over_500ms=9, at_least_1000ms=9, over_1000ms=9)),
    "slow": beating(reachable(total=50, over_500ms=1)),
    "heartbeat": silent,
    "undelivered": beating(relay(7)),
    "forked": beating(lane(LaneSignal.FORKED)),
    "fenced": beating(lane(LaneSignal.FENCED)),
    "telemetry_fenced": beating(fenced_telemetry()),
    "withheld": beating(withheld(7)),
    "over_budget": beating(over_budget("vendors: 7 refused, beyond 3")),
    "no_leader": beating(relay(None)),
    "log": log_of(LogHealth.ROLE_UNSPECIFIED),
    "lead_lost": log_of(LogHealth.LEAD_LOST),
}


def test_every_documented_reason_is_tried() -> None:
    assert SCENES.keys() == rows().keys()


@pytest.mark.parametrize("reason", SCENES)
def test_it_is_a_notice_when_it_begins_and_when_it_is_over(
    world: World, notices: Notices, reason: str
) -> None:
    good(world, 60)
    SCENES[reason](world)
    shown = dict.fromkeys(criterion for criterion, _ in criteria(world.registry.verdict()))
    assert reason in shown
    assert world.status in {UNHEALTHY, DEGRADED, STALE} - {HEALTHY}
    good(world, LASTS_S)
    health = world.registry.verdict()
    assert (health.status, criteria(health)) == (HEALTHY, [])
    alert = rows()[reason][1]
    assert notices.sent == ([(alert, True), (alert, False)] if alert else [])


def test_a_budget_leaves_a_worse_verdict_as_it_is_and_its_lines_are_bounded(
    world: World, notices: Notices
) -> None:
    signals = over_budget(*("x" * 1000 for _ in range(20)))
    signals.probe.result = Probe.UNREACHABLE
    world.beat(signals)
    health = world.registry.verdict()
    assert world.status == UNHEALTHY
    lines = [each.message for each in health.reasons if each.criterion == "over_budget"]
    assert lines == ["x" * 256] * 8
    assert notices.sent == [("database_unhealthy", True)]


def test_reasons_that_come_one_after_the_other_are_notices_of_their_own(
    world: World, notices: Notices
) -> None:
    good(world, 60)
    world.beat(relay(5), seconds=4)
    signals = relay(5)
    signals.probe.result = Probe.UNREACHABLE
    world.beat(signals, seconds=4)
    world.log = LogHealth(writable=False, role=LogHealth.LEAD_LOST)
    world.registry.tick()
    assert notices.sent == [
        ("facts_undelivered", True),
        ("database_unhealthy", True),
        ("lead_lost", True),
    ]
    notices.sent.clear()
    good(world, LASTS_S)
    assert sorted(notices.sent) == [
        ("database_unhealthy", False),
        ("facts_undelivered", False),
        ("lead_lost", False),
    ]
    assert "booking-1: none of 5 facts was stored" in notices.messages[0]


def test_silence_ends_none_but_those_of_the_log(world: World, notices: Notices) -> None:
    world.beat(relay(5), seconds=4)
    world.log = LogHealth(writable=False, role=LogHealth.LEAD_LOST)
    world.pass_s(LASTS_S)
    world.log = LogHealth(writable=True, role=LogHealth.LEADER)
    world.pass_s(LASTS_S)
    assert world.status == STALE
    assert notices.sent == [("facts_undelivered", True), ("lead_lost", True), ("lead_lost", False)]
    good(world, LASTS_S)
    assert notices.sent[3:] == [("facts_undelivered", False)]


def test_a_process_that_stands_by_is_neither_well_nor_an_alert(
    world: World, notices: Notices
) -> None:
    world.log = LogHealth(writable=False, role=LogHealth.STANDBY, message="it waits")
    world.pass_s(LASTS_S)
    health = world.registry.verdict()
    assert (health.status, criteria(health)) == (DatabaseHealth.STATUS_UNSPECIFIED, [])
    assert health.log.role == LogHealth.STANDBY
    assert notices.sent == []


def test_no_reason_hides_another_however_many_there_are(world: World, notices: Notices) -> None:
    for number in range(90):
        bad = probe(Probe.UNREACHABLE)
        bad.queries.total = bad.queries.failed = 100
        world.beat(bad, instance=f"a-{number}")
    for _ in range(5):
        for number in range(90):
            world.registry.on_heartbeat(f"a-{number}", "booking_service", probe(Probe.UNREACHABLE))
        world.beat(relay(3))
        world.pass_s(1)
    reasons = world.registry.verdict().reasons
    assert len(reasons) == MAX_REASONS
    assert ("undelivered", "booking-1") in [(each.criterion, each.instance) for each in reasons]
    assert ("facts_undelivered", True) in notices.sent
