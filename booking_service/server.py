"""The composition root: the parts of the process, in the order in which they start and stop.

Parts stop in reverse order, so that a running RPC keeps everything it needs. Once the process
serves, it survives the loss of PostgreSQL and of metrics_service.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import AsyncExitStack
from datetime import timedelta
from typing import Any, Final

import structlog

from booking_service.config import BookingSettings
from booking_service.delivery.relay import OutboxRelay
from booking_service.domain.holds import Limits
from booking_service.errors import DOMAIN
from booking_service.group_commit.bus import CommandBus
from booking_service.group_commit.rooms import Bounds, Rooms
from booking_service.group_commit.sweeper import Sweeper
from booking_service.monitoring.health_reporter import HealthReporter
from booking_service.monitoring.metrics import create_exposition
from booking_service.monitoring.probe import DatabaseProbe, ProbeResult
from booking_service.monitoring.query_spans import QuerySpans
from booking_service.monitoring.startup import (
    open_database,
    report_faults,
    require_database,
    require_timing,
    settle_clock,
)
from booking_service.monitoring.telemetry import SERVICES, Telemetry
from booking_service.rpc.register import LARGE_MESSAGES, add_servicers
from booking_service.storage import access_events
from booking_service.storage.clock import Clock
from booking_service.storage.database import Database
from metrics_service.client import Tracker, default_tracker
from metrics_service.client.host import (
    Criteria,
    Emitter,
    HealthWindow,
    QueryInspector,
    StreamClient,
    count_queries,
    set_default_tracker,
)
from servicekit.exposition.app import create_app
from servicekit.exposition.process import LoopLag, Process
from servicekit.http.server import HttpServer
from servicekit.identity import access
from servicekit.server import GrpcServer
from servicekit.tls import server_tls
from servicekit.tracing import create

SERVICE: Final = "booking_service"

FLUSH_TIMEOUT_S: Final = 0.35
"""How long the last telemetry may take to be sent at the end."""

PART_TIMEOUT_S: Final = 0.4
"""How long each part may take to stop, once no RPC is left."""

ACCESS: Final = access.read(__file__)

log = structlog.get_logger(__name__)


class BookingServer:
    """One booking_service in this process. To be made inside the running event loop.

    `clock` is that of the database, unless a test sets another.
    """

    def __init__(self, settings: BookingSettings, *, clock: Clock | None = None) -> None:
        self._settings = settings
        self._stack, self._loop_lag = AsyncExitStack(), LoopLag()
        self.emitter = Emitter(SERVICE)
        criteria = _criteria(settings)
        window = HealthWindow(criteria)
        self.database = Database(
            settings.database_url,
            pool_size=settings.database_pool_size,
            tracker=Tracker([self.emitter, window, QuerySpans(settings.database_url)]),
            clock=clock,
        )
        self.tracer = create.tracer(settings, service=SERVICE, instance=self.emitter.instance)
        self.inspector = QueryInspector(
            self.database.tracker,
            lambda asked: self.database.connect("inspector", settings=asked),
            self.emitter,
            # Nothing is captured without metrics_service to send it to.
            running=settings.capture_running_queries and bool(settings.metrics_target),
            plans=settings.capture_plans and bool(settings.metrics_target),
            after_us=settings.capture_after_ms * 1000,
        )
        self.telemetry = Telemetry(self.emitter)
        self.grpc = GrpcServer(
            settings,
            domain=DOMAIN,
            on_rpc=self.telemetry.on_rpc,
            count_queries=count_queries,
            large_messages=LARGE_MESSAGES,
            access=ACCESS,
            tracer=self.tracer,
        )
        self.health = HealthReporter(self.grpc.health, window, self.emitter, criteria)
        self.health.lane_trouble = lambda: self.relay.trouble or self.relay.shortage
        self.probe = DatabaseProbe(self.database, on_result=self._probed)
        self.stream = StreamClient(
            settings.metrics_target,
            service=SERVICE,
            instance=self.emitter.instance,
            signals=lambda: self.health.signals(self.database, self.relay, self.inspector),
            files=settings.metrics_files,
        )
        self.relay: OutboxRelay = self._new_relay()
        self.bus = CommandBus(
            self.database,
            limits=Limits(settings.holds_per_user_max, settings.one_hold_per_user_and_package),
            max_group=settings.group_size_max,
            max_queued=settings.queue_max,
            max_wait_s=settings.queue_wait_max_ms / 1000,
            package_workers=max(1, settings.database_pool_size // 4),
            on_commit=self.relay.notify,
            rooms=Rooms(_bounds(settings)),
        )
        self.health.budget_lines = lambda: self.bus.rooms.lines
        self.sweeper = Sweeper(
            self.database, self.bus, self.bus.rooms, interval_s=settings.sweep_interval_s
        )
        self.access = access_events.trail(self.database, self.emitter.instance, self.grpc.gate)
        add_servicers(self.grpc.grpc, self.bus, self.database, self.telemetry)
        self.http = self._new_http()

    async def start(self) -> int:
        """Check the database and serve; returns the port.

        Raises StartError, after every part that was started has stopped.
        """
        async with AsyncExitStack() as stack:
            self.tracer.start()
            stack.push_async_callback(self.tracer.stop)
            await require_database(self.database)
            if self._settings.development:
                await require_timing(self.database)
            await open_database(self.database)
            # Cut off what still waits for a database that does not answer.
            stack.callback(self.database.pool.terminate)
            _at_end(stack, self.database.close)
            await settle_clock(self.database)
            stack.callback(set_default_tracker, default_tracker())
            set_default_tracker(self.database.tracker)
            if self._settings.metrics_target:
                self.stream.add_lane(self.emitter)
                await self.stream.start()
                _at_end(stack, self._stop_stream)
                self.relay.start()
                _at_end(stack, self.relay.stop)
                self.inspector.start()
                _at_end(stack, self.inspector.stop)
            self.bus.start()
            _at_end(stack, self.bus.stop)
            self.sweeper.start()
            _at_end(stack, self.sweeper.stop)
            self.access.start()
            _at_end(stack, self.access.stop)
            # Once before serving, so that the first health check has a result.
            await self.probe.check()
            self.probe.start()
            _at_end(stack, self.probe.stop)
            self.health.start(on_news=self.stream.beat)
            _at_end(stack, self.health.stop)
            where: dict[str, str | int] = {"host": self._settings.host}
            if self.http is not None:
                self._loop_lag.start()
                _at_end(stack, self._loop_lag.stop)
                self.http_port = where["http_port"] = await self.http.start()
                stack.push_async_callback(self.http.stop)
            port = await self.grpc.start([service.full_name for service in SERVICES])
            stack.push_async_callback(self.grpc.drain)
            self._stack = stack.pop_all()
        callers = self.grpc.gate.mode.by
        log.info("service_started", **where, port=port, callers=callers)
        return port

    async def stop(self) -> None:
        """Refuse new RPCs, let running ones end, and stop every part; bounded."""
        log.info("service_draining")
        await self._stack.aclose()
        log.info("service_stopped")

    def _new_http(self) -> HttpServer | None:
        settings = self._settings
        if settings.http_port is None:
            return None
        process = Process(settings.revision, self._loop_lag)
        counts = self.grpc.counts
        exposition = create_exposition(self.bus, self.relay, counts, process, self.tracer)
        hosts = settings.http_names
        app = create_app(exposition, gate=self.grpc.gate, hosts=hosts, setting="BOOKING_HTTP_HOSTS")
        return HttpServer(
            app,
            host=settings.http_host,
            port=settings.http_port,
            setting="BOOKING_HTTP_PORT",
            tls=server_tls(settings),
        )

    def _new_relay(self) -> OutboxRelay:
        return OutboxRelay(
            self.database,
            self.stream,
            retention=timedelta(hours=self._settings.segment_retention_h),
            max_bytes=round(self._settings.delivery_max_mb * 10**6),
        )

    def _probed(self, result: ProbeResult) -> None:
        if self.health.on_probe(result):
            self.stream.beat()

    async def _stop_stream(self) -> None:
        await self.stream.stop(FLUSH_TIMEOUT_S)


def _bounds(settings: BookingSettings) -> Bounds:
    return Bounds(
        vendors=settings.vendors_max,
        packages=settings.packages_max,
        early_bytes=round(settings.early_payments_max_mb * 10**6),
        answers_bytes=round(settings.answers_max_mb * 10**6),
    )


async def serve(settings: BookingSettings, stop: asyncio.Event) -> None:
    """Serve until `stop` is set. Raises StartError."""
    report_faults(settings.sentry_dsn)
    server = BookingServer(settings)
    starting = asyncio.create_task(server.start(), name="start")
    stopping = asyncio.create_task(stop.wait(), name="stop")
    try:
        await asyncio.wait({starting, stopping}, return_when=asyncio.FIRST_COMPLETED)
        if starting.done():
            starting.result()
            await stopping
            await server.stop()
    finally:
        for task in (starting, stopping):
            task.cancel()
        await asyncio.gather(starting, stopping, return_exceptions=True)


def _criteria(settings: BookingSettings) -> Criteria:
    return Criteria(
        min_samples=settings.health_samples_min,
        worse_after_s=settings.health_down_after_s,
        better_after_s=settings.health_up_after_s,
        gap_s=settings.health_gap_s,
    )


def _at_end(stack: AsyncExitStack, stop: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Stop a part when the stack ends, in bounded time, even if other parts fail to stop."""

    async def bounded() -> None:
        # Not cancelled: a part that is being cancelled may wait for the database too.
        task = asyncio.create_task(stop())
        await asyncio.wait({task}, timeout=PART_TIMEOUT_S)
        if not task.done():
            log.warning("part_stop_timed_out", part=stop.__qualname__)
        elif error := task.exception():
            log.warning("part_stop_failed", part=stop.__qualname__, error=type(error).__name__)

    stack.push_async_callback(bounded)
