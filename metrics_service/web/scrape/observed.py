"""Puts together what metrics_service serves at /metrics, and keeps what that needs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

from metrics_service.alerts.service import Alerts
from metrics_service.config import MetricsSettings
from metrics_service.engine import Engine
from metrics_service.eventlog.event_log import EventLog
from metrics_service.eventlog.recovery import UnreadableError
from metrics_service.health.registry import HealthRegistry
from metrics_service.storage.deployments import Deployments
from metrics_service.web.scrape import figures, process_now
from metrics_service.web.scrape.deployments import NewestDeployments
from metrics_service.web.scrape.process_now import Stream
from protos.metrics.v1.health_pb2 import LogHealth
from servicekit.exposition import spans
from servicekit.exposition.declare import Family
from servicekit.exposition.exposition import Exposition, Part
from servicekit.exposition.process import LoopLag, Process
from servicekit.exposition.rpcs import RpcCounts
from servicekit.exposition.scrape import Scrape
from servicekit.tracing.tracer import Tracer


class Observed:
    """The metrics of a process; while it does not serve figures, those that a standby serves.

    streams: by transport, each with its readers. `scrape` is the endpoint.
    """

    def __init__(
        self,
        settings: MetricsSettings,
        engine: Engine,
        event_log: EventLog,
        health: HealthRegistry,
        alerts: Alerts,
        deployments: Deployments,
        rpcs: RpcCounts,
        tracer: Tracer,
        *,
        starting: Callable[[], bool],
        log_health: Callable[[], LogHealth],
        streams: Mapping[str, Sequence[Stream]],
    ) -> None:
        self._engine = engine
        self._lag = LoopLag()
        self._deployments = NewestDeployments(deployments)
        process = Process(settings.revision, self._lag)

        def active() -> bool:
            return not (starting() or event_log.superseded or event_log.standing_by)

        def log() -> Iterator[Family]:
            return process_now.log(log_health(), engine.saved.stored_us)

        self.scrape = Scrape(
            Exposition(
                [
                    Part("role", lambda: process_now.role(active=active())),
                    Part("process", process.families),
                    Part("rpcs", rpcs.families),
                    Part("spans", lambda: spans.families(tracer)),
                    Part("figures", self._figures, active, self._revision, self._suspect),
                    Part("verdict", lambda: process_now.verdict(health), active),
                    Part("producers", lambda: process_now.producers(health), active),
                    Part("log", log, active),
                    Part("alerts", lambda: process_now.alerts(alerts), active),
                    Part("readers", lambda: process_now.readers(streams), active),
                    Part("deployments", self._deployments.families, active),
                ]
            )
        )

    def start(self) -> None:
        """Begin to look at the event loop, and to read the deployments."""
        self._lag.start()
        self._deployments.start()

    async def stop(self) -> None:
        await self._lag.stop()
        await self._deployments.stop()

    def _figures(self) -> Iterator[Family]:
        return figures.families(self._engine.current_state())

    def _revision(self) -> object:
        state = self._engine.current_state()
        # A state that was repaired may have the revision of the broken one.
        return id(state), state.revision

    def _suspect(self, failure: Exception) -> None:
        if not isinstance(failure, UnreadableError):
            self._engine.suspect()
