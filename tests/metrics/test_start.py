"""The service listens before it has read its figures back, says how far it is, and refuses the rest
until then; a start folds only what came after the last checkpoint.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from http import HTTPStatus
from typing import Any

import asyncpg
import grpc
import httpx
import pytest
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from metrics_service.config import MetricsSettings
from metrics_service.engine import Engine
from metrics_service.eventlog.event_log import EventLog
from metrics_service.eventlog.producer import ProducerKey
from metrics_service.rpc.register import SERVICES
from metrics_service.server import MetricsServer
from metrics_service.state.record import LogRecord
from protos.metrics.v1.health_pb2 import DatabaseHealth, GetDatabaseHealthRequest
from protos.metrics.v1.metrics_pb2 import GetMetricsRequest, StreamMetricsRequest
from servicekit import background
from tests.metrics.delivery_pair import TELEMETRY, RememberingState, Sink, events, remember
from tests.metrics.delivery_pair import running as sink_running
from tests.metrics.running_service import BOUND_S, Producer, Service, running, until

BATCHES = 20


async def fill(dsn: str, batches: int = BATCHES) -> None:
    """A log with batches, and no checkpoint."""
    log = EventLog(dsn, tick_s=3_600)
    await log.start()
    await log.wait_leading()
    key = ProducerKey(TELEMETRY, "relay")
    point = await log.open_producer(key, epoch=1, instance="i", service="test", backfill=False)
    for seq in range(1, batches + 1):
        await log.append(
            key, token=point.token, epoch=1, seq=seq, count=1, payload=events(f"s{seq}")
        )
    await log.stop()


class Held:
    """Holds the fold of a start at a record until it is let go."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, position: int) -> None:
        self.reached, self.go = asyncio.Event(), asyncio.Event()
        real = Engine._fold

        async def fold(engine: Engine, records: Any) -> None:
            page = list(records)
            await real(engine, page[:position])
            self.reached.set()
            await self.go.wait()
            await real(engine, page[position:])

        monkeypatch.setattr(Engine, "_fold", fold)


@contextlib.asynccontextmanager
async def starting(dsn: str) -> AsyncIterator[tuple[Service, asyncio.Task[Any]]]:
    """A service that listens, and its start under way."""
    environ = {"METRICS_DATABASE_URL": dsn, "METRICS_PORT": "0", "METRICS_HTTP_PORT": "0"}
    server = MetricsServer(MetricsSettings.load(environ))
    service = Service(server, *await server.listen())
    start = asyncio.create_task(server.start())
    try:
        yield service, start
    finally:
        await service.channel.close()
        start.cancel()
        await asyncio.gather(start, return_exceptions=True)
        await server.stop()


