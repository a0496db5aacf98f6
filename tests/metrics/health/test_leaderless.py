"""A watched service whose processes deliver facts, and of which none leads, is a reason within a
minute; a hand-over is none.
"""

from __future__ import annotations

import pytest

from metrics_service.health.leaderless import MIN_LEADERLESS_S
from protos.tracking.v1.tracking_pb2 import Probe, Signals
from tests.metrics.health.registry_world import (
    HEALTHY,
    STALE,
    UNHEALTHY,
    UNKNOWN,
    World,
    criteria,
    reachable,
)

LIMIT_S = round(MIN_LEADERLESS_S)
NO_LEADER = [("no_leader", "")]


def waiting() -> Signals:
    """A process that could deliver facts, and does not lead."""
    signals = reachable()
    signals.delivers_facts = True
    return signals


def leading() -> Signals:
    signals = waiting()
    signals.facts_pending = 0
    return signals


def beat(world: World, seconds: int, **processes: Signals) -> None:
    """Let processes beat each second."""
    for _ in range(seconds):
        for instance, signals in processes.items():
            world.registry.on_heartbeat(instance, "booking_service", signals)
        world.pass_s(1)


def test_it_shows_at_once_after_half_a_minute_and_names_the_service(world: World) -> None:
    beat(world, LIMIT_S - 1, one=waiting(), two=waiting())
    assert world.status == HEALTHY
    world.published.clear()
    beat(world, 2, one=waiting(), two=waiting())
    health = world.registry.verdict()
    assert (health.status, criteria(health)) == (UNHEALTHY, NO_LEADER)
    assert world.published[-1].status == UNHEALTHY
    (reason,) = health.reasons
    assert reason.message.startswith("no process of booking_service has delivered its facts for 3")
    assert reason.threshold == MIN_LEADERLESS_S <= reason.value < MIN_LEADERLESS_S + 2
    assert [one.status for one in health.instances] == [HEALTHY, HEALTHY]


def test_it_recovers_as_other_failures_do(world: World) -> None:
    beat(world, LIMIT_S + 1, one=waiting())
    assert world.status == UNHEALTHY
    beat(world, 58, one=leading())
    assert world.status == UNHEALTHY
    beat(world, 3, one=leading())
    assert world.status == HEALTHY


@pytest.mark.parametrize("pause_s", [1, LIMIT_S - 2])
def test_a_hand_over_is_no_reason(world: World, pause_s: int) -> None:
    for _ in range(4):
        beat(world, 5, one=leading(), two=waiting())
        beat(world, pause_s, one=waiting(), two=waiting())
        beat(world, 5, one=waiting(), two=leading())
        beat(world, pause_s, one=waiting(), two=waiting())
    assert {health.status for health in world.published} <= {UNKNOWN, HEALTHY}


def test_a_leader_that_is_stale_leads_no_more(world: World) -> None:
    beat(world, 5, one=leading(), two=waiting())
    beat(world, LIMIT_S + 4, two=waiting())
    assert criteria(world.registry.verdict()) == [("heartbeat", "one"), *NO_LEADER]


@pytest.mark.parametrize("result", [Probe.UNREACHABLE, Probe.SCHEMA_MISSING])
def test_a_database_that_is_away_has_no_facts_to_deliver(
    world: World, result: Probe.Result.ValueType
) -> None:
    signals = waiting()
    signals.probe.result = result
    beat(world, 2 * LIMIT_S, one=signals)
    assert criteria(world.registry.verdict()) == [("probe", "one")]


def test_processes_that_deliver_no_facts_and_services_that_are_not_watched_are_no_reason(
    world: World,
) -> None:
    for _ in range(2 * LIMIT_S):
        world.registry.on_heartbeat("one", "booking_service", reachable())
        world.registry.on_heartbeat("x", "x", waiting())
        world.pass_s(1)
    assert world.status == HEALTHY


def test_without_a_process_there_is_silence_and_nothing_else(world: World) -> None:
    beat(world, 5, one=waiting())
    world.pass_s(LIMIT_S * 3)
    assert (world.status, criteria(world.registry.verdict())) == (STALE, [("heartbeat", "one")])


def test_a_pause_of_this_process_is_not_waited(world: World) -> None:
    beat(world, 5, one=waiting())
    world.pause_s(3600)
    beat(world, LIMIT_S - 8, one=waiting())
    assert world.status == HEALTHY
    beat(world, 8, one=waiting())
    assert world.status == UNHEALTHY
