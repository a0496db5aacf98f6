"""What a service's own endpoints show: the verdict of the database, and figures of bookings."""

from __future__ import annotations

from datetime import timedelta
from types import TracebackType
from typing import Final, Self

import grpc

from protos.metrics.v1 import health_pb2, health_pb2_grpc, metrics_pb2, metrics_pb2_grpc
from protos.metrics.v1.series_pb2 import DIMENSION_UNSPECIFIED, Dimension
from servicekit.channels import open_channel

TIMEOUT_S: Final = 2.0

_Funnel = metrics_pb2.GetFunnelRequest


async def check_database_health(
    target: str,
    *,
    token: str = "",
    credentials: grpc.ChannelCredentials | None = None,
    timeout_s: float = TIMEOUT_S,
) -> health_pb2.DatabaseHealth:
    """Ask metrics_service at target, such as "127.0.0.1:50052", for the verdict of the booking
    database, with its reasons and the first 100 instances.

    Without credentials the connection is not encrypted. Raises grpc.aio.AioRpcError, such as with
    UNAVAILABLE where no service answers, or DEADLINE_EXCEEDED.
    """
    async with open_channel(target, credentials) as channel:
        stub: health_pb2_grpc.HealthServiceAsyncStub = health_pb2_grpc.HealthServiceStub(channel)
        request = health_pb2.GetDatabaseHealthRequest()
        return await stub.GetDatabaseHealth(
            request, timeout=timeout_s, metadata=_metadata(token), wait_for_ready=False
        )


def create_booking_metrics_endpoint(
    target: str,
    *,
    token: str = "",
    credentials: grpc.ChannelCredentials | None = None,
    timeout_s: float = TIMEOUT_S,
) -> BookingMetricsEndpoint:
    """Create a reader of the figures of metrics_service at target; close() it in the end. Create it
    inside the event loop; it connects with the first question.
    """
    return BookingMetricsEndpoint(open_channel(target, credentials), token, timeout_s)


class BookingMetricsEndpoint:
    """Reads figures over one connection. A window is at most 30 days and ended a time ago, or is
    None for all times; which are kept says metrics.proto. Every answer carries `as_of` and
    `revision`; money is minor units of its currency, durations are milliseconds.

    Each method raises grpc.aio.AioRpcError: INVALID_ARGUMENT names what is kept, UNAVAILABLE and
    DEADLINE_EXCEEDED may be tried again.
    """

    def __init__(self, channel: grpc.aio.Channel, token: str, timeout_s: float) -> None:
        self._channel = channel
        self._metadata = _metadata(token)
        self._timeout_s = timeout_s
        self._stub: metrics_pb2_grpc.MetricsServiceAsyncStub = metrics_pb2_grpc.MetricsServiceStub(
            channel
        )

    async def get_metrics(
        self, window: timedelta | None = None, ended: timedelta | None = None
    ) -> metrics_pb2.MetricsSnapshot:
        """Return all figures of a window, of one revision."""
        request = metrics_pb2.GetMetricsRequest()
        _set_window(request, window, ended)
        return await self._stub.GetMetrics(
            request, timeout=self._timeout_s, metadata=self._metadata
        )

    async def get_conversion_funnel(
        self,
        window: timedelta | None = None,
        ended: timedelta | None = None,
        *,
        matured: bool = False,
        by: Dimension.ValueType = DIMENSION_UNSPECIFIED,
    ) -> metrics_pb2.Funnel:
        """Return the funnel of a window, or of its matured slots alone, with its groups by a
        dimension.
        """
        state = _Funnel.MATURED if matured else _Funnel.LIVE
        request = _Funnel(state=state, by=by)
        _set_window(request, window, ended)
        return await self._stub.GetFunnel(request, timeout=self._timeout_s, metadata=self._metadata)

    async def get_error_breakdown(
        self, window: timedelta | None = None, ended: timedelta | None = None
    ) -> metrics_pb2.ErrorMetrics:
        """Return the errors of a window by reason, with samples, and by package."""
        request = metrics_pb2.GetErrorBreakdownRequest()
        _set_window(request, window, ended)
        return await self._stub.GetErrorBreakdown(
            request, timeout=self._timeout_s, metadata=self._metadata
        )

    async def close(self) -> None:
        """End the connection."""
        await self._channel.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()


def _set_window(
    request: metrics_pb2.GetMetricsRequest | _Funnel | metrics_pb2.GetErrorBreakdownRequest,
    window: timedelta | None,
    ended: timedelta | None,
) -> None:
    if window is not None:
        request.window.FromTimedelta(window)
    if ended is not None:
        request.ended.FromTimedelta(ended)


def _metadata(token: str) -> tuple[tuple[str, str], ...]:
    return (("authorization", f"Bearer {token}"),) if token else ()
