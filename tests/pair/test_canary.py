"""No value of a query, literal or parameter, gets out: not into logs, events, tables, spans, gRPC
answers, pages or Sentry. Values planted in the open are found in each, so the search can fail.

What a booking is about - who books which package - are facts, which the services do report. The
values here are those of statements, or of requests that failed.
"""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import io
import zlib
from collections.abc import AsyncIterator, Awaitable, Iterable, Iterator, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import asyncpg
import grpc
import pytest
from google.type.date_pb2 import Date
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from metrics_service.client.inspector import QueryInspector
from metrics_service.client.queries.record import NamedQuery
from metrics_service.client.stream.client import StreamClient
from metrics_service.client.telemetry.emitter import Emitter
from metrics_service.client.tracked import TrackedPool, Tracker, connect, track_query
from protos.booking.v1 import booking_pb2, booking_pb2_grpc, catalog_pb2, catalog_pb2_grpc
from protos.metrics.v1 import metrics_pb2, metrics_pb2_grpc
from protos.tracking.v1.tracking_pb2 import Probe, Signals
from tests.booking.running_service import confirm_of, package_of
from tests.metrics import sentry
from tests.pair.canaries import Canaries, found
from tests.pair.outputs import (
    ALERTS,
    BOUND_S,
    Outputs,
    answers,
    kinds_of_events,
    logs,
    payloads,
    tables,
)
from tests.pair.real_pair import Pair, running
from tests.servicekit.tracing.receiver import Receiver, receiving


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    """What the pair sends its spans to."""
    async with receiving() as made:
        yield made


