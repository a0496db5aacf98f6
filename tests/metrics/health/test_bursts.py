"""Five bad seconds of any kind turn the verdict once: in the process that has them, and in
metrics_service for each instance and for all together.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from booking_service.monitoring.health_reporter import DATABASE, HealthReporter
from booking_service.monitoring.probe import ProbeResult, ProbeState
from booking_service.monitoring.telemetry import SERVICES
from metrics_service.client.health import Criteria, HealthWindow, Status
from metrics_service.client.queries.record import Outcome, QueryDefinition, QueryRecord
from metrics_service.client.telemetry.emitter import Emitter
from metrics_service.health.registry import HealthRegistry
from protos.metrics.v1.health_pb2 import DatabaseHealth, LogHealth
from protos.tracking.v1.tracking_pb2 import Probe, Signals
from servicekit.health import Health
from tests.metrics.client.recording import Clock

DEFINITION = QueryDefinition(1, "bookings", "create", "")
BURST = range(10, 15)
# Every second at first, then every five until the burst has left the window.
WATCHED_S = (*range(95), *range(95, 360, 5))


@dataclass(frozen=True)
class Burst:
    """The bad seconds: `queries` a second with an outcome, and the result of the probe. All other
    seconds have `usual` good queries.
    """

    name: str
    queries: int = 20
    execute_ms: int = 5
    outcome: Outcome = Outcome.OK
    probe: ProbeState = ProbeState.REACHABLE
    usual: int = 20

    def second(self, now_s: int) -> tuple[list[QueryRecord], ProbeState]:
        """The queries that end in a second, and the result of the probe."""
        if now_s in BURST:
            return [self._record(self.execute_ms, self.outcome)] * self.queries, self.probe
        return [self._record(5, Outcome.OK)] * self.usual, ProbeState.REACHABLE

    @staticmethod
    def _record(execute_ms: int, outcome: Outcome) -> QueryRecord:
        took_us = execute_ms * 1000
        return QueryRecord(1, 0, 0, 0, 0, took_us, 1, 0, outcome, None, False, None)


DOWN = ProbeState.UNREACHABLE
BURSTS = (
    Burst("connections are lost", outcome=Outcome.CONNECTION_LOST),
    Burst("exactly ten time-outs", queries=2, outcome=Outcome.TIMEOUT),
    Burst("slow", execute_ms=700),
    Burst("critical", execute_ms=1500),
    Burst("beyond the p99", execute_ms=3000),
    # The floor of samples is reached later, and the p99 with it.
    Burst("few and slow", queries=5, execute_ms=3000, usual=3),
    Burst("few and slow, and then hardly any", queries=5, execute_ms=3000, usual=1),
    Burst("the probe fails", probe=DOWN),
    Burst("the schema is missing", probe=ProbeState.SCHEMA_MISSING),
    Burst("all at once", execute_ms=3000, outcome=Outcome.TIMEOUT, probe=DOWN),
)

each_burst = pytest.mark.parametrize("burst", BURSTS, ids=lambda burst: burst.name)


def turns(shown: list[int]) -> list[int]:
    """When what is shown, at each of WATCHED_S, changed."""
    return [
        second
        for second, (before, after) in zip(WATCHED_S[1:], itertools.pairwise(shown), strict=True)
        if before != after
    ]


def assert_one_turn(shown: list[int]) -> None:
    """One within a minute of the burst's begin, and never two within a minute after that."""
    turned_s = turns(shown)
    assert shown[BURST.start - 1] == Status.HEALTHY
    assert len([each for each in turned_s if each < BURST.start + 60]) == 1, turned_s
    assert all(later - earlier >= 60 for earlier, later in itertools.pairwise(turned_s)), turned_s


