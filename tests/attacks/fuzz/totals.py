"""What must hold of the pair after whatever was sent to it."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import asyncpg
import grpc

from protos.booking.v1 import booking_pb2, booking_pb2_grpc
from protos.metrics.v1 import metrics_pb2, metrics_pb2_grpc

SETTLED_S: Final = 60.0
AT_A_TIME: Final = 4

Figures = dict[str, Any]


async def drift(booking: str, dsn: str) -> tuple[int, list[str]]:
    """Reconcile every package that has days; return their number, and a line for each drift."""
    connection = await asyncpg.connect(dsn)
    try:
        rows = await connection.fetch("SELECT DISTINCT package_id FROM package_days")
    finally:
        await connection.close()
    packages = iter([str(row["package_id"]) for row in rows])
    drifts: list[str] = []
    async with grpc.aio.insecure_channel(booking) as channel:
        stub = booking_pb2_grpc.BookingServiceStub(channel)

        async def reconcile() -> None:
            for package in packages:
                request = booking_pb2.ReconcileInventoryRequest(package_id=package)
                while True:
                    answer = await stub.ReconcileInventory(request)
                    drifts.extend(f"{package}: {each}" for each in answer.drifts)
                    if not answer.HasField("next_date"):
                        break
                    request.start_date.CopyFrom(answer.next_date)

        await asyncio.gather(*(reconcile() for _ in range(AT_A_TIME)))
    return len(rows), drifts


async def same_figures(booking: str, metrics: str, dsn: str) -> Figures:
    """Wait until the metrics say what the booking database says, and return it. Raises
    AssertionError with both where that does not happen within SETTLED_S.
    """
    connection = await asyncpg.connect(dsn)
    try:
        async with (
            grpc.aio.insecure_channel(booking) as of_booking,
            grpc.aio.insecure_channel(metrics) as of_metrics,
        ):
            for _ in range(round(SETTLED_S / 0.25)):
                stored = await _stored(connection, of_booking)
                shown = await _shown(of_metrics)
                if stored == shown:
                    return stored
                await asyncio.sleep(0.25)
    finally:
        await connection.close()
    raise AssertionError(f"stored {stored}\nshown  {shown}")


async def _stored(connection: Any, channel: Any) -> Figures:
    """Of the booking database."""
    counted = await connection.fetch(
        "SELECT transition, count(*) FROM booking_events GROUP BY transition"
    )
    by_transition = {row["transition"]: row["count"] for row in counted}
    now = datetime.now(UTC)
    request = booking_pb2.GetRevenueReportRequest()
    request.start_time.FromDatetime(now - timedelta(days=1))
    request.end_time.FromDatetime(now + timedelta(days=1))
    stub: Any = booking_pb2_grpc.BookingServiceStub(channel)
    report = await stub.GetRevenueReport(request)
    return {
        "started": by_transition.get("STARTED", 0),
        "completed": by_transition.get("COMPLETED", 0),
        "confirmed": by_transition.get("CONFIRMED", 0),
        "cancelled": by_transition.get("CANCELLED", 0),
        "abandoned": by_transition.get("ABANDONED", 0),
        "expired": by_transition.get("EXPIRED", 0),
        "revenue": sorted(
            (line.currency, line.bookings, *(_nanos(each) for each in (line.gross, line.refunded)))
            for line in report.lines
        ),
    }


async def _shown(channel: Any) -> Figures:
    """Of GetMetrics."""
    stub: Any = metrics_pb2_grpc.MetricsServiceStub(channel)
    answer = await stub.GetMetrics(metrics_pb2.GetMetricsRequest())
    funnel = answer.funnel
    return {
        "started": funnel.bookings_started,
        "completed": funnel.bookings_completed,
        "confirmed": funnel.bookings_confirmed,
        "cancelled": funnel.bookings_cancelled,
        "abandoned": funnel.bookings_abandoned,
        "expired": funnel.bookings_expired,
        "revenue": sorted(
            (
                *(line.currency, line.confirmed),
                *(
                    minor * 10 ** (9 - line.exponent)
                    for minor in (line.gross_minor, line.refunded_minor)
                ),
            )
            for line in answer.business.revenue
        ),
    }


def _nanos(money: Any) -> int:
    """An amount in billionths of its currency, which is exact."""
    return int(money.units * 10**9 + money.nanos)