async def refusal(call: Any) -> tuple[str, bool]:
    """The reason of a refused call, and whether it says when to try again."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
    status = rpc_status.from_call(caught.value)  # type: ignore[arg-type]  # of the threaded client
    assert status is not None
    info, retry = error_details_pb2.ErrorInfo(), error_details_pb2.RetryInfo()
    unpacked = [(each.Unpack(info), each.Unpack(retry)) for each in status.details]
    return info.reason, any(is_retry for _, is_retry in unpacked)


@pytest.mark.processes
async def test_it_answers_health_with_its_progress_while_it_folds(
    metrics_dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    await fill(metrics_dsn)
    held = Held(monkeypatch, 5)
    async with starting(metrics_dsn) as (service, start), httpx.AsyncClient() as http:
        async with asyncio.timeout(BOUND_S):
            await held.reached.wait()
        health = await service.health.GetDatabaseHealth(GetDatabaseHealthRequest())
        assert health.status == DatabaseHealth.STARTING
        assert not health.start.standby
        assert (health.start.position, health.start.folded) == (5, 5)
        assert health.start.records >= BATCHES
        assert [reason.criterion for reason in health.reasons] == ["starting"]
        url = f"http://127.0.0.1:{service.http_port}/api"
        page = await http.get(f"{url}/health/database")
        assert page.status_code == HTTPStatus.SERVICE_UNAVAILABLE
        assert page.json()["status"] == "STARTING"
        assert int(page.json()["start"]["folded"]) == 5
        figures = await http.get(f"{url}/metrics/bookings")
        assert figures.status_code == HTTPStatus.SERVICE_UNAVAILABLE
        for name in ("", "database", *SERVICES):
            assert not await service.serving(name)
        assert await refusal(service.metrics.GetMetrics(GetMetricsRequest())) == ("STARTING", True)
        stream = service.metrics.StreamMetrics(StreamMetricsRequest())
        assert await refusal(stream.read()) == ("STARTING", True)
        # A producer that comes too early keeps what it has, and is served later.
        async with Producer(service) as producer:
            producer.book()
            assert not start.done()
            assert producer.facts.acknowledged == 0
            held.go.set()
            async with asyncio.timeout(BOUND_S):
                await start
            for name in ("", *SERVICES):
                assert await service.serving(name)
            await until(lambda: producer.facts.acknowledged == 1, "the acknowledgement")
        health = await service.health.GetDatabaseHealth(GetDatabaseHealthRequest())
        assert health.status != DatabaseHealth.STARTING
        assert not health.HasField("start")


@pytest.mark.processes
async def test_one_that_stands_by_listens_and_says_so(metrics_dsn: str) -> None:
    async with running(metrics_dsn), starting(metrics_dsn) as (second, _):
        await until(lambda: second.server._begun, "the wait for the lead")
        health = await second.health.GetDatabaseHealth(GetDatabaseHealthRequest())
        assert health.status == DatabaseHealth.STARTING
        assert health.start.standby
        assert not await second.serving("")


async def test_it_listens_before_it_asks_for_the_database(
    metrics_dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = asyncio.Event()

    async def slow(_: EventLog) -> None:
        asked.set()
        await asyncio.Event().wait()

    monkeypatch.setattr(EventLog, "start", slow)
    async with starting(metrics_dsn) as (service, _):
        async with asyncio.timeout(BOUND_S):
            await asked.wait()
        health = await service.health.GetDatabaseHealth(GetDatabaseHealthRequest())
        assert health.status == DatabaseHealth.STARTING
        assert not health.start.standby


async def saved(dsn: str) -> int:
    connection = await asyncpg.connect(dsn)
    try:
        return int(await connection.fetchval("SELECT position FROM checkpoint"))
    finally:
        await connection.close()


async def test_a_start_writes_the_checkpoints_that_become_due(
    metrics_dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    remember(monkeypatch)
    monkeypatch.setattr("metrics_service.eventlog.event_log.PAGE_RECORDS", 5)
    await fill(metrics_dsn, 23)
    positions: list[int] = []
    real = Engine._checkpoint

    async def checkpoint(engine: Engine) -> None:
        await real(engine)
        positions.append(engine.position)

    monkeypatch.setattr(Engine, "_checkpoint", checkpoint)
    sink = Sink(metrics_dsn, checkpoint_interval_s=3_600, checkpoint_events=10, tick_s=3_600)
    await sink.start()
    assert positions == [10, 20]
    await sink.crash()
    # Killed without a last checkpoint: the next start folds what came after the newest one.
    async with sink_running(Sink(metrics_dsn, tick_s=3_600)) as second:
        assert second.engine.folded <= 10
        assert second.state.payloads("relay") == [events(f"s{seq}") for seq in range(1, 24)]


async def test_a_load_that_never_pauses_does_not_put_checkpoints_off(
    metrics_dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each record that is folded brings the next: what is to be folded has no end."""
    remember(monkeypatch)
    monkeypatch.setattr(background, "SLICE_S", 0.0)
    async with sink_running(
        Sink(metrics_dsn, checkpoint_interval_s=3_600, checkpoint_events=10, tick_s=3_600)
    ) as sink:
        written = asyncio.Event()
        real = sink.log.save_checkpoint

        async def save(*args: Any, **kwargs: Any) -> None:
            await real(*args, **kwargs)
            written.set()

        def more() -> None:
            if not written.is_set():
                position = sink.log._writer.last_position = sink.engine.position + 2
                sink.engine._on_records(
                    [LogRecord(position - 1, 1, "tick"), LogRecord(position, 1, "tick")]
                )

        monkeypatch.setattr(sink.log, "save_checkpoint", save)
        sink.engine.on_change(more)
        more()
        async with asyncio.timeout(BOUND_S):
            await written.wait()


async def test_a_stop_in_the_middle_of_a_start_is_gone_on_from(
    metrics_dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    remember(monkeypatch)
    await fill(metrics_dsn)
    with monkeypatch.context() as patch:
        held = Held(patch, 15)
        patch.setattr("metrics_service.engine.FINAL_FOLD_S", 0.0)
        async with starting(metrics_dsn) as (service, _):
            async with asyncio.timeout(BOUND_S):
                await held.reached.wait()
            assert service.server.engine.position == 15
    assert await saved(metrics_dsn) == 15
    async with sink_running(Sink(metrics_dsn, tick_s=3_600)) as sink:
        assert isinstance(sink.state, RememberingState)
        assert sink.engine.folded == BATCHES - 15
        assert len(sink.state.batches) == BATCHES
