"""Facts that wait while none is stored turn the verdict at the third heartbeat that says so."""

from __future__ import annotations

import pytest

from protos.metrics.v1.health_pb2 import DatabaseHealth, LogHealth
from protos.tracking.v1.tracking_pb2 import Probe, Signals
from tests.metrics.health.registry_world import (
    HEALTHY,
    STALE,
    UNHEALTHY,
    UNKNOWN,
    World,
    criteria,
    probe,
    reachable,
)

UNDELIVERED = [("undelivered", "booking-1")]


def pending(facts: int) -> Signals:
    signals = reachable()
    signals.facts_pending = facts
    return signals


@pytest.mark.parametrize("growth", [0, 1, -1])
def test_facts_that_wait_for_three_heartbeats_are_a_reason_that_shows_at_once(
    world: World, growth: int
) -> None:
    for beat in range(3):
        assert world.beat(pending(9 + beat * growth)).status == HEALTHY
        world.pass_s(1)
    world.published.clear()
    health = world.beat(pending(9 + 3 * growth))
    assert (health.status, criteria(health)) == (UNHEALTHY, UNDELIVERED)
    assert [one.status for one in world.published] == [UNHEALTHY]
    (reason,) = health.reasons
    assert reason.value == pytest.approx(3.0)
    assert reason.threshold == 3.0
    assert reason.samples == 9 + 3 * growth
    assert reason.message == f"none of {reason.samples} facts was stored for 3.0 s"


def test_time_alone_is_no_reason(world: World) -> None:
    """A heartbeat that is a moment early does not turn it; neither does a tick."""
    world.beat(pending(1), seconds=2)
    world.pass_s(0.99)
    assert world.beat(pending(1)).status == HEALTHY
    world.pass_s(2)
    world.registry.tick()
    assert world.status == HEALTHY
    assert world.beat(pending(1)).status == UNHEALTHY


def test_heartbeats_in_quick_succession_are_no_reason(world: World) -> None:
    for _ in range(50):
        world.beat(pending(1))
        world.pass_s(0.05)
    assert world.status == HEALTHY


@pytest.mark.parametrize("beat", [1, 2, 3])
def test_a_batch_that_is_stored_begins_the_wait_again(world: World, beat: int) -> None:
    for number in range(beat + 3):
        health = world.beat(pending(1_000 + number), facts_seq=7 if number < beat else 8)
        assert health.status == HEALTHY, number
        world.pass_s(1)
    assert world.beat(pending(1), facts_seq=8).status == UNHEALTHY


def test_a_lane_that_opens_again_and_again_stores_nothing(world: World) -> None:
    for number in range(4):
        world.beat(pending(1), facts_seq=7 * (number % 2))
        world.beat(pending(1), instance="booking-2", facts_seq=number)
        world.pass_s(1)
    assert world.status == HEALTHY, "7 was new once"
    assert world.beat(pending(1)).status == UNHEALTHY


@pytest.mark.parametrize("signals", [pending(0), reachable()])
def test_none_that_wait_and_a_process_that_does_not_lead_are_no_reason(
    world: World, signals: Signals
) -> None:
    world.beat(pending(1), seconds=2)
    world.beat(signals, seconds=1)
    assert world.beat(pending(1), seconds=2).status == HEALTHY


@pytest.mark.parametrize(("left", "seq"), [(0, 0), (1_000, 1)])
def test_it_recovers_as_other_failures_do(world: World, left: int, seq: int) -> None:
    assert world.beat(pending(5), seconds=3).status == UNHEALTHY
    assert world.beat(pending(left), facts_seq=seq).status == UNHEALTHY
    assert world.beat(pending(0), seconds=59).status == UNHEALTHY
    assert world.beat(pending(0), seconds=1).status == HEALTHY


def test_while_the_log_cannot_be_written_that_is_the_reason(world: World) -> None:
    world.beat(pending(5))
    world.log = LogHealth(writable=False)
    health = world.beat(pending(5), seconds=10)
    assert criteria(health) == [("log", "")]
    world.log = LogHealth(writable=True)
    assert criteria(world.beat(pending(5), seconds=2)) == [("log", "")], "until it may recover"
    assert criteria(world.beat(pending(5), seconds=2)) == [("log", ""), *UNDELIVERED]


def test_a_pause_of_this_process_is_not_waited(world: World) -> None:
    world.beat(pending(5), seconds=1)
    world.pause_s(3600)
    for _ in range(5):
        assert world.beat(pending(5)).status == HEALTHY
    world.registry.tick()
    assert world.beat(pending(5)).status == HEALTHY


@pytest.mark.parametrize("how", ["closed", "silent"])
def test_a_new_stream_has_its_time(world: World, how: str) -> None:
    world.beat(pending(5), seconds=2)
    if how == "closed":
        world.registry.on_closed("booking-1", "booking_service")
        world.pass_s(2)
    else:
        world.pass_s(5)
    world.registry.on_hello("booking-1", "booking_service")
    assert world.beat(pending(5), seconds=2).status == HEALTHY
    assert world.beat(pending(5), seconds=1).status == UNHEALTHY


def test_another_hello_on_the_same_stream_does_not_begin_again(world: World) -> None:
    for _ in range(4):
        world.registry.on_hello("booking-1", "booking_service")
        world.beat(pending(5))
        world.pass_s(1)
    assert world.status == UNHEALTHY


def test_a_database_that_fails_as_well_is_the_first_reason(world: World) -> None:
    signals = probe(Probe.UNREACHABLE)
    signals.facts_pending = 2
    assert criteria(world.beat(signals, seconds=3)) == [("probe", "booking-1"), *UNDELIVERED]


def test_facts_of_a_service_that_is_not_watched_show_with_it(world: World) -> None:
    world.beat(pending(5), instance="reviews", service="review_service", seconds=3)
    health: DatabaseHealth = world.registry.verdict()
    assert (health.status, health.instances[0].status) == (UNKNOWN, UNHEALTHY)
    world.pass_s(4)
    assert world.registry.verdict().instances[0].status == STALE
