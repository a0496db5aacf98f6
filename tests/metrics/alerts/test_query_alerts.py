"""Slow queries of a producer, sent over the real stream, as messages at an endpoint with Sentry's
envelope protocol.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator

import pytest

from metrics_service.alerts.notify import Notice, SentryNotifier
from metrics_service.client.queries.record import NamedQuery, Outcome, QueryDefinition, QueryRecord
from metrics_service.client.stream.client import StreamClient
from metrics_service.client.telemetry.emitter import Emitter
from tests.metrics.running_service import running, until
from tests.metrics.sentry import BOUND_S, Endpoint, listening

INSERT = NamedQuery("INSERT INTO t VALUES (1)", model="bookings", operation="create")
UPDATE = NamedQuery("UPDATE t SET x = 1", model="bookings", operation="complete")
SELECT = NamedQuery("SELECT 1", model="bookings", operation="list")
TRACE = bytes(range(16))


@pytest.fixture
def endpoint() -> Iterator[Endpoint]:
    with listening() as state:
        yield state


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


async def test_slow_reads_and_writes_reach_sentry_once_each(
    metrics_dsn: str, endpoint: Endpoint
) -> None:
    async with running(metrics_dsn, METRICS_SENTRY_DSN=endpoint.dsn) as service:
        emitter = Emitter("booking_service")
        stream = StreamClient(service.target, service="booking_service", instance=emitter.instance)
        stream.add_lane(emitter)
        await stream.start()
        try:
            for query in (INSERT, UPDATE, SELECT):
                definition = query.definition
                emitter.record_query(ended(definition, 1_000_000), definition)
                for _ in range(5):
                    emitter.record_query(ended(definition, 1_200_000), definition)
            old = QueryDefinition(99, "bookings", "long_ago", "")
            emitter.record_query(ended(old, 5_000_000, ago_s=301), old)
            await until(
                lambda: service.server.engine.state.metrics(None).quality.query_timings == 19,
                "the timings",
            )
            events = [await asyncio.to_thread(endpoint.next) for _ in range(3)]
        finally:
            await stream.stop(2.0)
    # The service has ended, and with it sent all it had.
    assert endpoint.events.empty()
    assert [event["level"] for event in events] == ["warning"] * 3
    assert {event["tags"]["operation"] for event in events} == {
        "bookings.create",
        "bookings.complete",
        "bookings.list",
    }
    first = next(each for each in events if each["tags"]["operation"] == "bookings.create")
    assert first["message"] == "Slow query: bookings.create took 1200 ms, limit 1000 ms"
    assert first["fingerprint"] == ["slow_query", f"{INSERT.definition.fingerprint:016x}"]
    assert first["tags"]["rule"] == "slow_query"
    facts = first["contexts"]["slow_query"]
    assert (facts["execute_ms"], facts["threshold_ms"]) == (1200.0, 1000.0)
    assert (facts["trace_id"], facts["instance"]) == (TRACE.hex(), emitter.instance)


def test_a_regression_and_its_end_are_one_issue(endpoint: Endpoint) -> None:
    notifier = SentryNotifier(endpoint.dsn)
    for level in ("warning", "info"):
        notifier.send(Notice("query_regression", level, level, ("query_regression", "a.b"), "a.b"))
    first, second = endpoint.next(), endpoint.next()
    notifier.close(BOUND_S)
    assert [first["level"], second["level"]] == ["warning", "info"]
    assert first["fingerprint"] == second["fingerprint"] == ["query_regression", "a.b"]
    assert first["logger"] == "metrics_service.query_regression"
