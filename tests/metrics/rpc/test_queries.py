"""Reads about queries, over the real service: timings and observations in over the stream, the same
figures out, also after a restart.
"""

from __future__ import annotations

import asyncio
import time

import pytest
from google.protobuf.duration_pb2 import Duration
from rich.console import Console

from metrics_service.cli import watch as view
from protos.metrics.v1.metrics_pb2 import (
    GetQueryStatsRequest,
    ListSlowQueriesRequest,
    QueryStats,
    SlowQuery,
)
from protos.tracking.v1.event_pb2 import QUERY_OUTCOME_CANCELLED, QUERY_OUTCOME_TIMEOUT, Event
from tests.metrics.running_service import BOUND_S, Producer, Service, running, until
from tests.metrics.state.log import Log, holder

MS = 1_000
# For each kept window one, and all times.
WINDOWS = (Duration(seconds=3_600), Duration(seconds=86_400), Duration(seconds=2_592_000), None)


def producing() -> Log:
    """Makes events as of now."""
    return Log(time.time_ns() // 1_000)


async def folded(service: Service, producer: Producer, *events: Event) -> None:
    """Send a batch and wait until it is folded in."""
    before = service.server.engine.state.metrics(None).quality.events
    producer.facts.add(list(events))
    await until(
        lambda: service.server.engine.state.metrics(None).quality.events >= before + len(events),
        "the batch",
    )


async def slow(service: Service) -> list[SlowQuery]:
    return list((await service.metrics.ListSlowQueries(ListSlowQueriesRequest())).queries)


async def test_a_blocked_query_is_listed_while_it_runs_and_keeps_its_observation_over_a_restart(
    metrics_dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(view, "CONNECT_TIMEOUT_S", BOUND_S)
    # Else the frame is shown without it.
    monkeypatch.setattr(view, "SLOWEST_TIMEOUT_S", BOUND_S)
    log = producing()
    console = Console(record=True, width=160, force_terminal=True)
    async with running(metrics_dsn) as service, Producer(service) as producer:
        await folded(
            service,
            producer,
            log.define(1, "bookings.confirm"),
            log.running(9, 800 * MS, blockers=[holder(4711)]),
            log.plan(1, "LockRows"),
        )
        (blocked,) = await slow(service)
        async with asyncio.timeout(BOUND_S):
            await view.follow(service.target, asyncio.Event(), console=console, frames=1)
        await folded(service, producer, log.ended(9, 2_500 * MS))
        (ended,) = await slow(service)
    async with running(metrics_dsn) as service:
        (kept,) = await slow(service)
    assert (blocked.running, blocked.query.operation) == (True, "bookings.confirm")
    assert [blocker.pid for blocker in blocked.look.blockers] == [4711]
    shown = "running bookings.confirm 800.0 ms, waits for pid 4711, report, idle in transaction"
    assert shown in console.export_text()
    assert (ended.running, ended.query.execute_ms, ended.plan) == (False, 2_500, "LockRows")
    assert ended.look == blocked.look
    assert kept == ended


async def test_query_statistics_by_operation_and_fingerprint_over_every_window(
    metrics_dsn: str,
) -> None:
    log = producing()
    kinds = GetQueryStatsRequest

    async def groups(
        by: GetQueryStatsRequest.GroupBy.ValueType,
        order: GetQueryStatsRequest.OrderBy.ValueType,
        window: Duration | None,
    ) -> list[QueryStats]:
        request = kinds(group_by=by, order_by=order, window=window)
        return list((await service.metrics.GetQueryStats(request)).groups)

    async with running(metrics_dsn) as service, Producer(service) as producer:
        await folded(
            service,
            producer,
            log.define(1, "a.many"),
            log.define(2, "b.slow"),
            log.define(3, "c.failing", "SELECT $1"),
            log.define(4, "d.cancelled"),
            log.queries([2 * MS] * 50, fingerprint=1, pool_wait_us=30 * MS),
            log.queries([600 * MS, 1_200 * MS], fingerprint=2),
            log.queries([5 * MS] * 3, fingerprint=3, outcome=QUERY_OUTCOME_TIMEOUT),
            log.queries([900 * MS], fingerprint=4, outcome=QUERY_OUTCOME_CANCELLED),
        )
        first = {
            kinds.TOTAL_TIME: "b.slow",
            kinds.P95: "b.slow",
            kinds.COUNT: "a.many",
            kinds.FAILURES: "c.failing",
        }
        for window in WINDOWS:
            for order, operation in first.items():
                found = await groups(kinds.OPERATION, order, window)
                assert found[0].operation == operation
                assert sorted(each.total for each in found) == [1, 2, 3, 50]
        for order, operation in first.items():
            found = await groups(kinds.FINGERPRINT, order, WINDOWS[0])
            assert (found[0].operation, len(found[0].fingerprint)) == (operation, 16)
    by_name = {each.operation: each for each in found}
    many, blocked, failing, cancelled = (by_name[name] for name in sorted(by_name))
    assert (many.pool_wait.count, many.total_time_ms) == (50, 100)
    assert many.pool_wait.p95_ms == pytest.approx(30, rel=0.01)
    assert (blocked.slow_warning, blocked.slow_critical) == (1, 1)
    assert blocked.execute.p95_ms == pytest.approx(1_200, rel=0.01)
    assert (failing.failed, failing.text) == (3, "SELECT $1")
    # Without a sample every percentile is absent, not 0.
    assert (cancelled.cancelled, cancelled.execute.count) == (1, 0)
    assert not cancelled.execute.ListFields()
    assert not cancelled.pool_wait.ListFields()
