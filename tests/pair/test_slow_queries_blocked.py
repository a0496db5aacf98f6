"""Who blocks a query is told while it is blocked, by the other service, and kept after it ended."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import asyncpg

from protos.metrics.v1 import metrics_pb2
from tests.booking.running_service import running as running_booking
from tests.metrics.running_service import BOUND_S, Service
from tests.metrics.running_service import running as running_metrics

BLOCKED = "UPDATE packages SET title = title WHERE title = $1"
HELD = "SELECT id FROM packages WHERE title = 'Room with a view' FOR UPDATE"


def is_it(query: metrics_pb2.SlowQuery) -> bool:
    """Whether it is the one that is blocked: on a paused machine others are slow too."""
    return query.query.text == BLOCKED


async def told(
    metrics: Service, condition: Callable[[metrics_pb2.SlowQuery], object]
) -> metrics_pb2.SlowQuery:
    """The first slow query for which the condition holds, once there is one."""
    async with asyncio.timeout(BOUND_S):
        while True:
            answer = await metrics.metrics.ListSlowQueries(metrics_pb2.ListSlowQueriesRequest())
            for query in answer.queries:
                if condition(query):
                    return query
            await asyncio.sleep(0.05)


async def test_the_blocker_is_named_while_the_query_waits_and_kept_when_it_has_ended(
    booking_dsn: str, metrics_dsn: str
) -> None:
    async with (
        running_metrics(metrics_dsn) as metrics,
        running_booking(booking_dsn, BOOKING_METRICS_TARGET=metrics.target) as booking,
    ):
        await booking.package()
        name = {"application_name": "a forgotten session"}
        holder = await asyncpg.connect(booking_dsn, server_settings=name)
        async with booking.server.database.connection() as connection:
            # However slow the machine is, it waits until the lock is released.
            await connection.execute("SET statement_timeout = 0")
            try:
                await holder.execute("BEGIN")
                await holder.execute(HELD)
                waits = asyncio.create_task(
                    connection.execute(BLOCKED, "Room with a view", timeout=60)
                )
                running = await told(metrics, lambda query: is_it(query) and query.look.blockers)
                assert running.running
                assert not waits.done()
            finally:
                await holder.execute("ROLLBACK")
                pid = holder.get_server_pid()
                await holder.close()
            await waits
        (blocker,) = running.look.blockers
        assert blocker.pid == pid
        assert blocker.application_name == "a forgotten session"
        assert blocker.state == "idle in transaction"
        assert blocker.query == "SELECT id FROM packages WHERE title = $1 FOR UPDATE"
        assert running.look.wait_event_type == "Lock"
        assert running.look.running_ms > 500
        assert (running.query.operation, running.query.text) == ("sql.update", BLOCKED)

        ended = await told(metrics, lambda query: is_it(query) and not query.running)
        assert ended.query.outcome == "ok"
        assert ended.query.fingerprint == running.query.fingerprint
        assert ended.query.execute_ms > running.look.running_ms
        assert [each.pid for each in ended.look.blockers] == [pid]
