"""Missing heartbeats, and pauses of this process that must not count as such."""

from __future__ import annotations

import pytest

from metrics_service.health.registry import MAX_TICK_INTERVAL_S
from protos.metrics.v1.health_pb2 import LogHealth
from protos.tracking.v1.tracking_pb2 import Probe
from tests.metrics.health.registry_world import (
    HEALTHY,
    STALE,
    UNHEALTHY,
    World,
    criteria,
    probe,
    reachable,
)


def test_three_missed_heartbeats_are_stale_with_their_age(world: World) -> None:
    world.beat(reachable())
    world.pass_s(2.9)
    world.registry.tick()
    assert world.status == HEALTHY
    world.pass_s(0.1)
    world.published.clear()
    world.registry.tick()
    assert [one.status for one in world.published] == [STALE]
    world.pass_s(9)
    health = world.registry.verdict()
    assert (health.status, health.instances[0].status) == (STALE, STALE)
    assert criteria(health) == [("heartbeat", "booking-1")]
    assert health.reasons[0].value == pytest.approx(12.0)
    assert health.reasons[0].threshold == 3.0
    assert health.instances[0].heartbeat_age.ToMicroseconds() == 12_000_000


def test_a_probe_that_hangs_while_the_process_beats_is_unhealthy(world: World) -> None:
    world.beat(reachable())
    hung = reachable()
    hung.probe.age_ms = 6_000
    health = world.beat(hung)
    assert (health.status, criteria(health)) == (UNHEALTHY, [("probe", "booking-1")])
    assert health.reasons[0].message == "the newest result of the probe is 6.0 s old"


def test_silence_shows_without_a_tick(world: World) -> None:
    world.beat(reachable())
    world.pass_s(2.5)
    assert world.registry.verdict().status == HEALTHY
    world.pass_s(0.5)
    assert world.registry.verdict().status == STALE


@pytest.mark.parametrize("first", ["verdict", "tick", "heartbeat"])
def test_a_pause_of_this_process_is_not_counted_as_silence_of_an_instance(
    world: World, first: str
) -> None:
    world.beat(reachable())
    world.pass_s(1)
    world.published.clear()
    world.pause_s(3600)
    match first:
        case "verdict":
            assert world.status == HEALTHY
        case "tick":
            world.registry.tick()
        case "heartbeat":
            world.beat(reachable())
    world.registry.tick()
    health = world.registry.verdict()
    assert (health.status, world.published) == (HEALTHY, [])
    # The time before the pause, and at most a second until it was noticed.
    age_s = 0 if first == "heartbeat" else 0.9 + MAX_TICK_INTERVAL_S
    assert health.instances[0].heartbeat_age.ToNanoseconds() / 1e9 == pytest.approx(age_s, abs=1e-6)
    world.pass_s(3 - age_s)
    assert world.status == STALE


@pytest.mark.parametrize("first", ["verdict", "tick"])
def test_a_log_lost_in_a_pause_of_this_process_has_a_moment_to_recover(
    world: World, first: str
) -> None:
    world.beat(reachable())
    world.pass_s(1)
    world.published.clear()
    world.pause_s(8)
    world.log = LogHealth(writable=False)
    if first == "verdict":
        assert world.status == HEALTHY
    world.registry.tick()
    world.registry.on_heartbeat("booking-1", "booking_service", reachable())
    world.pass_s(2)
    assert (world.status, world.published) == (HEALTHY, [])
    world.pass_s(1)
    assert world.status == UNHEALTHY
    assert [criterion for criterion, _ in criteria(world.registry.verdict())] == [
        "log",
        "heartbeat",
    ]


def test_a_new_hello_of_a_stale_instance_does_not_restore_its_last_status(world: World) -> None:
    world.beat(reachable())
    world.pass_s(10)
    world.registry.on_hello("booking-1", "booking_service")
    world.registry.tick()
    assert world.status == STALE
    assert world.beat(reachable()).status == HEALTHY


def test_unhealthy_is_worse_than_stale(world: World) -> None:
    world.beat(reachable(), instance="booking-1")
    world.pass_s(5)
    world.beat(probe(Probe.UNREACHABLE), instance="booking-2")
    health = world.registry.verdict()
    assert health.status == UNHEALTHY
    assert set(criteria(health)) == {("heartbeat", "booking-1"), ("probe", "booking-2")}


def test_unhealthy_does_not_end_by_silence(world: World) -> None:
    world.beat(reachable(), seconds=5)
    world.beat(probe(Probe.UNREACHABLE))
    world.pass_s(5)
    assert world.status == STALE
    assert world.beat(reachable(), seconds=54).status == UNHEALTHY
    assert world.beat(reachable(), seconds=1).status == HEALTHY
