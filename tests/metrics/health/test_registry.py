"""What probes, query counts and the log make of the verdict."""

from __future__ import annotations

import pytest

from metrics_service.health.signals import MAX_COUNT
from metrics_service.measure.sketch import Sketch
from protos.metrics.v1.health_pb2 import LogHealth, MonitorCost
from protos.tracking.v1.tracking_pb2 import OperationCounts, Probe, Signals
from tests.metrics.health.registry_world import (
    HEALTHY,
    UNHEALTHY,
    UNKNOWN,
    World,
    criteria,
    probe,
    reachable,
)


def test_nothing_reported_is_unknown(world: World) -> None:
    health = world.registry.verdict()
    assert health.status == UNKNOWN
    assert not health.instances


def test_a_hello_alone_leaves_the_database_unknown(world: World) -> None:
    world.registry.on_hello("booking-1", "booking_service")
    health = world.registry.verdict()
    assert health.status == UNKNOWN
    assert [(one.instance, one.service, one.probe) for one in health.instances] == [
        ("booking-1", "booking_service", "")
    ]


def test_a_good_heartbeat_is_healthy_with_its_gauges(world: World) -> None:
    signals = reachable(total=100)
    signals.facts_pending = 0
    health = world.beat(signals)
    (instance,) = health.instances
    assert health.status == instance.status == HEALTHY
    assert not health.reasons
    assert (instance.probe, instance.probe_latency_ms) == ("reachable", 1.5)
    assert (instance.pool_size, instance.pool_idle, instance.pool_max) == (4, 3, 10)
    assert instance.HasField("facts_pending")
    assert (health.figures.samples, instance.figures.samples) == (100, 100)
    assert not health.figures.HasField("p95_ms"), "no sketch was sent"


def test_a_heartbeat_without_probe_and_queries_is_no_health(world: World) -> None:
    assert world.beat(Signals()).status == UNKNOWN
    assert world.beat(reachable()).status == HEALTHY


@pytest.mark.parametrize(
    ("result", "name"),
    [(Probe.UNREACHABLE, "unreachable"), (Probe.SCHEMA_MISSING, "schema_missing")],
)
def test_a_failed_probe_turns_the_verdict_at_once_and_a_good_one_after_the_dwell(
    world: World, result: Probe.Result.ValueType, name: str
) -> None:
    world.beat(reachable(), seconds=5)
    world.published.clear()
    health = world.beat(probe(result))
    assert health.status == UNHEALTHY
    assert criteria(health) == [("probe", "booking-1")]
    assert health.instances[0].probe == name
    assert [one.status for one in world.published] == [UNHEALTHY]
    turned_us = world.now_us()
    world.pass_s(1)
    health = world.beat(reachable(), seconds=58)
    assert health.status == UNHEALTHY
    assert health.since.ToMicroseconds() == turned_us
    assert world.beat(reachable(), seconds=1).status == HEALTHY
    assert world.published[-1].status == HEALTHY


def test_more_than_ten_failures_are_unhealthy_until_they_leave_the_window(world: World) -> None:
    world.beat(reachable(total=50))
    signals = reachable(total=11, failed=11)
    signals.operations.append(OperationCounts(operation="bookings.create", total=11, failed=11))
    health = world.beat(signals)
    assert health.status == UNHEALTHY
    assert criteria(health) == [("failed", "booking-1")]
    assert list(health.reasons[0].operations) == ["bookings.create"]
    assert (health.reasons[0].value, health.reasons[0].threshold) == (11, 10)
    assert world.beat(reachable(), seconds=280).status == UNHEALTHY
    assert world.beat(reachable(), seconds=60).status == HEALTHY


def test_failures_of_several_instances_add_up(world: World) -> None:
    for instance in ("booking-1", "booking-2"):
        world.beat(reachable(total=6, failed=6), instance=instance)
    health = world.registry.verdict()
    assert [one.status for one in health.instances] == [HEALTHY, HEALTHY]
    assert health.status == UNHEALTHY
    assert criteria(health) == [("failed", "")]
    assert health.figures.failed == 12


