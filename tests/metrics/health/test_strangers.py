"""What is left of an instance that nobody knows once it is gone: nothing after a minute, whatever
it has reported and whatever name it took; however many there are, the known ones keep their places.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from metrics_service.health.combined import MIN_REBUILD_S
from metrics_service.health.instances import MAX_INSTANCES
from protos.tracking.v1.tracking_pb2 import OperationCounts, Probe, Signals
from tests.metrics.health.registry_world import HEALTHY, World, criteria, probe, reachable
from tests.sizes import size

FORGOTTEN_S = 60
# The next heartbeat or tick shows it.
STEP_S = 1


def undelivered() -> Signals:
    signals = reachable()
    signals.facts_pending = 9
    return signals


def failed() -> Signals:
    signals = reachable(total=1_000_000, failed=1_000_000)
    signals.operations.append(OperationCounts(operation="x", total=9, failed=9, slow=9))
    return signals


BAD: dict[str, Signals] = {
    "probe": probe(Probe.UNREACHABLE),
    "failed": failed(),
    "p99_ms": reachable(total=10_000, over_500ms=9_000, at_least_2000ms=9_000, over_2000ms=9_000),
    "slow": reachable(total=1_000, over_500ms=500),
    "undelivered": undelivered(),
}
LEAVES: dict[str, Callable[[World], object]] = {
    "silent": lambda _: None,
    "closed": lambda world: world.registry.on_closed("stranger", "booking_service"),
    "goodbye": lambda world: world.registry.on_goodbye("stranger", "booking_service"),
}


@pytest.mark.parametrize("leaves", LEAVES)
@pytest.mark.parametrize("stays_s", [1, 5, 120])
@pytest.mark.parametrize("bad", BAD)
def test_its_verdict_is_over_a_minute_after_its_last_heartbeat(
    world: World, bad: str, stays_s: int, leaves: str
) -> None:
    world.beat(reachable(total=10), seconds=60)
    for _ in range(stays_s):
        world.registry.on_heartbeat("stranger", "booking_service", BAD[bad])
        world.beat(reachable(total=10), seconds=1)
    LEAVES[leaves](world)
    world.beat(reachable(total=10), seconds=FORGOTTEN_S)
    world.published.clear()
    world.beat(reachable(total=10), seconds=STEP_S)
    health = world.registry.verdict()
    assert (health.status, criteria(health)) == (HEALTHY, [])
    assert [one.instance for one in health.instances] == ["booking-1"]
    assert health.figures.failed == 0
    world.beat(reachable(total=10), seconds=300)
    assert {each.status for each in world.published} <= {HEALTHY}


def test_what_the_others_reported_is_kept(world: World) -> None:
    world.beat(reachable(total=100, failed=4))
    world.beat(reachable(total=50, failed=3), instance="booking-2")
    world.registry.on_heartbeat("stranger", "booking_service", failed())
    for _ in range(FORGOTTEN_S + 2):
        world.beat(reachable(), instance="booking-1")
        world.beat(reachable(), instance="booking-2")
        world.pass_s(1)
    figures = world.registry.verdict().figures
    assert (figures.samples, figures.failed) == (150, 7)
    world.beat(reachable(total=4, failed=4))
    assert criteria(world.registry.verdict()) == [("failed", "")], "eleven together"


def test_a_killed_process_takes_its_failures_with_it_no_sooner_than_after_a_minute(
    world: World,
) -> None:
    world.beat(reachable(total=50, failed=20), instance="old")
    world.registry.on_closed("old", "booking_service")
    for second in range(FORGOTTEN_S - 1):
        health = world.beat(reachable(), instance="new", seconds=1)
        assert health.figures.failed == 20, second
    assert world.beat(reachable(), instance="new", seconds=2).figures.failed == 0


def invent(world: World, minute: int, service: str, signals: Signals | None) -> None:
    """A thousand instances in a minute, each of which is gone at once."""
    for number in range(1_000):
        name = f"x-{minute}-{number}"
        world.registry.on_hello(name, service)
        if signals is not None:
            world.registry.on_heartbeat(name, service, signals)
        world.registry.on_closed(name, service)
        world.pass_s(0.06)
        if number % 16 == 0:
            world.registry.on_heartbeat("booking-1", "booking_service", reachable())


@pytest.mark.parametrize("service", ["booking_service", "invented"])
@pytest.mark.parametrize("signals", [None, failed()], ids=["hello", "heartbeat"])
def test_a_thousand_a_minute_are_bounded_and_over_a_minute_later(
    world: World, service: str, signals: Signals | None
) -> None:
    world.beat(reachable(total=10), seconds=10)
    for minute in range(size(1, 5)):
        invent(world, minute, service, signals)
        health = world.registry.verdict()
        assert health.instances_total <= MAX_INSTANCES + 1
        assert "booking-1" in {one.instance for one in health.instances}
    world.beat(reachable(), seconds=FORGOTTEN_S + round(MIN_REBUILD_S))
    health = world.registry.verdict()
    assert (health.status, criteria(health)) == (HEALTHY, [])
    assert [one.instance for one in health.instances] == ["booking-1"]


def test_nobody_is_told_before_the_next_tick_of_those_that_decide_nothing(world: World) -> None:
    world.beat(reachable(total=10), seconds=10)
    world.published.clear()
    for number in range(20):
        world.registry.on_hello(f"x-{number}", "booking_service")
        world.registry.on_heartbeat(f"y-{number}", "invented", failed())
    assert world.published == []
    assert world.registry.verdict().instances_total == 41, "who asks sees them at once"
    assert len(world.published) == 1


def test_those_that_only_said_hello_keep_no_new_one_out(world: World) -> None:
    for number in range(3 * MAX_INSTANCES):
        world.registry.on_hello(f"x-{number}", "booking_service")
        world.registry.on_closed(f"x-{number}", "booking_service")
    world.beat(reachable(), instance="new")
    assert "new" in {one.instance for one in world.registry.verdict().instances}


def test_a_stale_one_that_decides_makes_room_last(world: World) -> None:
    world.beat(reachable(), instance="old")
    world.pass_s(10)
    for number in range(3 * MAX_INSTANCES):
        world.registry.on_hello(f"x-{number}", "booking_service")
        world.registry.on_closed(f"x-{number}", "booking_service")
    assert ("heartbeat", "old") in criteria(world.registry.verdict())
