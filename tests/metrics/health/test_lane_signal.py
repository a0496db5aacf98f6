"""A lane of facts that is forked or fenced is a reason of its own, which shows at once; one of
telemetry that was fenced degrades.
"""

from __future__ import annotations

import pytest

from protos.tracking.v1.tracking_pb2 import LaneSignal, Signals
from tests.metrics.health.registry_world import (
    DEGRADED,
    HEALTHY,
    UNHEALTHY,
    World,
    criteria,
    reachable,
)


def with_lane(state: int, reason: str = "") -> Signals:
    signals = reachable()
    signals.lane.state = state  # type: ignore[assignment]  # also one that is none
    signals.lane.reason = reason
    return signals


@pytest.mark.parametrize(
    ("state", "criterion"), [(LaneSignal.FORKED, "forked"), (LaneSignal.FENCED, "fenced")]
)
def test_a_lane_that_stands_still_turns_the_verdict_until_it_goes_on(
    world: World, state: int, criterion: str
) -> None:
    assert world.beat(with_lane(LaneSignal.OK)).status == HEALTHY
    health = world.beat(with_lane(state, "the sink is another one"))
    assert (health.status, criteria(health)) == (UNHEALTHY, [(criterion, "booking-1")])
    assert health.reasons[0].message == "the sink is another one"
    for _ in range(100):
        world.pass_s(1)
        health = world.beat(with_lane(LaneSignal.OK))
    assert (health.status, criteria(health)) == (HEALTHY, [])


def test_telemetry_that_was_fenced_degrades_until_it_is_over(world: World) -> None:
    signals = reachable()
    signals.telemetry.state = LaneSignal.FENCED
    signals.telemetry.reason = "another process has sent as booking-1"
    for _ in range(20):
        world.pass_s(1)
        health = world.beat(signals)
    assert (health.status, criteria(health)) == (DEGRADED, [("telemetry_fenced", "booking-1")])
    assert health.reasons[0].message == "another process has sent as booking-1"
    signals.telemetry.state = LaneSignal.OK
    for _ in range(100):
        world.pass_s(1)
        health = world.beat(signals)
    assert (health.status, criteria(health)) == (HEALTHY, [])


def test_a_reason_has_bounds_and_an_unknown_state_is_none(world: World) -> None:
    assert world.beat(with_lane(77, "x")).status == HEALTHY
    health = world.beat(with_lane(LaneSignal.FORKED, "é" * 10_000))
    assert health.reasons[0].message == "é" * 128
