"""The sides between which the cost of timing a query is compared.

Each must run in a separate process: the instrumentations change asyncpg itself.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import AbstractContextManager, asynccontextmanager, nullcontext
from importlib.metadata import version
from typing import Any, Final, NamedTuple

import asyncpg

from metrics_service.client.health import HealthWindow
from metrics_service.client.queries.record import NamedQuery, QuerySink
from metrics_service.client.telemetry.emitter import Emitter
from metrics_service.client.tracked import TrackedPool, Tracker, connect

TEXT: Final = "SELECT $1::int"
NAMED: Final = NamedQuery(TEXT, model="bench", operation="one")
PER_TRANSACTION: Final = 100
"""Queries in one span or transaction of the other instrumentations, as in a request."""


class Subject(NamedTuple):
    """Runs one query with an argument in some surroundings; knows how to process what it left
    behind, and describes its set-up.
    """

    fetchval: Callable[..., Awaitable[Any]]
    query: str
    about: str
    surroundings: Callable[[], AbstractContextManager[Any]] = nullcontext
    settle: Callable[[], object] = lambda: None


class Nothing:
    """A sink that does nothing, so that only the creation of the record remains."""

    def record_query(self, *_: object) -> None:
        """Discard the record."""


async def _no_reset(_: object) -> None:
    """Replaces the round trip at each release."""


@asynccontextmanager
async def plain(dsn: str) -> AsyncIterator[Subject]:
    connection = await asyncpg.connect(dsn)
    yield Subject(connection.fetchval, TEXT, f"asyncpg {version('asyncpg')}")
    await connection.close()


@asynccontextmanager
async def plain_pool(dsn: str) -> AsyncIterator[Subject]:
    async with asyncpg.create_pool(dsn, min_size=1, max_size=1, reset=_no_reset) as pool:
        yield Subject(pool.fetchval, TEXT, "asyncpg's pool, a query an acquire, no reset")


@asynccontextmanager
async def record_alone(dsn: str) -> AsyncIterator[Subject]:
    connection = await connect(dsn, tracker=Tracker([Nothing()]))
    yield Subject(connection.fetchval, NAMED, "a record made and thrown away")
    await connection.close()


@asynccontextmanager
async def named(dsn: str) -> AsyncIterator[Subject]:
    async with _sinks() as sinks:
        connection = await connect(dsn, tracker=Tracker(sinks))
        yield Subject(connection.fetchval, NAMED, "records emitted in sealed batches, and judged")
        await connection.close()


@asynccontextmanager
async def text(dsn: str) -> AsyncIterator[Subject]:
    async with _sinks() as sinks:
        connection = await connect(dsn, tracker=Tracker(sinks))
        yield Subject(connection.fetchval, TEXT, "the same, the statement known by its text")
        await connection.close()


@asynccontextmanager
async def pool(dsn: str) -> AsyncIterator[Subject]:
    async with _sinks() as sinks:
        options: dict[str, Any] = {"min_size": 1, "max_size": 1, "reset_on_release": False}
        pool = await TrackedPool.create(dsn, tracker=Tracker(sinks), **options)
        yield Subject(pool.fetchval, NAMED, "the same through TrackedPool, no reset")
        await pool.close()


@asynccontextmanager
async def opentelemetry(dsn: str) -> AsyncIterator[Subject]:
    from opentelemetry.instrumentation.asyncpg import AsyncPGInstrumentor
    from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult

    class ThrowAway(SpanExporter):
        def export(self, spans: Iterable[ReadableSpan]) -> SpanExportResult:
            return SpanExportResult.SUCCESS

    provider = TracerProvider()
    provider.add_span_processor(BatchSpanProcessor(ThrowAway()))
    instrumentor: Any = AsyncPGInstrumentor  # its methods have no types
    instrumentor().instrument(tracer_provider=provider)
    tracer = provider.get_tracer("bench")
    connection = await asyncpg.connect(dsn)
    yield Subject(
        connection.fetchval,
        TEXT,
        f"instrumentation {version('opentelemetry-instrumentation-asyncpg')}, SDK"
        f" {version('opentelemetry-sdk')}: TracerProvider, BatchSpanProcessor, all by default;"
        f" an exporter that throws away; a span around each {PER_TRANSACTION} queries",
        lambda: tracer.start_as_current_span("request"),
        provider.force_flush,
    )
    await connection.close()
    provider.shutdown()


@asynccontextmanager
async def sentry(dsn: str) -> AsyncIterator[Subject]:
    import sentry_sdk
    from sentry_sdk.envelope import Envelope
    from sentry_sdk.integrations.asyncpg import AsyncPGIntegration
    from sentry_sdk.transport import Transport

    class ThrowAway(Transport):
        def capture_envelope(self, envelope: Envelope) -> None:
            pass

    sentry_sdk.init(
        "http://key@127.0.0.1:9/1",
        traces_sample_rate=1.0,
        transport=ThrowAway,
        integrations=[AsyncPGIntegration()],
    )
    connection = await asyncpg.connect(dsn)
    yield Subject(
        connection.fetchval,
        TEXT,
        f"sentry-sdk {version('sentry-sdk')}: AsyncPGIntegration, traces_sample_rate=1.0, all else"
        " by default; a transport that throws away (nothing is serialised); a transaction around"
        f" each {PER_TRANSACTION} queries",
        lambda: sentry_sdk.start_transaction(name="request", op="bench"),
    )
    await connection.close()


@asynccontextmanager
async def _sinks() -> AsyncIterator[list[QuerySink]]:
    """The sinks of booking_service; batches are acknowledged when they are sealed."""
    emitter = Emitter("bench")
    await emitter.open(0, b"")

    async def drain() -> None:
        while True:
            batch = await emitter.next()
            await emitter.acked(batch.seq)

    draining = asyncio.create_task(drain())
    yield [emitter, HealthWindow()]
    draining.cancel()
    if emitter.dropped:
        raise SystemExit(f"{emitter.dropped} timings were dropped: the cost is not that of all")
