"""A booking_service whose facts nobody delivers: metrics_service says so, until one leads."""

from __future__ import annotations

import asyncpg
import pytest

from booking_service.delivery.segments import ADVISORY_LOCK
from metrics_service.health import leaderless
from protos.metrics.v1.health_pb2 import DatabaseHealth
from tests.booking.running_service import running as running_booking
from tests.metrics.running_service import running as running_metrics
from tests.metrics.running_service import until

LIMIT_S = 1.0


@pytest.mark.processes
async def test_a_session_that_holds_the_lock_of_the_relay_is_a_reason(
    booking_dsn: str, metrics_dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leaderless, "MIN_LEADERLESS_S", LIMIT_S)
    holder = await asyncpg.connect(booking_dsn)
    assert await holder.fetchval("SELECT pg_try_advisory_lock($1)", ADVISORY_LOCK)
    async with (
        running_metrics(metrics_dsn, METRICS_HEARTBEAT_MS="200") as metrics,
        running_booking(booking_dsn, BOOKING_METRICS_TARGET=metrics.target) as booking,
    ):
        verdict = metrics.server.health.verdict
        await until(
            lambda: [each.criterion for each in verdict().reasons] == ["no_leader"], "the reason"
        )
        health = verdict()
        assert health.status == DatabaseHealth.UNHEALTHY
        assert health.reasons[0].message.startswith("no process of booking_service")
        assert health.instances[0].status == DatabaseHealth.HEALTHY
        assert not booking.server.relay.leading
        await holder.close()
        await until(lambda: verdict().status == DatabaseHealth.HEALTHY, "its end")
        assert booking.server.relay.leading
        assert verdict().instances[0].HasField("facts_pending")
