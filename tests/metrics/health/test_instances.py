"""Which instances are kept, replaced and forgotten."""

from __future__ import annotations

import pytest

from metrics_service.health.instances import MAX_INSTANCES
from tests.metrics.health.registry_world import (
    HEALTHY,
    STALE,
    UNKNOWN,
    World,
    criteria,
    reachable,
)


def test_a_goodbye_is_forgotten_at_once(world: World) -> None:
    world.beat(reachable())
    world.registry.on_goodbye("booking-1", "booking_service")
    world.registry.on_goodbye("never-seen", "booking_service")
    world.pass_s(100)
    health = world.registry.verdict()
    assert (health.status, len(health.instances)) == (UNKNOWN, 0)


def test_a_stale_instance_goes_once_another_of_its_service_has_taken_its_place(
    world: World,
) -> None:
    world.beat(reachable(), instance="old")
    world.pass_s(5)
    world.beat(reachable(), instance="new", seconds=50)
    assert world.status == STALE
    world.beat(reachable(), instance="new", seconds=10)
    health = world.registry.verdict()
    assert (health.status, [one.instance for one in health.instances]) == (HEALTHY, ["new"])


def test_an_instance_that_was_killed_goes_as_soon_as_its_successor_reports(world: World) -> None:
    world.beat(reachable(), instance="old")
    world.pass_s(0.5)
    world.registry.on_closed("old", "booking_service")
    world.pass_s(4)
    assert world.status == STALE
    world.registry.on_hello("new", "booking_service")
    assert world.status == STALE, "of its database nothing is known yet"
    health = world.beat(reachable(), instance="new")
    assert (health.status, [one.instance for one in health.instances]) == (HEALTHY, ["new"])


def test_a_successor_that_is_there_at_once_leaves_no_stale_verdict(world: World) -> None:
    world.beat(reachable(), instance="old")
    world.registry.on_closed("old", "booking_service")
    world.pass_s(1)
    world.published.clear()
    world.beat(reachable(), instance="new", seconds=20)
    assert {one.status for one in world.published} == {HEALTHY}
    assert [one.instance for one in world.published[-1].instances] == ["new"]


@pytest.mark.parametrize("why", ["no successor", "another service", "silent", "came back"])
def test_an_instance_that_may_still_run_stays_stale(world: World, why: str) -> None:
    world.beat(reachable(), instance="beside")
    world.beat(reachable(), instance="old")
    if why != "silent":
        world.registry.on_closed("old", "booking_service")
    if why == "came back":
        world.registry.on_hello("old", "booking_service")
    world.pass_s(4)
    service = "review_service" if why == "another service" else "booking_service"
    if why != "no successor":
        world.beat(reachable(), instance="new", service=service)
    health = world.beat(reachable(), instance="beside")
    assert health.status == STALE
    assert ("heartbeat", "old") in criteria(health)


# A day of ticks.
@pytest.mark.full
def test_a_stale_instance_without_a_successor_is_kept_for_a_day(world: World) -> None:
    world.beat(reachable(), instance="other", service="booking_service")
    world.pass_s(23 * 3600)
    world.beat(reachable(), instance="reviews", service="review_service", seconds=120)
    assert world.status == STALE
    world.pass_s(3600)
    world.beat(reachable(), instance="reviews", service="review_service")
    world.registry.tick()
    assert world.status == UNKNOWN, "no watched service reports"


def test_the_number_of_instances_is_bounded(world: World) -> None:
    for number in range(MAX_INSTANCES + 5):
        world.beat(reachable(), instance=f"booking-{number}")
    assert len(world.registry.verdict().instances) == MAX_INSTANCES
    world.pass_s(4)
    world.beat(reachable(), instance="late")
    names = [one.instance for one in world.registry.verdict().instances]
    assert len(names) == MAX_INSTANCES
    assert "late" in names
