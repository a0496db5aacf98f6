"""Whatever becomes of the records, the query they are of is unmoved; slow ones of every kind are
told.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from metrics_service.client.health import HealthWindow
from metrics_service.client.queries.record import (
    NamedQuery,
    Outcome,
    QueryDefinition,
    QueryRecord,
)
from metrics_service.client.stream.client import StreamClient
from metrics_service.client.telemetry import query_buffer
from metrics_service.client.telemetry.emitter import Emitter
from metrics_service.client.tracked import TrackedPool, Tracker, track_query
from metrics_service.measure.thresholds import CRITICAL_US, SLOW_US
from tests.metrics.client.recording import Recording, never_paused


class Raising:
    """A sink that fails in every way a sink can."""

    def __init__(self) -> None:
        self.asked = 0

    def record_query(self, record: QueryRecord, definition: QueryDefinition) -> None:
        self.asked += 1
        errors = (RuntimeError("broken"), MemoryError(), RecursionError(), StopIteration())
        raise errors[self.asked % len(errors)]


async def test_sinks_that_raise_change_no_result_and_are_counted(empty_dsn: str) -> None:
    before, broken, after = Recording(), Raising(), Recording()
    tracker = Tracker([before, broken, after])
    async with TrackedPool(empty_dsn, tracker=tracker, max_size=1) as pool:
        for n in range(8):
            assert await pool.fetchval("SELECT $1::int", n) == n
        async with track_query("wrapped", tracker=tracker):
            assert await pool.fetchval("SELECT 1") == 1
        with pytest.raises(TimeoutError):
            await pool.execute("SELECT pg_sleep(9)", timeout=0.02)
    assert tracker.sink_errors == broken.asked == len(before.all) == len(after.all)
    assert len(after.user) == 10
    assert before.all == after.all


@asynccontextmanager
async def emitting_to_nowhere() -> AsyncIterator[Emitter]:
    """An emitter whose metrics_service is down."""
    emitter = Emitter("test")
    stream = StreamClient("127.0.0.1:1", service="test", instance=emitter.instance)
    stream.add_lane(emitter)
    await stream.start()
    try:
        yield emitter
    finally:
        await stream.stop(0.0)


async def test_with_metrics_service_down_queries_succeed_and_drops_are_counted(
    empty_dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(query_buffer, "MAX_TIMINGS", 50)
    async with (
        emitting_to_nowhere() as emitter,
        TrackedPool(empty_dsn, sinks=[emitter], max_size=1) as pool,
    ):
        for n in range(200):
            assert await pool.fetchval("SELECT $1::int", n) == n
        assert emitter.dropped_timings >= 150
        assert len(emitter._timings) <= 50


@pytest.mark.full
async def test_with_metrics_service_down_queries_take_no_longer(empty_dsn: str) -> None:
    spent_s: dict[str, list[float]] = {"down": [], "without": []}
    async with (
        emitting_to_nowhere() as emitter,
        TrackedPool(empty_dsn, sinks=[emitter], max_size=1) as emitted,
        TrackedPool(empty_dsn, max_size=1) as not_emitted,
    ):
        for n in range(200):
            for name, pool in (("down", emitted), ("without", not_emitted)):
                begun_s = time.perf_counter()
                assert await pool.fetchval("SELECT $1::int", n) == n
                spent_s[name].append(time.perf_counter() - begun_s)
    # Waiting for anything at all would cost every query far more than the query itself; the
    # quickest ones are those that nothing else on the machine delayed.
    assert min(spent_s["down"]) < 3 * min(spent_s["without"])


async def test_slow_statements_of_every_kind_make_slow_records(empty_dsn: str) -> None:
    sink, window = Recording(), HealthWindow()
    named = NamedQuery(
        "UPDATE t SET a = 2 FROM (SELECT pg_sleep(0.52)) AS s", model="things", operation="touch"
    )
    tracker = Tracker([sink, window], pauses=never_paused())
    async with TrackedPool(empty_dsn, tracker=tracker, max_size=5) as pool:
        await pool.execute("CREATE TABLE t (a int); CREATE TABLE u (a int)")
        await pool.execute("INSERT INTO t VALUES (1); INSERT INTO u VALUES (1)")
        sink.clear()
        await asyncio.gather(
            pool.execute("INSERT INTO t SELECT 1 FROM pg_sleep($1)", 1.02),
            pool.execute("UPDATE u SET a = 3 FROM (SELECT pg_sleep(0.52)) AS s"),
            pool.execute(named),
            pool.fetch("SELECT pg_sleep(0.52)"),
        )
    slow = {kept.label: kept.record for kept in sink.user}
    assert set(slow) == {"sql.insert", "sql.update", "things.touch", "sql.select"}
    assert all(record.execute_us > SLOW_US for record in slow.values())
    assert all(record.outcome is Outcome.OK and record.rows == 1 for record in slow.values())
    assert slow["sql.insert"].execute_us > CRITICAL_US
    assert window.figures().slow == 4
    assert len({record.fingerprint for record in slow.values()}) == 4


async def test_no_value_is_in_what_is_sent(empty_dsn: str) -> None:
    """Of the bytes that leave the process: the text of a statement is there, its value is not."""
    emitter = Emitter("test", flush_interval_s=0.01)
    async with TrackedPool(empty_dsn, sinks=[emitter], max_size=1) as pool:
        await pool.fetch("SELECT 'kanarienvogel', $1::text AS column_name", "kanarienvogel")
    payload = (await emitter.next()).payload
    assert b"column_name" in payload
    assert b"kanarienvogel" not in payload