@pytest.mark.processes
async def test_no_value_of_a_query_gets_out(
    receiver: Receiver,
    booking_dsn: str,
    metrics_dsn: str,
    empty_dsn: str,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    canaries, control = Canaries(), Canaries()
    with sentry.listening() as endpoint:
        settings = {
            "BOOKING_SENTRY_DSN": endpoint.dsn,
            "METRICS_SENTRY_DSN": endpoint.dsn,
            "BOOKING_LOG_LEVEL": "debug",
            "METRICS_LOG_LEVEL": "debug",
            "METRICS_WATCHED_SERVICES": "booking_service,canary",
            "OTEL_EXPORTER_OTLP_ENDPOINT": receiver.endpoint,
            "OTEL_TRACES_SAMPLER_ARG": "1",
        }
        with running(Pair(booking_dsn, metrics_dsn, tmp_path, settings)) as pair:
            async with _embedded(empty_dsn, pair.metrics) as (pool, sent):
                await _every_kind_of_call(pool, canaries)
                await _failing_requests(pair, booking_dsn, canaries, control)
                async with track_query(control.text("operation"), tracker=pool.tracker):
                    await pool.fetchval("SELECT 1")
                await _planned(sent)
                outputs = await answers(pair, until=control)
                # The ids of requests are told.
                await receiver.until(lambda spans: found(control, sent_of(spans)))
            outputs += payloads(sent)
        outputs += [("Sentry", body) for body in endpoint.raw]
    outputs += sent_of(receiver.spans)
    outputs += [(f"log of {name}", log) for name, log in logs(tmp_path)]
    outputs += [("own output", "".join(capfd.readouterr()).encode())]
    outputs += await tables(metrics_dsn)
    assert found(canaries, outputs) == set()
    # The same search finds what was planted in the open.
    assert found(control, outputs) >= {
        *("event payload", "Sentry", "log of booking_service", "table event_log", "span"),
        *("table checkpoint_bucket", "GetQueryStats", "ListRecentQueries"),
    }
    # Everything that had an occasion to quote was there.
    assert kinds_of_events(outputs) >= {
        *("query_definitions", "query_timings", "running_query", "query_plan", "rpc_refused"),
    }
    # Samples of errors have nothing of who met them, the session neither.
    errors = [output for output in outputs if output[0] == "GetErrorBreakdown"]
    assert any(b"samples {" in content and b"StartBooking" in content for _, content in errors)
    assert found(control, errors) == set()
    told = b" ".join(content for name, content in outputs if name == "Sentry")
    assert b"StartBooking" in told
    listed = b" ".join(content for name, content in outputs if name == "ListAlerts")
    assert all(rule.encode() in listed for rule in ALERTS)


def sent_of(spans: Iterable[Span]) -> Outputs:
    return [("span", span.SerializeToString()) for span in spans]


@asynccontextmanager
async def _embedded(dsn: str, target: str) -> AsyncIterator[tuple[TrackedPool, list[bytes]]]:
    """A tracked pool as any service embeds it, and the payloads of what it sends."""
    emitter = Emitter("canary")
    sent: list[bytes] = []
    following = emitter.next

    async def remembering() -> Any:
        batch = await following()
        sent.append(batch.payload)
        return batch

    emitter.next = remembering  # type: ignore[method-assign]
    # A database that is down, so that people are told.
    signals = Signals(probe=Probe(result=Probe.UNREACHABLE))
    stream = StreamClient(
        target, service="canary", instance=emitter.instance, signals=lambda: signals
    )
    stream.add_lane(emitter)
    await stream.start()
    try:
        tracker = Tracker([emitter])

        async def beside(settings: Mapping[str, str]) -> Any:
            return await connect(dsn, tracker=tracker, server_settings=dict(settings))

        # The looks are booking_service's; a plan here need not wait for its turn after one.
        inspector = QueryInspector(tracker, beside, emitter, running=False)
        inspector.start()
        try:
            async with TrackedPool(dsn, tracker=tracker, max_size=3) as pool:
                yield pool, sent
        finally:
            await inspector.stop()
    finally:
        await stream.stop(2.0)


async def _every_kind_of_call(pool: TrackedPool, canaries: Canaries) -> None:
    """Values in every kind of statement and call, in those that fail and in those that are slow."""
    await pool.execute(
        "CREATE TABLE t (a text UNIQUE, n bigint, x numeric, d date, r bytea, u uuid,"
        " CHECK (n <> 0))"
    )
    values = canaries.all
    listed = ", ".join(canaries.literals())
    async with pool.acquire() as connection:
        for literal in canaries.literals():
            await connection.execute(f"SELECT {literal}")
            await connection.fetch(f"SELECT 1 WHERE {literal} IS NULL /* {values[0]} */")
        await connection.fetch(f"SELECT {listed}")
        await connection.fetchrow(f"SELECT 1 AS a -- {values[0]}\n")
        await connection.execute(f"SELECT {listed}; COMMENT ON TABLE t IS '{values[0]}'")
        await connection.execute(f"SELECT {listed} /* {'x' * 20_000} */")
        await connection.execute(f"DO $x$ BEGIN PERFORM '{values[0]}'; END $x$")
        await connection.execute(f"PREPARE p AS SELECT {listed}; EXECUTE p; DEALLOCATE p")
        await connection.execute(f"CREATE VIEW v AS SELECT '{values[0]}'::text AS a")
        await connection.execute(f"ALTER TABLE t ADD b text DEFAULT '{values[0]}'")
        await connection.execute(f"SET application_name = '{values[0]}'")
        await connection.execute(f"NOTIFY somewhere, '{values[0]}'")
        insert = "INSERT INTO t VALUES ($1, $2, $3, $4, $5, $6)"
        await connection.execute(insert, *values)
        await connection.executemany(insert, [(canaries.text("many"), *values[1:])])
        await connection.fetchmany(f"{insert} RETURNING a", [(canaries.text("more"), *values[1:])])
        prepared = await connection.prepare(f"SELECT $1::text, '{values[0]}'")
        await prepared.fetch(canaries.text("prepared"))
        async with connection.transaction():
            query = f"SELECT a FROM t WHERE a <> $1 AND a <> '{canaries.text('cursor')}'"
            assert [row async for row in connection.cursor(query, canaries.text("argument"))]
        copied = f"{canaries.text('copied')}\t{canaries.number}\n".encode()
        await connection.copy_to_table("t", source=io.BytesIO(copied), columns=["a", "n"])
        await connection.copy_records_to_table(
            "t", records=[(canaries.text("record"),)], columns=["a"]
        )
        await connection.copy_from_table("t", output=io.BytesIO())
        await connection.copy_from_query(
            f"SELECT '{values[0]}', $1::text", canaries.text("copy"), output=io.BytesIO()
        )
        for failing in _failures(connection, canaries):
            with pytest.raises((asyncpg.PostgresError, asyncpg.InterfaceError)):
                await failing
        with pytest.raises(TimeoutError):
            await connection.execute(f"SELECT pg_sleep(9), '{values[0]}'", timeout=0.05)
    async with track_query("wrapped", query=f"SELECT {listed}", tracker=pool.tracker):
        await pool.fetch("SELECT $1::text", canaries.text("wrapped"))
    planned = NamedQuery(
        f"SELECT a, pg_sleep(0.6) FROM t WHERE a = '{values[0]}' AND n = {canaries.number}",
        model="things",
        operation="slow",
    )
    slow = [
        # Of a statement with a name the plan is that of its text as it is.
        pool.fetch(planned),
        pool.fetch(f"SELECT pg_sleep(1.1), '{values[0]}', $1::text", canaries.text("slow")),
        pool.execute(f"UPDATE t SET b = '{values[0]}' WHERE n = 1 OR pg_sleep(0.3) IS NULL"),
    ]
    await asyncio.gather(*slow)


def _failures(connection: Any, canaries: Canaries) -> Iterator[Awaitable[object]]:
    """Calls whose errors quote a value, in the message, the DETAIL or the statement."""
    text = canaries.text("value")
    yield connection.execute(f"INSERT INTO t (a) VALUES ('{text}')")
    yield connection.execute("INSERT INTO t (a) VALUES ($1)", text)
    yield connection.execute("INSERT INTO t (a, n) VALUES ($1, 0)", canaries.text("check"))
    yield connection.execute(f"SELECT '{text}'::int")
    yield connection.fetch("SELECT $1::text::date", text)
    yield connection.fetch("SELECT $1::int", text)
    yield connection.fetch(f"SELEC '{text}'")
    yield connection.fetch(f"SELECT '{text}")
    yield connection.fetch(f"SELECT * FROM t WHERE a = '{text}' AND missing = '{text}'")
    yield connection.execute(
        f"DO $$ BEGIN RAISE EXCEPTION '{text}' USING DETAIL = '{text}'; END $$"
    )
    yield connection.copy_to_table("t", source=io.BytesIO(f"x\t{text}\n".encode()))
    yield connection.executemany("INSERT INTO t (a) VALUES ($1)", [("y",), (text,)])


async def _failing_requests(pair: Pair, dsn: str, canaries: Canaries, control: Canaries) -> None:
    """Requests with values that are refused, that break a constraint, and that meet a fault whose
    text quotes them; and slow ones, behind a lock whose holder's statement has a value.
    """
    async with grpc.aio.insecure_channel(pair.booking) as channel:
        catalog = catalog_pb2_grpc.CatalogServiceStub(channel)
        booking = booking_pb2_grpc.BookingServiceStub(channel)
        package = await _package(catalog)
        request = _request(package.id)
        held = await booking.StartBooking(request)
        pending = await booking.CompleteBooking(
            booking_pb2.CompleteBookingRequest(booking_id=held.id)
        )
        bad = _request(package.id)
        bad.user_id, bad.quantity = canaries.text("user"), -1
        await _refused(booking.StartBooking(bad))
        price = pending.price
        price.units += 1
        await _refused(
            booking.ConfirmBooking(
                confirm_of(pending, payment_id=canaries.text("payment"), amount=price)
            )
        )
        await _behind_a_lock(catalog, package.id, pair.metrics, dsn, canaries)
        connection = await asyncpg.connect(dsn)
        try:
            for code in ("P0001", "23505", "22P02", "53400", "XX000"):
                await connection.execute(RAISING.format(code=code))
                request = _request(package.id)
                request.user_id = canaries.text("user")
                metadata = [
                    ("x-request-id", control.text("request")),
                    ("x-session-id", control.text("session")),
                ]
                await _refused(booking.StartBooking(request, metadata=metadata))
        finally:
            await connection.close()


RAISING = """
CREATE OR REPLACE FUNCTION quote_the_row() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    RAISE EXCEPTION 'the row is %', NEW USING ERRCODE = '{code}', DETAIL = NEW, HINT = NEW;
END $$;
CREATE OR REPLACE TRIGGER quote_the_row BEFORE INSERT ON bookings
FOR EACH ROW EXECUTE FUNCTION quote_the_row();
"""


async def _behind_a_lock(
    catalog: Any, package_id: str, metrics: str, dsn: str, canaries: Canaries
) -> None:
    """A slow RPC that is seen while it waits for a lock, whose holder's statement is cut by the
    server in the middle of values.
    """
    locker = await asyncpg.connect(dsn)
    try:
        async with locker.transaction():
            await locker.execute("LOCK TABLE packages")
            values = f"'{canaries.text('holder')}', {canaries.number}, "
            await locker.execute(f"SELECT {values * 40} 1")

            async def read() -> None:
                # Again when the server has ended it, should nobody have looked by then.
                while True:
                    request = catalog_pb2.GetPackageRequest(package_id=package_id)
                    await _refused(catalog.GetPackage(request))

            reading = asyncio.create_task(read())
            await _seen_running(metrics)
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)
    finally:
        await locker.close()