class Process:
    """booking_service's own health, on a clock that the test sets."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.serving = Health()
        self.window = HealthWindow(monotonic_ns=self.clock.monotonic_ns)
        self.own = HealthReporter(
            self.serving,
            self.window,
            Emitter("booking_service"),
            Criteria(),
            monotonic_ns=self.clock.monotonic_ns,
        )

    def probed(self, state: ProbeState = ProbeState.REACHABLE) -> bool:
        return self.own.on_probe(ProbeResult(state, 900, self.clock.monotonic_ns(), 0, ""))

    def pass_s(self, seconds: int, *, checking: bool = True) -> list[bool]:
        """Whether each check had news; a process that does not check is paused."""
        news = []
        for _ in range(seconds):
            self.clock.s += 1
            if checking:
                news.append(self.own.check_age())
        return news


@each_burst
def test_a_burst_turns_the_process_s_own_verdict_once(burst: Burst) -> None:
    process = Process()
    shown = []
    for second in WATCHED_S:
        process.clock.s = 1000.0 + second
        records, state = burst.second(second)
        for record in records:
            process.window.record_query(record, DEFINITION)
        process.probed(state)
        process.own.check_age()
        shown.append(process.own.status)
        good = process.own.status in (Status.HEALTHY, Status.DEGRADED)
        assert process.serving.get(DATABASE) is good
    assert_one_turn([int(status) for status in shown])


class Fleet:
    """metrics_service's view of several processes, on a clock that the test sets."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.registry = HealthRegistry(
            heartbeat_s=5.0,
            log_health=lambda: LogHealth(writable=True),
            criteria=Criteria(),
            watched=frozenset({"booking_service"}),
            now_us=self.clock.now_us,
            monotonic_ns=self.clock.monotonic_ns,
        )

    def watch(self, has: dict[str, Burst]) -> dict[str, list[int]]:
        """What is shown of each process, and under no name of all together, at WATCHED_S."""
        shown: dict[str, list[int]] = {name: [] for name in (*has, "")}
        for second in WATCHED_S:
            self.clock.s = 1000.0 + second
            for name, burst in has.items():
                signals = heartbeat(burst.second(second))
                self.registry.on_heartbeat(name, "booking_service", signals)
            for name, status in statuses(self.registry.verdict()):
                shown[name].append(status)
        return shown


@each_burst
def test_a_burst_turns_each_instance_that_has_it_and_all_together_once(burst: Burst) -> None:
    quiet = Burst("nothing", usual=burst.usual)
    shown = Fleet().watch({"one": burst, "two": burst, "spared": quiet})
    for name in ("one", "two", ""):
        assert_one_turn(shown[name])
    assert turns(shown["spared"]) == []


@pytest.mark.parametrize(
    ("one", "two"),
    [("slow", "few and slow"), ("beyond the p99", "slow"), ("the probe fails", "slow")],
)
def test_a_burst_that_hits_instances_to_different_degrees_turns_all_together_once(
    one: str, two: str
) -> None:
    named = {burst.name: burst for burst in BURSTS}
    shown = Fleet().watch({"one": named[one], "two": named[two]})
    for name in ("one", "two", ""):
        assert_one_turn(shown[name])


def heartbeat(happened: tuple[list[QueryRecord], ProbeState]) -> Signals:
    records, state = happened
    window = HealthWindow()
    for record in records:
        window.record_query(record, DEFINITION)
    queries, operations = window.beat()
    probe = Probe(result=Probe.Result.ValueType(state))
    return Signals(probe=probe, queries=queries, operations=operations)


def statuses(health: DatabaseHealth) -> Iterator[tuple[str, int]]:
    """Of each instance by name, and under no name of all together."""
    yield "", health.status
    for instance in health.instances:
        yield instance.instance, instance.status


def test_a_probe_that_hangs_turns_verdict_and_services_after_five_seconds() -> None:
    process = Process()
    process.probed()
    process.own.check_age()
    assert process.pass_s(5) == [False] * 5
    assert process.pass_s(2) == [True, False]
    assert process.own.status is Status.UNHEALTHY
    assert not process.serving.get(DATABASE)
    assert not any(process.serving.get(service.full_name) for service in SERVICES)
    process.probed()
    assert all(process.serving.get(service.full_name) for service in SERVICES)
    assert not process.serving.get(DATABASE), "good for a moment is not good"


def test_a_paused_process_does_not_blame_its_probe() -> None:
    process = Process()
    process.probed()
    process.own.check_age()
    process.pass_s(3600, checking=False)
    assert process.own.check_age() is False
    assert process.serving.get(DATABASE)
    # From here on it runs, and nothing comes.
    assert True in process.pass_s(6)
    assert not process.serving.get(DATABASE)


def test_a_pause_that_a_probe_ended_excuses_no_later_one() -> None:
    process = Process()
    process.probed()
    process.own.check_age()
    process.pass_s(3600, checking=False)
    process.probed()
    assert True in process.pass_s(6)
    assert not process.serving.get(DATABASE)
