"""A registry of instances whose clocks and log the test sets, and the signals that it receives."""

from __future__ import annotations

from dataclasses import dataclass, field

from metrics_service.client.health import Criteria
from metrics_service.health.registry import MAX_TICK_INTERVAL_S, HealthRegistry
from protos.metrics.v1.health_pb2 import DatabaseHealth, LogHealth
from protos.tracking.v1.tracking_pb2 import PoolGauges, Probe, Signals

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
    published: list[DatabaseHealth] = field(default_factory=list)
    due_ns: int = 0

    def __post_init__(self) -> None:
        self.registry = HealthRegistry(
            heartbeat_s=HEARTBEAT_S,
            log_health=lambda: self.log,
            criteria=Criteria(min_samples=20),
            watched=frozenset({"booking_service"}),
            now_us=self.now_us,
            monotonic_ns=self.monotonic_ns,
        )
        self.registry.on_change(self.published.append)
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

    def pause_s(self, seconds: int) -> None:
        """The process is paused for a time: it neither ticks nor receives a heartbeat."""
        self.now_ns += seconds * SECOND_NS

    def beat(
        self,
        signals: Signals,
        *,
        instance: str = "booking-1",
        service: str = "booking_service",
        seconds: float = 0.0,
        facts_seq: int = 0,
    ) -> DatabaseHealth:
        """Beat now, and then every second, with empty counts, for a time."""
        self.registry.on_heartbeat(instance, service, signals, facts_seq)
        quiet = Signals()
        quiet.CopyFrom(signals)
        quiet.ClearField("queries")
        quiet.ClearField("operations")
        for _ in range(round(seconds)):
            self.pass_s(1)
            self.registry.tick()
            self.registry.on_heartbeat(instance, service, quiet, facts_seq)
        return self.registry.verdict()

    @property
    def status(self) -> DatabaseHealth.Status.ValueType:
        return self.registry.verdict().status


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
