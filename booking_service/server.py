"""The composition root: what the process is made of, in the order in which it starts and ends.

What starts later is ended earlier, so that nothing is taken away from an RPC that still runs. Once
it serves, neither PostgreSQL nor metrics_service going away ends the process.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import AsyncExitStack
from datetime import timedelta
from typing import Any, Final

import sentry_sdk
import structlog
from sentry_sdk.integrations.logging import LoggingIntegration

from booking_service.config import BookingSettings
from booking_service.delivery.relay import OutboxRelay
from booking_service.domain.holds import Limits
from booking_service.errors import DOMAIN
from booking_service.group_commit.bus import CommandBus
from booking_service.group_commit.sweeper import Sweeper
from booking_service.monitoring.health_reporter import HealthReporter
from booking_service.monitoring.probe import DatabaseProbe, ProbeResult, address, require_database
from booking_service.monitoring.telemetry import SERVICES, Telemetry
from booking_service.reads.bookings import BookingQueries
from booking_service.reads.packages import PackageQueries
from booking_service.reads.payments import PaymentQueries
from booking_service.reads.profiles import ProfileQueries
from booking_service.reads.reports import ReportQueries
from booking_service.reads.reviews import ReviewQueries
from booking_service.rpc.booking import BookingService
from booking_service.rpc.catalog import CatalogService
from booking_service.rpc.command_gateway import CommandGateway
from booking_service.rpc.payment import PaymentService
from booking_service.rpc.profile import ProfileService
from booking_service.rpc.review import ReviewService
from booking_service.storage.clock import Clock
from booking_service.storage.database import Database
from booking_service.storage.driver_errors import (
    DatabaseError,
    DatabaseUnavailable,
    translate_driver_errors,
)
from metrics_service.client import Tracker, check_coverage, default_tracker
from metrics_service.client.host import (
    Criteria,
    Emitter,
    HealthWindow,
    QueryInspector,
    StreamClient,
    count_queries,
    set_default_tracker,
)
from protos.booking.v1 import (
    booking_pb2_grpc,
    catalog_pb2_grpc,
    payment_pb2_grpc,
    profile_pb2_grpc,
    review_pb2_grpc,
)
from servicekit import faults
from servicekit.server import GrpcServer
from servicekit.start import StartError

SERVICE: Final = "booking_service"

FLUSH_TIMEOUT_S: Final = 0.35
"""How long the last telemetry may take to leave at the end."""

PART_TIMEOUT_S: Final = 0.4
"""How long each part may take to end, once no RPC is left."""

COVERAGE_S: Final = 10.0
"""How long it may take at a start in development to find out whether all queries are timed."""

log = structlog.get_logger(__name__)


class BookingServer:
    """One booking_service in this process. `clock` is the database's own unless a test sets it."""

    def __init__(self, settings: BookingSettings, *, clock: Clock | None = None) -> None:
        self._settings = settings
        self._stack = AsyncExitStack()
        self.emitter = Emitter(SERVICE)
        criteria = Criteria(
            min_samples=settings.health_samples_min,
            worse_after_s=settings.health_down_after_s,
            better_after_s=settings.health_up_after_s,
            gap_s=settings.health_gap_s,
        )
        window = HealthWindow(criteria)
        self.database = Database(
            settings.database_url,
            pool_size=settings.database_pool_size,
            tracker=Tracker([self.emitter, window]),
            clock=clock,
        )
        self.inspector = QueryInspector(
            self.database.tracker,
            lambda asked: self.database.connect("inspector", settings=asked),
            self.emitter,
            # Without metrics_service there is nobody to tell.
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
        )
        self.health = HealthReporter(self.grpc.health, window, self.emitter, criteria)
        self.probe = DatabaseProbe(self.database, on_result=self._probed)
        self.stream = StreamClient(
            settings.metrics_target,
            service=SERVICE,
            instance=self.emitter.instance,
            signals=lambda: self.health.signals(self.database, self.relay, self.inspector),
        )
        self.relay: OutboxRelay = OutboxRelay(
            self.database,
            self.stream,
            retention=timedelta(hours=settings.segment_retention_h),
        )
        self.bus = CommandBus(
            self.database,
            limits=Limits(settings.holds_per_user_max, settings.one_hold_per_user_and_package),
            max_group=settings.group_size_max,
            max_queued=settings.queue_max,
            max_wait_s=settings.queue_wait_max_ms / 1000,
            package_workers=max(1, settings.database_pool_size // 4),
            on_commit=self.relay.notify,
        )
        self.sweeper = Sweeper(self.database, self.bus, interval_s=settings.sweep_interval_s)

    async def start(self) -> int:
        """Starts everything and returns the port. Raises StartError, and then nothing is left."""
        async with AsyncExitStack() as stack:
            await require_database(self.database)
            if self._settings.development:
                await require_timing(self.database)
            try:
                await self.database.open()
            except DatabaseUnavailable as error:
                where = address(self.database.dsn)
                raise StartError(
                    f"the booking database at {where} cannot be used: {error}"
                ) from None
            # Whatever still waits for a database that does not answer is cut off.
            stack.callback(self.database.pool.terminate)
            _at_end(stack, self.database.close)
            stack.callback(set_default_tracker, default_tracker())
            set_default_tracker(self.database.tracker)
            if self._settings.metrics_target:
                self.stream.add_lane(self.emitter)
                await self.stream.start()
                _at_end(stack, self._say_goodbye)
                self.relay.start()
                _at_end(stack, self.relay.stop)
                self.inspector.start()
                _at_end(stack, self.inspector.stop)
            self.bus.start()
            _at_end(stack, self.bus.stop)
            self.sweeper.start()
            _at_end(stack, self.sweeper.stop)
            # Once before serving, so that health knows.
            await self.probe.check()
            self.probe.start()
            _at_end(stack, self.probe.stop)
            self.health.start(on_news=self.stream.beat)
            _at_end(stack, self.health.stop)
            self._register()
            port = await self.grpc.start([service.full_name for service in SERVICES])
            stack.push_async_callback(self.grpc.drain)
            self._stack = stack.pop_all()
        log.info("booking_service serves", host=self._settings.host, port=port)
        return port

    async def stop(self) -> None:
        """Says so, takes no new RPC, ends those in flight, and then everything else."""
        log.info("booking_service drains")
        await self._stack.aclose()
        log.info("booking_service ended")

    def _probed(self, result: ProbeResult) -> None:
        if self.health.on_probe(result):
            self.stream.beat()

    async def _say_goodbye(self) -> None:
        await self.stream.stop(FLUSH_TIMEOUT_S)

    def _register(self) -> None:
        gateway, server = CommandGateway(self.bus), self.grpc.grpc
        packages = PackageQueries(self.database)
        catalog = CatalogService(gateway, packages, self.telemetry)
        catalog_pb2_grpc.add_CatalogServiceServicer_to_server(catalog, server)
        booking = BookingService(
            gateway, BookingQueries(self.database), packages, ReportQueries(self.database)
        )
        booking_pb2_grpc.add_BookingServiceServicer_to_server(booking, server)
        payment = PaymentService(gateway, PaymentQueries(self.database))
        payment_pb2_grpc.add_PaymentServiceServicer_to_server(payment, server)
        review = ReviewService(gateway, ReviewQueries(self.database))
        review_pb2_grpc.add_ReviewServiceServicer_to_server(review, server)
        profile = ProfileService(gateway, ProfileQueries(self.database))
        profile_pb2_grpc.add_ProfileServiceServicer_to_server(profile, server)


async def serve(settings: BookingSettings, stop: asyncio.Event) -> None:
    """Serves until `stop` is set. Raises StartError."""
    report_faults(settings.sentry_dsn)
    server = BookingServer(settings)
    await server.start()
    await stop.wait()
    await server.stop()


async def require_timing(database: Database) -> None:
    """Refuse to start when some kind of query is not timed as it must be: one line each in the log.
    Raises StartError, also where that is not known within COVERAGE_S.
    """
    try:
        async with asyncio.timeout(COVERAGE_S):
            with translate_driver_errors():
                wrong = await check_coverage(database.dsn)
    except TimeoutError:
        raise StartError(
            f"the timing of queries could not be checked within {COVERAGE_S:g} s:"
            " is the database locked or overloaded?"
        ) from None
    except (DatabaseUnavailable, DatabaseError) as error:
        raise StartError(f"the timing of queries cannot be checked: {error}") from None
    for line in wrong:
        log.error("a query is not timed as it must be", check=line)
    if wrong:
        raise StartError(
            f"{len(wrong)} kinds of queries are not timed as they must be (see the log):"
            " is this version of asyncpg supported?"
        )


def report_faults(sentry_dsn: str) -> None:
    """Sends unforeseen errors to Sentry: what the interceptor captures. Personal data is off unless
    asked for, and the words of the database driver are left out.
    """
    if not sentry_dsn:
        return
    sentry_sdk.init(
        sentry_dsn,
        # Its asyncpg integration would put SQL into spans.
        auto_enabling_integrations=False,
        # A log line is no fault of its own.
        integrations=[LoggingIntegration(event_level=None)],
        include_local_variables=False,
        max_breadcrumbs=0,
        auto_session_tracking=False,
        before_send=faults.before_send,
    )


def _at_end(stack: AsyncExitStack, stop: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Stops a part when the stack ends, in bounded time and whatever became of the others."""

    async def bounded() -> None:
        # Waited for, not cancelled: a part that is being cancelled may wait for the database too.
        task = asyncio.create_task(stop())
        await asyncio.wait({task}, timeout=PART_TIMEOUT_S)
        if not task.done():
            log.warning("did not end in time", part=stop.__qualname__)
        elif error := task.exception():
            log.warning("did not end in order", part=stop.__qualname__, error=type(error).__name__)

    stack.push_async_callback(bounded)
