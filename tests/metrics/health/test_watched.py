"""Only instances of watched services decide the merged verdict; others are shown and soon
forgotten, and however many there are, they neither hide nor replace a watched one.
"""

from __future__ import annotations

import json
import tracemalloc

import pytest
from structlog.testing import capture_logs

from metrics_service.client.health.window import SLOT_S, WINDOW_S
from metrics_service.config import MetricsSettings
from metrics_service.health.instances import (
    MAX_DETAILED,
    MAX_INSTANCES,
    MAX_NAME_BYTES,
)
from metrics_service.health.paging import MAX_PAGE_SIZE
from metrics_service.health.reasons import MAX_REASONS
from metrics_service.health.signals import MAX_BUCKETS, MAX_LABEL_BYTES
from metrics_service.ingest.frames import MAX_ID_CHARS
from metrics_service.web.encode import to_json
from protos.tracking.v1.tracking_pb2 import LaneSignal, OperationCounts, Probe, Signals
from servicekit.handlers import MAX_MESSAGE_BYTES
from servicekit.settings import SettingsError
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

MAX_ANSWER_BYTES = 1_000_000
MAX_HELD_BYTES = 400_000_000


def names(world: World) -> list[str]:
    return [one.instance for one in world.registry.verdict().instances]


@pytest.mark.parametrize("bad", [probe(Probe.UNREACHABLE), reachable(total=50, failed=50)])
def test_another_service_has_a_verdict_of_its_own_and_does_not_turn_the_merged_one(
    world: World, bad: Signals
) -> None:
    world.beat(reachable(total=10))
    health = world.beat(bad, instance="reviews", service="review_service")
    assert (health.status, criteria(health)) == (HEALTHY, [])
    assert [(one.instance, one.watched, one.status) for one in health.instances] == [
        ("booking-1", True, HEALTHY),
        ("reviews", False, UNHEALTHY),
    ]
    assert [one.criterion for one in health.instances[1].reasons]
    assert (health.figures.samples, health.figures.failed) == (10, 0)


def test_another_service_alone_leaves_the_database_unknown(world: World) -> None:
    assert world.beat(reachable(), instance="reviews", service="review_service").status == UNKNOWN


@pytest.mark.parametrize("beats", [True, False])
def test_another_that_ends_without_goodbye_is_gone_at_once_and_forgotten_in_60_s(
    world: World, beats: bool
) -> None:
    if beats:
        world.beat(reachable(), instance="reviews", service="review_service")
    else:
        world.registry.on_hello("reviews", "review_service")
    world.registry.on_closed("reviews", "review_service")
    health = world.beat(reachable(), seconds=1)
    assert [(one.instance, one.gone) for one in health.instances] == [
        ("booking-1", False),
        ("reviews", True),
    ]
    health = world.beat(reachable(), seconds=58)
    assert (health.status, len(health.instances)) == (HEALTHY, 2)
    health = world.beat(reachable(), seconds=1)
    assert (health.status, len(health.instances), health.instances_total) == (HEALTHY, 1, 1)


def test_another_that_falls_silent_is_gone_after_three_heartbeats(world: World) -> None:
    world.beat(reachable(), instance="reviews", service="review_service")
    assert not world.beat(reachable(), seconds=2).instances[1].gone
    health = world.beat(reachable(), seconds=1)
    assert (health.status, health.instances[1].gone) == (HEALTHY, True)
    assert health.instances[1].status == STALE


def test_a_watched_one_that_only_said_hello_decides_nothing_and_is_forgotten(
    world: World,
) -> None:
    world.registry.on_hello("ghost", "booking_service")
    health = world.beat(reachable(), seconds=59)
    assert (health.status, health.instances_total) == (HEALTHY, 2)
    assert {one.status for one in world.published} <= {UNKNOWN, HEALTHY}
    assert world.beat(reachable(), seconds=2).instances_total == 1


def test_a_watched_one_stays_stale_while_none_replaces_it(world: World) -> None:
    world.beat(reachable())
    world.registry.on_closed("booking-1", "booking_service")
    world.pass_s(3600)
    health = world.registry.verdict()
    assert (health.status, health.instances[0].gone) == (STALE, True)


def test_the_same_name_in_another_service_is_another_instance(world: World) -> None:
    world.beat(reachable(total=5), instance="host-1")
    world.beat(probe(Probe.UNREACHABLE), instance="host-1", service="review_service")
    world.registry.on_closed("host-1", "review_service")
    world.registry.on_goodbye("host-1", "review_service")
    health = world.registry.verdict()
    assert (health.status, names(world)) == (HEALTHY, ["host-1"])
    assert health.instances[0].watched
    assert not health.instances[0].gone


