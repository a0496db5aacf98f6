"""Slow queries of a producer, sent over the real stream, as alerts of the running service."""

from __future__ import annotations

import asyncio
import time

from metrics_service.client.queries.record import NamedQuery, Outcome, QueryDefinition, QueryRecord
from metrics_service.client.stream.client import StreamClient
from metrics_service.client.telemetry.emitter import Emitter
from protos.metrics.v1.alert_pb2 import ALERT_STATE_FIRING, Alert
from tests.metrics.running_service import BOUND_S, Service, running, until

INSERT = NamedQuery("INSERT INTO t VALUES (1)", model="bookings", operation="create")
UPDATE = NamedQuery("UPDATE t SET x = 1", model="bookings", operation="complete")
SELECT = NamedQuery("SELECT 1", model="bookings", operation="list")
TRACE = bytes(range(16))


def ended(definition: QueryDefinition, execute_us: int, *, ago_s: float = 0.0) -> QueryRecord:
    started_us = time.time_ns() // 1000 - execute_us - round(ago_s * 1e6)
    return QueryRecord(
        fingerprint=definition.fingerprint,
        started_us=started_us,
        pool_wait_us=0,
        connect_us=0,
        cancel_wait_us=0,
        execute_us=execute_us,
        rows=1,
        batch_size=0,
        outcome=Outcome.OK,
        sqlstate=None,
        internal=False,
        trace_id=TRACE,
    )


async def slow_queries(service: Service, count: int) -> list[Alert]:
    """Wait for so many alerts of slow queries."""
    async with asyncio.timeout(BOUND_S):
        while True:
            found = [alert for alert in service.server.alerts.present if alert.rule == "slow_query"]
            if len(found) >= count:
                return found
            await asyncio.sleep(0.01)


async def test_slow_reads_and_writes_are_alerts_once_each(metrics_dsn: str) -> None:
    async with running(metrics_dsn) as service:
        emitter = Emitter("booking_service")
        stream = StreamClient(service.target, service="booking_service", instance=emitter.instance)
        stream.add_lane(emitter)
        await stream.start()
        try:
            old = QueryDefinition(99, "bookings", "long_ago", "")
            emitter.record_query(ended(old, 5_000_000, ago_s=301), old)
            for query in (INSERT, UPDATE, SELECT):
                definition = query.definition
                emitter.record_query(ended(definition, 1_000_000), definition)
                for _ in range(5):
                    emitter.record_query(ended(definition, 1_200_000), definition)
            await until(
                lambda: service.server.engine.state.metrics(None).quality.query_timings == 19,
                "the timings",
            )
            alerts = await slow_queries(service, 3)
        finally:
            await stream.stop(2.0)
    assert {alert.labels["operation"] for alert in alerts} == {
        "bookings.create",
        "bookings.complete",
        "bookings.list",
    }
    assert [alert.state for alert in alerts] == [ALERT_STATE_FIRING] * 3
    first = next(each for each in alerts if each.labels["operation"] == "bookings.create")
    assert first.summary == "bookings.create took 1,200 ms, line 1,000 ms"
    assert first.labels["fingerprint"] == f"{INSERT.definition.fingerprint:016x}"
