"""What the tests of the servicers share: a running server over a state that the test sets."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field

import grpc
from google.protobuf.message import Message

from metrics_service.fanout import Fanout
from metrics_service.rpc import deployments, health, metrics, register
from metrics_service.rpc.session_requests import SessionQuestion
from metrics_service.state.series.past import Border
from metrics_service.state.tables import HourCells, Tables
from metrics_service.storage.deployments import Deployment
from metrics_service.storage.history_reader import StoredCell
from protos.metrics.v1 import health_pb2_grpc, journey_pb2, metrics_pb2, metrics_pb2_grpc
from protos.metrics.v1.health_pb2 import DatabaseHealth
from servicekit.server import GrpcServer
from servicekit.settings import ServerSettings


@dataclass
class Figures:
    """A state of a few figures: enough to see what is asked and what is sent."""

    revision: int = 1
    as_of_us: int = 1_800_000_000_000_000
    padding: int = 0
    asked: list[object] = field(default_factory=list)

    def make(self, _: int, __: int) -> Iterator[None]:
        yield from ()

    def hour(self, time_us: int) -> HourCells:
        return Tables().hour(time_us)

    @property
    def border(self) -> Border:
        return Border()

    def prepare(self) -> Iterator[None]:
        yield from ()

    def slots(self, table: str, step_us: int, low_us: int, high_us: int) -> dict[int, bytes]:
        self.asked.append((table, step_us, low_us, high_us))
        return {}

    def metrics(
        self, window_us: int | None = None, ended_us: int = 0
    ) -> metrics_pb2.MetricsSnapshot:
        self.asked.append(window_us)
        return self._whole()

    def _whole(self) -> metrics_pb2.MetricsSnapshot:
        snapshot = metrics_pb2.MetricsSnapshot(revision=self.revision)
        for name in ("funnel", "performance", "errors", "quality"):
            getattr(snapshot, name).SetInParent()
        snapshot.business.confirmed = self.revision
        if self.padding:
            snapshot.business.packages.add(package_id="x" * self.padding)
        return snapshot

    def section(self, name: str, window_us: int | None = None, ended_us: int = 0) -> Message:
        self.asked.append((name, window_us))
        section: Message = getattr(self._whole(), name)
        return section

    def stamp(
        self, answer: metrics_pb2.MetricsSnapshot, window_us: int | None, ended_us: int
    ) -> None:
        answer.revision = self.revision

    def funnel(
        self, window_us: int | None = None, ended_us: int = 0, request: object = None
    ) -> metrics_pb2.Funnel:
        self.asked.append((window_us, ended_us, request) if ended_us else window_us)
        return metrics_pb2.Funnel(revision=self.revision)

    def errors(self, window_us: int | None = None, ended_us: int = 0) -> metrics_pb2.ErrorMetrics:
        self.asked.append(window_us)
        return metrics_pb2.ErrorMetrics(revision=self.revision)

    def query_stats(
        self, request: metrics_pb2.GetQueryStatsRequest
    ) -> metrics_pb2.GetQueryStatsResponse:
        self.asked.append(request)
        return metrics_pb2.GetQueryStatsResponse(revision=self.revision)

    def recent_queries(
        self, request: metrics_pb2.ListRecentQueriesRequest
    ) -> metrics_pb2.ListRecentQueriesResponse:
        self.asked.append(request)
        return metrics_pb2.ListRecentQueriesResponse(revision=self.revision)

    def slow_queries(
        self, request: metrics_pb2.ListSlowQueriesRequest
    ) -> metrics_pb2.ListSlowQueriesResponse:
        self.asked.append(request)
        return metrics_pb2.ListSlowQueriesResponse(revision=self.revision)


class NoSessions:
    """Answers every question for sessions with nothing."""

    async def list(self, question: SessionQuestion) -> journey_pb2.ListSessionsResponse:
        return journey_pb2.ListSessionsResponse(total=question.page_size)

    async def journey(self, session_id: str, booking_id: str) -> journey_pb2.Journey:
        return journey_pb2.Journey()


class Kept:
    """Deployments: every id is that of one."""

    async def mark(self, version: str, time_us: int, marked_by: str) -> Deployment:
        return Deployment("0" * 32, version, time_us, marked_by)

    async def find(self, id_: str) -> Deployment | None:
        return Deployment(id_, "1", 0, "")

    async def critical_alerts(self, since_us: int) -> list[tuple[str, int]] | None:
        return []

    async def newest(self, limit: int) -> list[Deployment]:
        return [Deployment("0" * 32, "1", 0, "")] * limit


class NoHistory:
    """Has no hour and no day."""

    async def hours(self, table: str, low_us: int, high_us: int) -> list[StoredCell]:
        return []

    days = hours

    async def kept_since(self) -> int | None:
        return None


@dataclass
class Servicers:
    """A running server over a state and a verdict that the test sets."""

    figures: Figures
    health: DatabaseHealth
    snapshots: Fanout[metrics.Question]
    verdicts: Fanout[None]
    service: metrics.MetricsService
    port: int = 0

    @contextlib.asynccontextmanager
    async def channel(
        self, *options: tuple[str, int]
    ) -> AsyncIterator[
        tuple[metrics_pb2_grpc.MetricsServiceAsyncStub, health_pb2_grpc.HealthServiceAsyncStub]
    ]:
        """Stubs over a channel of their own."""
        async with self.connection(*options) as channel:
            yield (
                metrics_pb2_grpc.MetricsServiceStub(channel),
                health_pb2_grpc.HealthServiceStub(channel),
            )

    @contextlib.asynccontextmanager
    async def connection(self, *options: tuple[str, int]) -> AsyncIterator[grpc.aio.Channel]:
        """A channel of its own."""
        alone = [("grpc.use_local_subchannel_pool", 1), *options]
        async with grpc.aio.insecure_channel(f"127.0.0.1:{self.port}", options=alone) as channel:
            yield channel

    def change(self, revision: int) -> None:
        self.figures.revision = revision
        self.snapshots.notify()


@contextlib.asynccontextmanager
async def serve(
    *,
    stall_s: float = 30.0,
    repeat_s: float = 15.0,
    sessions: metrics.SessionAnswers | None = None,
) -> AsyncIterator[Servicers]:
    """MetricsService and HealthService; stall_s and repeat_s are theirs."""
    figures, verdict = Figures(), DatabaseHealth(status=DatabaseHealth.HEALTHY)
    snapshots = metrics.snapshots(lambda: figures, lambda: verdict)
    service = metrics.MetricsService(
        lambda: figures,
        sessions or NoSessions(),
        snapshots,
        NoHistory(),
        stall_s=stall_s,
        repeat_s=repeat_s,
    )
    running = Servicers(figures, verdict, snapshots, health.verdicts(lambda: verdict), service)
    settings = ServerSettings.load({"PORT": "0", "DRAIN_TIMEOUT_S": "1"})
    server = GrpcServer(settings, domain="metrics.farehold")
    register.add_metrics(service, server.grpc)
    register.add_health(
        health.HealthService(lambda _: verdict, running.verdicts, stall_s=stall_s), server.grpc
    )
    kept = deployments.DeploymentService(Kept(), lambda: figures, NoHistory())
    register.add_deployments(kept, server.grpc)
    running.port = await server.start([metrics.SERVICE, deployments.SERVICE, health.SERVICE])
    try:
        yield running
    finally:
        running.snapshots.close()
        running.verdicts.close()
        await server.drain()
