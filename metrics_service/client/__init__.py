"""The instrumentation library, the only part of metrics_service that other services import: it
times queries, tells the steps of the booking flow, and streams both without ever being waited for.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from metrics_service.client.booking.flow import BookingFlow
from metrics_service.client.booking.operations import BookingQueries, PackageQueries
from metrics_service.client.health import Criteria, HealthWindow, VerdictHysteresis, judge
from metrics_service.client.inspector import QueryInspector
from metrics_service.client.queries.record import (
    NamedQuery,
    Outcome,
    QueryDefinition,
    QueryRecord,
    QuerySink,
)
from metrics_service.client.stream.client import StreamClient
from metrics_service.client.stream.source import (
    ForkError,
    LaneDrained,
    LaneSource,
    NewEpoch,
    OutBatch,
)
from metrics_service.client.telemetry.emitter import Emitter
from metrics_service.client.tracked import (
    TrackedConnection,
    TrackedPool,
    Tracker,
    default_tracker,
    set_default_tracker,
    track_query,
    with_query_tracking,
)
from protos.tracking.v1 import tracking_pb2

__all__ = [
    "BookingFlow",
    "BookingQueries",
    "Criteria",
    "Emitter",
    "ForkError",
    "HealthWindow",
    "Instrumentation",
    "LaneDrained",
    "LaneSource",
    "NamedQuery",
    "NewEpoch",
    "OutBatch",
    "Outcome",
    "PackageQueries",
    "QueryDefinition",
    "QueryInspector",
    "QueryRecord",
    "QuerySink",
    "StreamClient",
    "TrackedConnection",
    "TrackedPool",
    "Tracker",
    "VerdictHysteresis",
    "flow",
    "init",
    "judge",
    "track_query",
    "with_query_tracking",
]

flow: Final = BookingFlow()
"""The flow of the process: tells nothing, and counts it, before init."""


class Instrumentation:
    """What init has set up: the emitter and its stream."""

    def __init__(self, emitter: Emitter, stream: StreamClient, former: Tracker | None) -> None:
        self.emitter = emitter
        self.stream = stream
        self._former = former

    async def close(self, drain_timeout_s: float = 2.0) -> None:
        """Send what is buffered, within the time given, and end the stream."""
        await self.stream.stop(drain_timeout_s)
        if flow.emitter is self.emitter:
            flow.emitter = None
            set_default_tracker(self._former)


def init(
    target: str,
    *,
    service: str,
    signals: Callable[[], tracking_pb2.Signals] = tracking_pb2.Signals,
) -> Instrumentation:
    """Instrument this process: `flow` and the default tracker of queries tell metrics_service at
    target, such as "127.0.0.1:50052". To be called in the event loop; does not wait for the server.
    """
    emitter = Emitter(service)
    stream = StreamClient(target, service=service, instance=emitter.instance, signals=signals)
    stream.add_lane(emitter)
    stream.start_soon()
    instrumentation = Instrumentation(emitter, stream, default_tracker())
    flow.emitter = emitter
    set_default_tracker(Tracker([emitter]))
    return instrumentation
