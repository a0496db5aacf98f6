"""The HTTP side as a whole: its socket, its application, and what its streams are fed from."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from typing import Final

from metrics_service.alerts.service import Alerts
from metrics_service.config import MetricsSettings
from metrics_service.engine import Engine
from metrics_service.eventlog.event_log import EventLog
from metrics_service.health.paging import Page
from metrics_service.health.registry import HealthRegistry
from metrics_service.state.fold import State
from metrics_service.state.series.rings import Window
from metrics_service.storage.deployments import Deployments
from metrics_service.web.app import create_app
from metrics_service.web.calls import Calls
from metrics_service.web.live import Live
from metrics_service.web.scrape.observed import Observed
from metrics_service.web.scrape.process_now import Stream
from metrics_service.web.status import Status
from metrics_service.web.stream import Streams
from protos.metrics.v1.health_pb2 import DatabaseHealth, LogHealth
from protos.metrics.v1.metrics_pb2 import MetricsSnapshot
from servicekit.exposition.rpcs import RpcCounts
from servicekit.http.server import HttpServer
from servicekit.identity.gate import Gate
from servicekit.tls import server_tls
from servicekit.tracing.tracer import Tracer

PORT: Final = "METRICS_HTTP_PORT"


class Site:
    """Serves HTTP from `start` to `stop`. `state` and `snapshot` raise UnreadableError where there
    are no figures; `on_fault` is called where they cannot be answered. `servicers` are by the names
    of their services, of which `early` answer before this process serves.
    """

    def __init__(
        self,
        settings: MetricsSettings,
        gate: Gate,
        servicers: Mapping[str, object],
        *,
        early: Collection[str],
        starting: Callable[[], bool],
        event_log: EventLog,
        state: Callable[[], State],
        snapshot: Callable[[Window], Awaitable[MetricsSnapshot]],
        health: Callable[[Page], DatabaseHealth],
        alerts: Alerts,
        on_fault: Callable[[], None],
        engine: Engine,
        registry: HealthRegistry,
        log_health: Callable[[], LogHealth],
        deployments: Deployments,
        rpcs: RpcCounts,
        tracer: Tracer,
        grpc_streams: Sequence[Stream],
    ) -> None:
        status = Status(
            event_log, state, settings.environment, backfill_only=settings.backfill_only
        )
        self.live = Live(snapshot, health, alerts, status, on_fault=on_fault)
        self._observed = Observed(
            settings,
            engine,
            event_log,
            registry,
            alerts,
            deployments,
            rpcs,
            tracer,
            starting=starting,
            log_health=log_health,
            streams={"grpc": grpc_streams, "sse": (self.live,)},
        )
        app = create_app(
            snapshot,
            health,
            on_fault=on_fault,
            gate=gate,
            calls=Calls(servicers, early=early, starting=starting, on_fault=on_fault),
            streams=Streams(
                self.live, stall_s=settings.stream_stall_s, max_age_s=settings.connection_age_s
            ),
            scrape=self._observed.scrape,
            hosts=settings.http_names,
        )
        self._http = HttpServer(
            app,
            host=settings.http_host,
            port=settings.http_port,
            setting=PORT,
            tls=server_tls(settings),
        )

    async def start(self) -> int:
        """Listen, and return the port. Raises StartError."""
        self.live.start()
        self._observed.start()
        return await self._http.start()

    async def stop(self) -> None:
        """End the streams, then all other requests within about a second."""
        await self.live.stop()
        await self._http.stop()
        await self._observed.stop()