@pytest.mark.parametrize("first", ["watched", "others"])
def test_invented_instances_neither_hide_nor_replace_a_watched_one(
    world: World, first: str
) -> None:
    if first == "watched":
        world.beat(reachable())
    with capture_logs() as logs:
        for number in range(3 * MAX_INSTANCES):
            world.beat(reachable(), instance=f"x-{number}", service=f"service-{number}")
        world.pass_s(2.5)
        for number in range(3 * MAX_INSTANCES):
            world.beat(probe(Probe.UNREACHABLE), instance=f"y-{number}", service="invented")
    health = world.beat(reachable())
    assert (health.status, criteria(health)) == (HEALTHY, [])
    assert (health.instances[0].instance, len(health.instances)) == ("booking-1", MAX_PAGE_SIZE)
    assert health.instances_total == MAX_INSTANCES + 1
    assert [line["event"] for line in logs] == ["health_instance_refused"], "a line a minute"
    world.pass_s(3600)
    assert names(world) == ["booking-1"]


def test_names_are_bounded_in_bytes(world: World) -> None:
    longest = "é" * (MAX_NAME_BYTES // 2)
    for service in ("booking_service", "other"):
        world.registry.on_hello(longest, service)
        world.registry.on_hello(longest + "x", service)
    world.registry.on_hello("fits", longest)
    world.registry.on_hello("too long", longest + "x")
    assert names(world) == [longest, longest, "fits"]


def heaviest(number: int) -> Signals:
    """The most that one heartbeat can have kept: every bucket, and operations of its own."""
    signals = reachable(total=1 << 20, failed=1 << 20, over_500ms=1 << 20, over_2000ms=1 << 20)
    sketch = signals.queries.execute_us
    sketch.index_delta.extend([0, *([1] * (MAX_BUCKETS - 1))])
    sketch.count.extend([1_000 + number] * MAX_BUCKETS)
    sketch.sum = sketch.max = 1e12
    signals.probe.result = Probe.UNREACHABLE
    signals.lane.state, signals.lane.reason = LaneSignal.FORKED, "\x01" * MAX_LABEL_BYTES
    for place in range(10):
        label = f"{number}-{place}-".ljust(MAX_LABEL_BYTES, "\x01")
        signals.operations.append(OperationCounts(operation=label, total=9, failed=9, slow=9))
    return signals


def beat_all(world: World, signals: Signals) -> None:
    """Let as many instances as there may be send a heartbeat, in one slot of the window."""
    for instance in range(MAX_INSTANCES):
        for service in ("booking_service", "other"):
            name = f"{instance}".ljust(MAX_ID_CHARS, '"')
            world.registry.on_heartbeat(name, service, signals)
    world.now_ns += SLOT_S * 10**9


@pytest.mark.full
def test_the_memory_and_the_answer_of_the_most_instances_are_bounded(world: World) -> None:
    beat_all(world, heaviest(0))
    heavy = heaviest(1)
    tracemalloc.start()
    try:
        beat_all(world, heavy)
        held_by_slot = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    assert held_by_slot * (WINDOW_S / SLOT_S) < MAX_HELD_BYTES
    health = world.registry.verdict()
    assert health.ByteSize() < MAX_ANSWER_BYTES
    assert len(health.reasons) == MAX_REASONS
    # A name may be all of quotation marks, which JSON escapes.
    json_bytes = len(json.dumps(to_json(health), ensure_ascii=False).encode())
    assert json_bytes < MAX_MESSAGE_BYTES
    detailed = [one for one in health.instances if one.figures.HasField("p99_ms")]
    assert len(detailed) == MAX_DETAILED


def load(**given: str) -> MetricsSettings:
    return MetricsSettings.load({"METRICS_DATABASE_URL": "postgresql://u@h/metrics", **given})


def test_the_watched_services_are_a_setting() -> None:
    assert load().watched_services == "booking_service"
    given = load(METRICS_WATCHED_SERVICES=" booking_service, reviews,reviews")
    assert given.watched_services == "booking_service,reviews"


@pytest.mark.parametrize("value", ["", " ", "a,,b", "a,", "x" * 129])
def test_watched_services_without_a_name_are_refused(value: str) -> None:
    with pytest.raises(SettingsError, match="METRICS_WATCHED_SERVICES"):
        load(METRICS_WATCHED_SERVICES=value)


def test_where_only_history_is_taken_nobody_is_missed() -> None:
    assert load().watched == {"booking_service"}
    assert load(METRICS_BACKFILL_ONLY="true").watched == frozenset()
