"""Serves metrics.v1.HealthService: the verdict with every figure that led to it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from typing import Final

from metrics_service.eventlog.event_log import EventLog
from metrics_service.fanout import Fanout, Pace
from metrics_service.health.paging import Page
from metrics_service.rpc import validate
from metrics_service.rpc.streams import STALL_S, Context, stream_to
from protos.metrics.v1 import health_pb2, health_pb2_grpc
from protos.metrics.v1.health_pb2 import DatabaseHealth, LogHealth
from servicekit.clock import wall_us

SERVICE: Final = health_pb2.DESCRIPTOR.services_by_name["HealthService"].full_name

WATCH_GAP_S: Final = 0.1
"""Changes closer together than this are sent as one."""


def verdicts(health: Callable[[], DatabaseHealth]) -> Fanout[None]:
    """Create the fan-out of WatchDatabaseHealth; there is one question."""

    def encode(_: Collection[None]) -> Iterator[dict[None, bytes]]:
        yield {None: health().SerializeToString()}

    return Fanout(encode)


def log_health(event_log: EventLog, position: int) -> LogHealth:
    """Return the role of this process at its log, which is folded up to `position`."""
    writable = event_log.leading
    if writable:
        role, message = LogHealth.LEADER, ""
    elif event_log.superseded:
        role, message = LogHealth.LEAD_LOST, "another process has taken over from this one"
    elif event_log.standing_by:
        role, message = LogHealth.STANDBY, "another process writes it, and this one waits"
    else:
        role, message = LogHealth.ROLE_UNSPECIFIED, "its database is down"
    lag = max(0, event_log.last_position - position)
    health = LogHealth(writable=writable, lag=lag, message=message, role=role)
    if event_log.clock.step_us:
        health.clock_step.FromMicroseconds(event_log.clock.step_us)
    return health


class HealthService(health_pb2_grpc.HealthServiceServicer):
    """The RPCs of metrics.v1.HealthService."""

    def __init__(
        self,
        health: Callable[[Page], DatabaseHealth],
        fanout: Fanout[None],
        *,
        stall_s: float = STALL_S,
    ) -> None:
        self._health = health
        self._fanout = fanout
        self._stall_s = stall_s

    async def GetDatabaseHealth(
        self, request: health_pb2.GetDatabaseHealthRequest, context: object
    ) -> DatabaseHealth:
        """Return the verdict with one page of the instances."""
        return self._health(validate.page(request))

    # The stubs want an async iterator, but a generator suspended at `yield` cleans up late.
    async def WatchDatabaseHealth(  # type: ignore[override]
        self, request: health_pb2.WatchDatabaseHealthRequest, context: Context
    ) -> None:
        """Send the verdict now, on every change of it or of a reason, and each interval."""
        pace = Pace(WATCH_GAP_S, validate.watch(request))
        await stream_to(self._fanout, None, pace, context, stall_s=self._stall_s)


def progress(
    event_log: EventLog, position: int, folded: int, *, standby: bool
) -> health_pb2.DatabaseHealth:
    """Return how far a start is, as a verdict: the fold has come to `position` by folding `folded`
    records, and a standby waits for another process to leave the log.
    """
    records = max(event_log.last_position - position, 0) + folded
    health = health_pb2.DatabaseHealth(
        status=health_pb2.DatabaseHealth.STARTING,
        start=health_pb2.StartProgress(
            standby=standby, position=position, folded=folded, records=records
        ),
        log=log_health(event_log, position),
    )
    message = (
        "another process writes the log, or its database is lost"
        if standby
        else f"{folded} of {records} records are folded"
    )
    health.reasons.add(criterion="starting", value=folded, threshold=records, message=message)
    health.check_time.FromMicroseconds(wall_us())
    return health
