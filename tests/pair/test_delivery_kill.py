"""A metrics_service killed with -9 at random, under load: its totals are those that were sent."""

from __future__ import annotations

import asyncio
import random
import time
from pathlib import Path
from typing import Any

import asyncpg
import grpc
import pytest

from metrics_service.client.stream.client import StreamClient
from metrics_service.client.telemetry.emitter import Emitter
from protos.metrics.v1 import metrics_pb2, metrics_pb2_grpc
from protos.tracking.v1 import event_pb2
from tests.metrics.delivery_pair import ListSource
from tests.pair.real_pair import Pair

pytestmark = pytest.mark.processes

KILLS = 5
BOOKINGS = 4_000
BATCH = 8
METHOD = "booking.v1.BookingService/ConfirmBooking"


def confirmed(number: int) -> event_pb2.Event:
    """Booking `number` was confirmed for as many cents."""
    now_us = time.time_ns() // 1_000
    return event_pb2.Event(
        event_id=number.to_bytes(16, "big"),
        time_us=now_us,
        session_id=f"s{number}",
        booking=event_pb2.BookingFact(
            transition=event_pb2.BookingFact.CONFIRMED,
            booking_id=f"b{number}",
            version=1,
            package_id="p",
            user_id=f"u{number}",
            quantity=1,
            hold_time_us=now_us,
            complete_time_us=now_us,
            confirm_time_us=now_us,
            amount_minor=number,
            currency="EUR",
        ),
    )


async def metrics(target: str) -> metrics_pb2.MetricsSnapshot:
    async with grpc.aio.insecure_channel(target) as channel:
        stub: Any = metrics_pb2_grpc.MetricsServiceStub(channel)
        answer = await stub.GetMetrics(metrics_pb2.GetMetricsRequest(), timeout=10)
    assert isinstance(answer, metrics_pb2.MetricsSnapshot)
    return answer


async def test_totals_are_exact_after_kills_at_random_points(
    metrics_dsn: str, tmp_path: Path
) -> None:
    # The seed only spreads the kills; where in the work they fall differs from run to run.
    chance = random.Random(1)
    pair = Pair("", metrics_dsn, tmp_path, {"METRICS_CHECKPOINT_INTERVAL_S": "1"})
    facts, telemetry = ListSource(), Emitter("test", instance="i-1")
    client = StreamClient(pair.metrics, service="test", instance="i-1")
    client.add_lane(facts)
    client.add_lane(telemetry)
    sent = 0

    async def load() -> None:
        nonlocal sent
        while sent < BOOKINGS:
            batch = [confirmed(number) for number in range(sent + 1, sent + BATCH + 1)]
            facts.put(event_pb2.EventList(events=batch).SerializeToString())
            for _ in batch:
                telemetry.count_rpc(METHOD, write=True, ok=True)
            sent += BATCH
            await asyncio.sleep(0.01)

    try:
        await asyncio.to_thread(pair.start, "metrics_service")
        await client.start()
        loading = asyncio.create_task(load())
        for _ in range(KILLS):
            await asyncio.sleep(chance.uniform(0.1, 0.8))
            await asyncio.to_thread(pair.kill, "metrics_service")
            await asyncio.to_thread(pair.start, "metrics_service")
        await loading
        await client.stop(20)
        answer = await metrics(pair.metrics)
    finally:
        await client.stop(0)
        pair.stop()

    assert answer.business.confirmed == sent == BOOKINGS
    (revenue,) = answer.business.revenue
    assert revenue.gross_minor == BOOKINGS * (BOOKINGS + 1) // 2
    assert answer.errors.error_rate.denominator == BOOKINGS
    side = await asyncpg.connect(metrics_dsn)
    try:
        positions = await side.fetchrow(
            "SELECT count(*) AS number, min(position) AS first, max(position) AS last"
            " FROM event_log"
        )
        assert positions is not None
        assert positions["number"] == positions["last"]
        assert positions["first"] == 1
        repeated = await side.fetchval(
            "SELECT count(*) FROM (SELECT FROM event_log WHERE kind = 'batch'"
            " GROUP BY lane, producer_id, epoch, seq HAVING count(*) > 1) AS twice"
        )
        assert repeated == 0
    finally:
        await side.close()
