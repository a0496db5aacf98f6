"""The composition root: the parts of the process, in the order in which they start and stop.

Once it serves, losing its database does not end it: answers then come from memory, and health
reports the loss.
"""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Mapping
from typing import Any, Final

import structlog
from grpc import StatusCode

from metrics_service.alerts.faults import Faults
from metrics_service.alerts.service import Alerts
from metrics_service.client.host import Criteria, instance_name
from metrics_service.config import MetricsSettings
from metrics_service.engine import Engine
from metrics_service.eventlog.create import create_log
from metrics_service.eventlog.recovery import UnreadableError
from metrics_service.health.paging import FIRST, Page
from metrics_service.health.registry import HealthRegistry
from metrics_service.ingest.streams import Ingest
from metrics_service.rpc import health as health_rpc
from metrics_service.rpc.metrics import SERVICE as METRICS
from metrics_service.rpc.metrics import make_sums, readable, snapshots
from metrics_service.rpc.register import EARLY, LARGE_MESSAGES, SERVICES, add_servicers
from metrics_service.state.fold import State
from metrics_service.state.series.rings import Window
from metrics_service.storage import access_events
from metrics_service.storage.deployments import Deployments
from metrics_service.storage.errors import (
    CheckpointConflictError,
    LogNotReadyError,
    LogUnavailableError,
)
from metrics_service.web.site import PORT as HTTP_PORT
from metrics_service.web.site import Site
from protos.metrics.v1.health_pb2 import DatabaseHealth, LogHealth
from protos.metrics.v1.metrics_pb2 import MetricsSnapshot
from servicekit.background import BackgroundTask
from servicekit.http.server import listen
from servicekit.identity import access
from servicekit.rpc_end import RpcEnd
from servicekit.server import GrpcServer
from servicekit.start import StartError, in_terminal
from servicekit.tracing import create

SERVICE: Final = "metrics_service"
DOMAIN: Final = "metrics.farehold"
DATABASE: Final = "database"
"""The service of grpc.health.v1 whose status is the verdict."""

TICK_S: Final = 0.5
LEAD_CHECK_S: Final = 0.1
DRAIN_PRODUCERS_S: Final = 1.0
STOP_S: Final = 4.5

ACCESS: Final = access.read(__file__)

log = structlog.get_logger()