async def _seen_running(target: str) -> None:
    async with grpc.aio.insecure_channel(target) as channel, asyncio.timeout(BOUND_S):
        metrics = metrics_pb2_grpc.MetricsServiceStub(channel)
        blocked = False
        while not blocked:
            await asyncio.sleep(0.1)
            slow = await metrics.ListSlowQueries(metrics_pb2.ListSlowQueriesRequest())
            blocked = any(query.look.blockers for query in slow.queries)


async def _refused(call: Awaitable[object]) -> None:
    with contextlib.suppress(grpc.aio.AioRpcError):
        await call


async def _package(catalog: Any) -> catalog_pb2.Package:
    vendor = await catalog.CreateVendor(
        catalog_pb2.CreateVendorRequest(vendor=catalog_pb2.Vendor(name="Costa Tours"))
    )
    package: catalog_pb2.Package = await catalog.CreatePackage(
        catalog_pb2.CreatePackageRequest(package=package_of(vendor.id))
    )
    request = _request(package.id)
    await catalog.SetCapacity(
        catalog_pb2.SetCapacityRequest(
            package_id=package.id,
            ranges=[
                catalog_pb2.CapacityRange(
                    start_date=request.start_date, end_date=request.end_date, capacity=9
                )
            ],
        )
    )
    return package


def _request(package_id: str) -> booking_pb2.StartBookingRequest:
    """One unit for two days that are still to come."""
    year = datetime.now(UTC).year + 1
    return booking_pb2.StartBookingRequest(
        package_id=package_id,
        user_id="ana",
        start_date=Date(year=year, month=6, day=1),
        end_date=Date(year=year, month=6, day=3),
    )


async def _planned(sent: list[bytes]) -> None:
    async with asyncio.timeout(BOUND_S):
        while "query_plan" not in kinds_of_events(payloads(sent)):  # noqa: ASYNC110 - no event tells
            await asyncio.sleep(0.05)


@pytest.mark.parametrize("packing", ["plain", "gzip", "zlib"])
def test_a_planted_value_is_found_in_whatever_form(packing: str) -> None:
    canaries = Canaries()
    for needle in canaries.needles():
        content = b"before " + needle + b" after"
        packed = {
            "plain": content,
            "gzip": gzip.compress(content),
            "zlib": zlib.compress(content),
        }[packing]
        assert found(canaries, [("here", packed), ("there", b"nothing")]) == {"here"}