def test_the_worst_instance_decides(world: World) -> None:
    world.beat(reachable(), instance="booking-1")
    world.beat(probe(Probe.UNREACHABLE), instance="booking-2")
    health = world.registry.verdict()
    assert health.status == UNHEALTHY
    assert {one.instance: one.status for one in health.instances} == {
        "booking-1": HEALTHY,
        "booking-2": UNHEALTHY,
    }


def test_percentiles_are_shown_from_the_merged_sketches(world: World) -> None:
    for instance, value_us in (("booking-1", 10_000), ("booking-2", 30_000)):
        sketch = Sketch()
        sketch.add(value_us, 50)
        signals = reachable(total=50)
        signals.queries.execute_us.CopyFrom(sketch.to_proto())
        world.beat(signals, instance=instance)
    figures = world.registry.verdict().figures
    assert figures.p50_ms == pytest.approx(10, rel=0.011)
    assert figures.p99_ms == pytest.approx(30, rel=0.011)


def test_what_monitoring_costs_is_shown_and_bounded(world: World) -> None:
    assert not world.beat(reachable()).instances[0].HasField("monitor")
    signals = reachable()
    signals.monitor.SetInParent()
    assert not world.beat(signals).instances[0].monitor.HasField("overhead_us")
    for name, value in (
        ("queries", 7),
        ("overhead_ns", 5_250),
        ("bytes_held", 2**64 - 1),
        ("dropped", 1),
        ("evicted", 2),
        ("sink_errors", 3),
        ("looks", 4),
        ("looks_skipped", 5),
    ):
        setattr(signals.monitor, name, value)
    assert world.beat(signals).instances[0].monitor == MonitorCost(
        queries=7,
        overhead_us=5.25,
        bytes_held=MAX_COUNT,
        dropped=1,
        evicted=2,
        sink_errors=3,
        looks=4,
        looks_skipped=5,
    )


def test_a_process_that_starts_unhealthy_turns_once_in_a_minute(world: World) -> None:
    world.beat(probe(Probe.UNREACHABLE), seconds=4)
    assert world.beat(reachable(), seconds=55).status == UNHEALTHY
    assert world.beat(reachable(), seconds=1).status == HEALTHY


def test_the_log_being_down_shows_at_once_and_recovers_by_itself(world: World) -> None:
    world.beat(reachable())
    world.published.clear()
    world.log = LogHealth(writable=False, lag=3, message="its database is away")
    world.registry.tick()
    health = world.registry.verdict()
    assert [one.status for one in world.published] == [UNHEALTHY]
    assert criteria(health) == [("log", "")]
    assert health.reasons[0].message == "the log cannot be written: its database is away"
    assert health.log == world.log
    assert health.instances[0].status == HEALTHY
    world.log = LogHealth(writable=True)
    assert world.beat(reachable(), seconds=59).status == UNHEALTHY
    assert world.beat(reachable(), seconds=1).status == HEALTHY


def test_the_log_being_down_shows_before_anything_has_reported(world: World) -> None:
    world.log = LogHealth(writable=False)
    world.registry.tick()
    assert world.status == UNHEALTHY


def test_listeners_are_called_only_for_changes(world: World) -> None:
    world.beat(reachable(), seconds=20)
    before = len(world.published)
    world.beat(reachable(total=5), seconds=20)
    assert len(world.published) == before


def test_an_invalid_heartbeat_changes_no_figure(world: World) -> None:
    world.beat(reachable(total=100))
    odd = [
        reachable(total=2**64 - 1),
        reachable(total=1, failed=2**63),
        reachable(total=3, over_2000ms=9),
        reachable(total=1),
        reachable(total=1),
        reachable(total=1),
    ]
    odd[3].queries.execute_us.index_delta.extend([1, 2])
    odd[4].queries.execute_us.index_delta.append(2**31 - 1)
    odd[4].queries.execute_us.count.append(1)
    odd[5].operations.append(OperationCounts(operation="x" * 100_000, total=1, failed=1))
    for signals in odd:
        world.beat(signals)
    health = world.registry.verdict()
    assert health.status == HEALTHY
    assert health.figures.samples == 103
    assert health.ByteSize() < 2_000
