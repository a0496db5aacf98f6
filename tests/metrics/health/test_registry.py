"""The registry of instances: what heartbeats, silence, Goodbye and the log make of the verdict."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest

from metrics_service.client.health import Criteria
from metrics_service.health.instances import MAX_INSTANCES
from metrics_service.health.registry import MAX_TICK_INTERVAL_S, HealthRegistry
from metrics_service.health.signals import MAX_COUNT
from metrics_service.measure.sketch import Sketch
from protos.metrics.v1.health_pb2 import DatabaseHealth, LogHealth, MonitorCost
from protos.tracking.v1.tracking_pb2 import OperationCounts, PoolGauges, Probe, Signals

EPOCH_US = 1_800_000_000_000_000
HEARTBEAT_S = 1.0
SECOND_NS = 10**9
TICK_NS = int(0.9 * MAX_TICK_INTERVAL_S * SECOND_NS)

UNKNOWN = DatabaseHealth.STATUS_UNSPECIFIED
HEALTHY = DatabaseHealth.HEALTHY
DEGRADED = DatabaseHealth.DEGRADED
UNHEALTHY = DatabaseHealth.UNHEALTHY
STALE = DatabaseHealth.STALE


@dataclass
class World:
    """A registry, its clocks and its log, all set by the test."""

    now_ns: int = 10**15
    log: LogHealth = field(default_factory=lambda: LogHealth(writable=True))
    told: list[DatabaseHealth] = field(default_factory=list)
    due_ns: int = 0

    def __post_init__(self) -> None:
        self.registry = HealthRegistry(
            heartbeat_s=HEARTBEAT_S,
            log_health=lambda: self.log,
            criteria=Criteria(min_samples=20),
            now_us=self.now_us,
            monotonic_ns=self.monotonic_ns,
        )
        self.registry.on_change(self.told.append)
        self.due_ns = self.now_ns + TICK_NS

    def now_us(self) -> int:
        return EPOCH_US + self.now_ns // 1000

    def monotonic_ns(self) -> int:
        """No two readings are the same."""
        self.now_ns += 1
        return self.now_ns

    def pass_s(self, seconds: float) -> None:
        """Time passes, with a tick every TICK_NS."""
        end_ns = self.now_ns + round(seconds * SECOND_NS)
        while self.due_ns < end_ns:
            self.now_ns = max(self.now_ns, self.due_ns)
            self.registry.tick()
            self.due_ns = self.now_ns + TICK_NS
        self.now_ns = end_ns

    def stop_s(self, seconds: int) -> None:
        """The process is stopped for a time, and is heard of and ticks no more."""
        self.now_ns += seconds * SECOND_NS

    def beat(
        self,
        signals: Signals,
        *,
        instance: str = "booking-1",
        service: str = "booking_service",
        seconds: float = 0.0,
    ) -> DatabaseHealth:
        """Beat now, and then every second, with empty counts, for a time."""
        self.registry.on_heartbeat(instance, service, signals)
        quiet = Signals()
        quiet.CopyFrom(signals)
        quiet.ClearField("queries")
        quiet.ClearField("operations")
        for _ in range(round(seconds)):
            self.pass_s(1)
            self.registry.tick()
            self.registry.on_heartbeat(instance, service, quiet)
        return self.registry.verdict()

    @property
    def status(self) -> DatabaseHealth.Status.ValueType:
        return self.registry.verdict().status


@pytest.fixture
def world() -> World:
    return World()


def reachable(**counts: int) -> Signals:
    """A good probe, and queries: total and the counters that are given."""
    signals = Signals(
        probe=Probe(result=Probe.REACHABLE, latency_us=1_500),
        pool=PoolGauges(size=4, idle=3, max=10, waiting=0),
    )
    for name, count in counts.items():
        setattr(signals.queries, name, count)
    return signals


def probe(result: Probe.Result.ValueType) -> Signals:
    return Signals(probe=Probe(result=result))


def criteria(health: DatabaseHealth) -> list[tuple[str, str]]:
    return [(reason.criterion, reason.instance) for reason in health.reasons]


def test_nothing_reported_is_unknown(world: World) -> None:
    health = world.registry.verdict()
    assert health.status == UNKNOWN
    assert not health.instances


def test_a_hello_alone_says_nothing_of_the_database(world: World) -> None:
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
    world.told.clear()
    health = world.beat(probe(result))
    assert health.status == UNHEALTHY
    assert criteria(health) == [("probe", "booking-1")]
    assert health.instances[0].probe == name
    assert [one.status for one in world.told] == [UNHEALTHY]
    turned_us = world.now_us()
    world.pass_s(1)
    health = world.beat(reachable(), seconds=58)
    assert health.status == UNHEALTHY
    assert health.since.ToMicroseconds() == turned_us
    assert world.beat(reachable(), seconds=1).status == HEALTHY
    assert world.told[-1].status == HEALTHY


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


def test_three_missed_heartbeats_are_stale_with_their_age(world: World) -> None:
    world.beat(reachable())
    world.pass_s(2.9)
    world.registry.tick()
    assert world.status == HEALTHY
    world.pass_s(0.1)
    world.told.clear()
    world.registry.tick()
    assert [one.status for one in world.told] == [STALE]
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
    assert health.reasons[0].message == "the probe has not looked for 6.0 s"


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


def test_silence_is_seen_without_a_tick(world: World) -> None:
    world.beat(reachable())
    world.pass_s(2.5)
    assert world.registry.verdict().status == HEALTHY
    world.pass_s(0.5)
    assert world.registry.verdict().status == STALE


@pytest.mark.parametrize("first", ["verdict", "tick", "heartbeat"])
def test_a_stop_of_this_process_is_nobody_elses_silence(world: World, first: str) -> None:
    world.beat(reachable())
    world.pass_s(1)
    world.told.clear()
    world.stop_s(3600)
    match first:
        case "verdict":
            assert world.status == HEALTHY
        case "tick":
            world.registry.tick()
        case "heartbeat":
            world.beat(reachable())
    world.registry.tick()
    health = world.registry.verdict()
    assert (health.status, world.told) == (HEALTHY, [])
    # What had passed before the stop, and the second at most until it was noticed.
    age_s = 0 if first == "heartbeat" else 0.9 + MAX_TICK_INTERVAL_S
    assert health.instances[0].heartbeat_age.ToNanoseconds() / 1e9 == pytest.approx(age_s, abs=1e-6)
    world.pass_s(3 - age_s)
    assert world.status == STALE


@pytest.mark.parametrize("first", ["verdict", "tick"])
def test_a_log_lost_in_a_stop_of_this_process_has_a_moment_to_come_back(
    world: World, first: str
) -> None:
    world.beat(reachable())
    world.pass_s(1)
    world.told.clear()
    world.stop_s(8)
    world.log = LogHealth(writable=False)
    if first == "verdict":
        assert world.status == HEALTHY
    world.registry.tick()
    world.registry.on_heartbeat("booking-1", "booking_service", reachable())
    world.pass_s(2)
    assert (world.status, world.told) == (HEALTHY, [])
    world.pass_s(1)
    assert world.status == UNHEALTHY
    assert [criterion for criterion, _ in criteria(world.registry.verdict())] == [
        "log",
        "heartbeat",
    ]


def test_a_new_hello_of_a_stale_instance_does_not_bring_back_its_last_green(world: World) -> None:
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


def test_a_goodbye_is_forgotten_at_once(world: World) -> None:
    world.beat(reachable())
    world.registry.on_goodbye("booking-1")
    world.registry.on_goodbye("never-seen")
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
    world.registry.on_closed("old")
    world.pass_s(4)
    assert world.status == STALE
    world.registry.on_hello("new", "booking_service")
    assert world.status == STALE, "of its database nothing is known yet"
    health = world.beat(reachable(), instance="new")
    assert (health.status, [one.instance for one in health.instances]) == (HEALTHY, ["new"])


def test_a_successor_that_is_there_at_once_leaves_no_stale_verdict(world: World) -> None:
    world.beat(reachable(), instance="old")
    world.registry.on_closed("old")
    world.pass_s(1)
    world.told.clear()
    world.beat(reachable(), instance="new", seconds=20)
    assert {one.status for one in world.told} == {HEALTHY}
    assert [one.instance for one in world.told[-1].instances] == ["new"]


@pytest.mark.parametrize("why", ["no successor", "another service", "silent", "came back"])
def test_an_instance_that_may_still_run_stays_stale(world: World, why: str) -> None:
    world.beat(reachable(), instance="beside")
    world.beat(reachable(), instance="old")
    if why != "silent":
        world.registry.on_closed("old")
    if why == "came back":
        world.registry.on_hello("old", "booking_service")
    world.pass_s(4)
    service = "review_service" if why == "another service" else "booking_service"
    if why != "no successor":
        world.beat(reachable(), instance="new", service=service)
    health = world.beat(reachable(), instance="beside")
    assert health.status == STALE
    assert ("heartbeat", "old") in criteria(health)


def test_unhealthy_does_not_end_by_silence(world: World) -> None:
    world.beat(reachable(), seconds=5)
    world.beat(probe(Probe.UNREACHABLE))
    world.pass_s(5)
    assert world.status == STALE
    assert world.beat(reachable(), seconds=54).status == UNHEALTHY
    assert world.beat(reachable(), seconds=1).status == HEALTHY


def test_a_process_that_starts_unhealthy_turns_once_in_a_minute(world: World) -> None:
    world.beat(probe(Probe.UNREACHABLE), seconds=4)
    assert world.beat(reachable(), seconds=55).status == UNHEALTHY
    assert world.beat(reachable(), seconds=1).status == HEALTHY


def test_a_stale_instance_without_a_successor_is_kept_for_a_day(world: World) -> None:
    world.beat(reachable(), instance="other", service="booking_service")
    world.pass_s(23 * 3600)
    world.beat(reachable(), instance="reviews", service="review_service", seconds=120)
    assert world.status == STALE
    world.pass_s(3600)
    world.beat(reachable(), instance="reviews", service="review_service")
    world.registry.tick()
    assert world.status == HEALTHY


def test_the_number_of_instances_is_bounded(world: World) -> None:
    for number in range(MAX_INSTANCES + 5):
        world.beat(reachable(), instance=f"booking-{number}")
    assert len(world.registry.verdict().instances) == MAX_INSTANCES
    world.pass_s(4)
    world.beat(reachable(), instance="late")
    names = [one.instance for one in world.registry.verdict().instances]
    assert len(names) == MAX_INSTANCES
    assert "late" in names


def test_the_log_being_down_shows_at_once_and_recovers_by_itself(world: World) -> None:
    world.beat(reachable())
    world.told.clear()
    world.log = LogHealth(writable=False, lag=3, message="its database is away")
    world.registry.tick()
    health = world.registry.verdict()
    assert [one.status for one in world.told] == [UNHEALTHY]
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


def test_listeners_are_told_only_of_changes(world: World) -> None:
    world.beat(reachable(), seconds=20)
    told = len(world.told)
    world.beat(reachable(total=5), seconds=20)
    assert len(world.told) == told


def test_a_heartbeat_that_makes_no_sense_hurts_nobody(world: World) -> None:
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
