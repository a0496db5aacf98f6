"""Serves metrics.v1.MetricsService from the folded state; an answer is of exactly one revision."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Protocol

from metrics_service.fanout import Fanout, Pace
from metrics_service.rpc import validate
from metrics_service.rpc.streams import REPEAT_S, STALL_S, Context, stream_to
from protos.metrics.v1 import metrics_pb2, metrics_pb2_grpc
from protos.metrics.v1.health_pb2 import DatabaseHealth

SERVICE: Final = metrics_pb2.DESCRIPTOR.services_by_name["MetricsService"].full_name


class Answers(Protocol):
    """What is read of the state. Windows are in microseconds; None is everything ever folded."""

    def metrics(self, window_us: int | None) -> metrics_pb2.MetricsSnapshot: ...

    def funnel(self, window_us: int | None) -> metrics_pb2.Funnel: ...

    def query_stats(
        self, request: metrics_pb2.GetQueryStatsRequest
    ) -> metrics_pb2.GetQueryStatsResponse: ...

    def errors(self, window_us: int | None) -> metrics_pb2.ErrorMetrics: ...

    def recent_queries(
        self, request: metrics_pb2.ListRecentQueriesRequest
    ) -> metrics_pb2.ListRecentQueriesResponse: ...

    def slow_queries(
        self, request: metrics_pb2.ListSlowQueriesRequest
    ) -> metrics_pb2.ListSlowQueriesResponse: ...


def snapshots(
    state: Callable[[], Answers], health: Callable[[], DatabaseHealth]
) -> Fanout[int | None]:
    """Create the fan-out of StreamMetrics; a question is a window in microseconds or None."""

    def encode(window_us: int | None) -> bytes:
        return metrics_pb2.StreamMetricsResponse(
            snapshot=state().metrics(window_us), health=health()
        ).SerializeToString()

    return Fanout(encode)


class MetricsService(metrics_pb2_grpc.MetricsServiceServicer):
    """The RPCs of metrics.v1.MetricsService."""

    def __init__(
        self,
        state: Callable[[], Answers],
        fanout: Fanout[int | None],
        *,
        stall_s: float = STALL_S,
        repeat_s: float = REPEAT_S,
    ) -> None:
        self._state = state
        self._fanout = fanout
        self._stall_s = stall_s
        self._repeat_s = repeat_s

    async def GetMetrics(
        self, request: metrics_pb2.GetMetricsRequest, context: object
    ) -> metrics_pb2.MetricsSnapshot:
        return self._state().metrics(validate.window(request))

    async def GetFunnel(
        self, request: metrics_pb2.GetFunnelRequest, context: object
    ) -> metrics_pb2.Funnel:
        return self._state().funnel(validate.window(request))

    async def GetQueryStats(
        self, request: metrics_pb2.GetQueryStatsRequest, context: object
    ) -> metrics_pb2.GetQueryStatsResponse:
        return self._state().query_stats(validate.query_stats(request))

    async def GetErrorBreakdown(
        self, request: metrics_pb2.GetErrorBreakdownRequest, context: object
    ) -> metrics_pb2.ErrorMetrics:
        return self._state().errors(validate.window(request))

    async def ListRecentQueries(
        self, request: metrics_pb2.ListRecentQueriesRequest, context: object
    ) -> metrics_pb2.ListRecentQueriesResponse:
        return self._state().recent_queries(validate.recent_queries(request))

    async def ListSlowQueries(
        self, request: metrics_pb2.ListSlowQueriesRequest, context: object
    ) -> metrics_pb2.ListSlowQueriesResponse:
        return self._state().slow_queries(validate.slow_queries(request))

    # The stubs want an async iterator, but a generator suspended at `yield` cleans up late.
    async def StreamMetrics(  # type: ignore[override]
        self, request: metrics_pb2.StreamMetricsRequest, context: Context
    ) -> None:
        """Send a snapshot, then the newest one whenever the state has changed."""
        window_us, interval_s = validate.stream(request)
        pace = Pace(interval_s, self._repeat_s)
        await stream_to(self._fanout, window_us, pace, context, stall_s=self._stall_s)
