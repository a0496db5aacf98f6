"""Serves metrics.v1.HealthService: the verdict with every figure that led to it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from typing import Final

from metrics_service.fanout import Fanout, Pace
from metrics_service.health.paging import Page
from metrics_service.rpc import validate
from metrics_service.rpc.streams import STALL_S, Context, stream_to
from protos.metrics.v1 import health_pb2, health_pb2_grpc
from protos.metrics.v1.health_pb2 import DatabaseHealth

SERVICE: Final = health_pb2.DESCRIPTOR.services_by_name["HealthService"].full_name

WATCH_GAP_S: Final = 0.1
"""Changes closer together than this are sent as one."""


def verdicts(health: Callable[[], DatabaseHealth]) -> Fanout[None]:
    """Create the fan-out of WatchDatabaseHealth; there is one question."""

    def encode(_: Collection[None]) -> Iterator[dict[None, bytes]]:
        yield {None: health().SerializeToString()}

    return Fanout(encode)


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