class MetricsServer:
    """One metrics_service in this process. Create it inside the running event loop."""

    def __init__(self, settings: MetricsSettings) -> None:
        self._settings = settings
        self.event_log = create_log(settings)
        self.engine = Engine(self.event_log, checkpoint_interval_s=settings.checkpoint_interval_s)
        self.health = self._new_health()
        self.ingest = Ingest(
            self.event_log,
            self.engine,
            self.health,
            heartbeat_s=settings.heartbeat_s,
            allow_backfill=settings.allow_backfill or settings.backfill_only,
            allow_live=not settings.backfill_only,
            # Producers have left before the connection is replaced.
            max_stream_s=settings.connection_age_s * 0.8,
        )
        state = readable(self.engine.current_state)
        self.snapshots = snapshots(state, self.verdict)
        self.verdicts = health_rpc.verdicts(self.verdict)
        self.faults = Faults(settings.sentry_dsn)
        self.alerts = Alerts(settings, self.event_log, self.engine, self.verdict)
        self.tracer = create.tracer(settings, service=SERVICE, instance=instance_name())
        self.grpc = GrpcServer(
            settings,
            domain=DOMAIN,
            on_rpc=self._on_rpc,
            large_messages=LARGE_MESSAGES,
            early=EARLY,
            access=ACCESS,
            tracer=self.tracer,
        )
        self._access = access_events.trail(settings.database_url, self.grpc.gate)
        self._ticker = BackgroundTask("health ticker")
        self._ports: tuple[int, int] | None = None
        self._starting, self._begun, self._stopped = True, False, False
        deployments = Deployments(settings.database_url)
        servicers = add_servicers(
            self.grpc.grpc,
            self.ingest,
            state,
            self.event_log,
            self.snapshots,
            self.verdict,
            self.verdicts,
            deployments,
            self.alerts,
            stall_s=settings.stream_stall_s,
            repeat_s=settings.stream_repeat_s,
        )
        self._site = self._new_site(servicers, deployments)
        self.engine.on_change(self.snapshots.notify)
        self.health.on_change(self._on_verdict)

    async def start(self) -> tuple[int, int]:
        """Restore the state and serve; returns the ports of gRPC and HTTP. Raises StartError.

        Waits for as long as another process writes the log.
        """
        port, http_port = await self.listen()
        try:
            await self.event_log.start()
            self._begun = True
            self._access.start()
            where = {"host": self._settings.host, "port": port, "http_port": http_port}
            log.info("service_listening", **where)
            await self.engine.start()
        except (LogNotReadyError, LogUnavailableError, CheckpointConflictError) as error:
            raise StartError(str(error)) from None
        self._starting = False
        self.health.tick()
        self._ticker.start(self._tick())
        self.alerts.start()
        self.grpc.serve(SERVICES)
        self.verdicts.notify()
        log.info("service_started", **where, callers=self.grpc.gate.mode.by)
        return port, http_port

    async def listen(self) -> tuple[int, int]:
        """Answer health, and the rest with STARTING; returns both ports. Raises StartError."""
        if self._ports is None:
            settings = self._settings
            # A taken port is reported before either listens.
            listen(settings.host, settings.port, setting="METRICS_PORT").close()
            listen(settings.http_host, settings.http_port, setting=HTTP_PORT).close()
            self.grpc.health.set(DATABASE, False)
            port = await self.grpc.listen(SERVICES)
            self.tracer.start()
            self._ports = port, await self._site.start()
        return self._ports

    def verdict(self, page: Page = FIRST) -> DatabaseHealth:
        """Return the verdict now with a page of the instances, or how far the start is."""
        if not self._starting:
            return self.health.verdict(page)
        standby = self._begun and not self.event_log.leading
        engine = self.engine
        return health_rpc.progress(self.event_log, engine.position, engine.folded, standby=standby)

    async def stop(self) -> None:
        """Drain the producers, end RPCs and streams, write a checkpoint and close; bounded."""
        if self._stopped:
            return
        self._stopped = True
        if self._begun:
            log.info("service_draining")
        try:
            async with asyncio.timeout(STOP_S):
                self.grpc.health.drain()
                self.snapshots.close()
                self.verdicts.close()
                self.alerts.feed.close()
                await self._site.live.stop()
                await self.ingest.drain(DRAIN_PRODUCERS_S)
                await asyncio.gather(self.grpc.drain(), self._site.stop(), self._close_log())
                await asyncio.to_thread(self.faults.close, 0.5)
        except TimeoutError:
            log.warning("service_stop_cut_short", within_s=STOP_S)
        await self._ticker.stop()
        await self._access.stop()
        await self.tracer.stop()
        if self._begun:
            log.info("service_stopped")

    async def _close_log(self) -> None:
        await asyncio.gather(self.alerts.stop(), self.engine.stop())
        await self.event_log.stop()

    def _new_site(self, servicers: Mapping[str, object], deployments: Deployments) -> Site:
        return Site(
            self._settings,
            self.grpc.gate,
            servicers,
            early=EARLY,
            starting=lambda: self._starting,
            event_log=self.event_log,
            state=self._state,
            snapshot=self._snapshot,
            health=self.verdict,
            alerts=self.alerts,
            on_fault=self.engine.suspect,
            engine=self.engine,
            registry=self.health,
            log_health=self._log_health,
            deployments=deployments,
            rpcs=self.grpc.counts,
            tracer=self.tracer,
            grpc_streams=(self.snapshots, self.verdicts, self.alerts.feed),
        )

    def _new_health(self) -> HealthRegistry:
        settings = self._settings
        return HealthRegistry(
            heartbeat_s=settings.heartbeat_s,
            log_health=self._log_health,
            log_budgets=lambda: self.event_log.over_budget,
            criteria=Criteria(
                min_samples=settings.health_samples_min,
                worse_after_s=settings.health_down_after_s,
                better_after_s=settings.health_up_after_s,
                gap_s=settings.health_gap_s,
            ),
            watched=settings.watched,
        )

    def _on_rpc(self, end: RpcEnd) -> None:
        if end.code is StatusCode.INTERNAL and end.call.method.startswith(f"{METRICS}/"):
            self.engine.suspect()

    def _state(self) -> State:
        if self._starting:
            raise UnreadableError("the figures are read back")
        return self.engine.current_state()

    async def _snapshot(self, window: Window) -> MetricsSnapshot:
        await make_sums(self._state(), window)
        return self._state().metrics(*window)

    def _on_verdict(self, verdict: DatabaseHealth) -> None:
        serving = verdict.status in (DatabaseHealth.HEALTHY, DatabaseHealth.DEGRADED)
        self.grpc.health.set(DATABASE, serving)
        self.alerts.judge_soon()
        self.verdicts.notify()
        self._site.live.health_changed()
        self.snapshots.notify()

    def _log_health(self) -> LogHealth:
        return health_rpc.log_health(self.event_log, self.engine.position)

    async def _tick(self) -> None:
        """Judge health about every TICK_S, and at once when the lead of the log is lost
        or taken.
        """
        while True:
            until_s = time.monotonic() + TICK_S
            leading = self.event_log.leading
            while time.monotonic() < until_s and self.event_log.leading is leading:  # noqa: ASYNC110
                await asyncio.sleep(LEAD_CHECK_S)
            try:
                self.health.tick()
            except Exception:
                log.exception("tick_failed")


async def serve(settings: MetricsSettings, stop: asyncio.Event) -> None:
    """Serve until `stop` is set. Raises StartError when it cannot start or the fold fails."""
    server = MetricsServer(settings)
    server.faults.report()
    if not in_terminal():
        asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, server.alerts.reload)
    stopping = asyncio.create_task(stop.wait(), name="stop")
    starting = asyncio.create_task(server.start(), name="start")
    try:
        await _first(starting, stopping)
        if starting.done():
            starting.result()
            await _first(stopping, server.engine.failure)
        if server.engine.failure.done():
            raise StartError(f"the fold has failed: {server.engine.failure.exception()}")
    finally:
        for task in (starting, stopping):
            task.cancel()
        await asyncio.gather(starting, stopping, return_exceptions=True)
        await server.stop()


async def _first(*futures: asyncio.Future[Any]) -> None:
    await asyncio.wait(futures, return_when=asyncio.FIRST_COMPLETED)
