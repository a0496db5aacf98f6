"""One trace of a real StartBooking: the RPC, the group that commits it, and the group's queries."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urlsplit

import asyncpg
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status
from opentelemetry.semconv.attributes import db_attributes, server_attributes

from booking_service.storage.sql import QUERIES
from metrics_service.client.host import QueryDefinition, QueryRecord
from protos.booking.v1 import catalog_pb2
from protos.metrics.v1 import metrics_pb2
from tests.booking.running_service import RunningService, refusal_of, running, start_of
from tests.metrics.running_service import BOUND_S
from tests.metrics.running_service import running as running_metrics
from tests.servicekit.tracing.receiver import Receiver, attributes, receiving

START = "booking.v1.BookingService/StartBooking"
GROUP = "booking.group_commit"


@asynccontextmanager
async def traced(dsn: str, receiver: Receiver, **environ: str) -> AsyncIterator[RunningService]:
    """A service that sends its spans to `receiver`, and records only what its callers record."""
    async with running(
        dsn,
        OTEL_EXPORTER_OTLP_ENDPOINT=receiver.endpoint,
        OTEL_TRACES_SAMPLER_ARG="0",
        **environ,
    ) as service:
        yield service


def trace(number: int) -> tuple[tuple[str, str]]:
    """The metadata of a call whose caller records the trace of that number."""
    return (("traceparent", f"00-{number:032x}-{number:016x}-01"),)


def ids(found: Any) -> tuple[bytes, bytes]:
    """What a link names, or what names a span."""
    return found.trace_id, found.span_id


async def test_a_start_is_its_rpc_its_group_and_the_group_s_queries(booking_dsn: str) -> None:
    async with receiving() as receiver:
        async with traced(booking_dsn, receiver) as service:
            package = await service.package()
            assert receiver.spans == []
            await service.booking.StartBooking(start_of(package.id), metadata=trace(7))
        await receiver.until(lambda spans: len(spans) > 2)
    (rpc,), (group,) = receiver.named(START), receiver.named(GROUP)
    queries = [span for span in receiver.spans if span not in (rpc, group)]

    assert rpc.trace_id.hex() == f"{7:032x}"
    assert rpc.parent_span_id.hex() == f"{7:016x}"
    # The group is the root of its own trace.
    assert group.trace_id != rpc.trace_id
    assert (group.parent_span_id, group.kind) == (b"", Span.SPAN_KIND_INTERNAL)
    assert attributes(group.attributes) == {"farehold.group.size": 1}
    # Both link to each other.
    assert [ids(link) for link in group.links] == [ids(rpc)]
    assert [ids(link) for link in rpc.links] == [ids(group)]
    told = attributes(rpc.links[0].attributes)
    assert told["farehold.group.size"] == 1
    assert int(told["farehold.queue_wait_us"]) >= 0

    address = urlsplit(booking_dsn)
    names = [span.name for span in queries]
    assert {"packages.lock_free", "inventory.change"} <= set(names), names
    assert set(names) <= set(QUERIES)
    for span in queries:
        assert (span.trace_id, span.parent_span_id) == ids(group)
        assert span.kind == Span.SPAN_KIND_CLIENT
        assert group.start_time_unix_nano <= span.start_time_unix_nano + 1_000
        assert span.start_time_unix_nano <= span.end_time_unix_nano <= group.end_time_unix_nano
        found = attributes(span.attributes)
        assert found[db_attributes.DB_SYSTEM_NAME] == "postgresql"
        assert found[db_attributes.DB_QUERY_SUMMARY] == span.name
        assert found[db_attributes.DB_NAMESPACE] == address.path[1:]
        assert found[server_attributes.SERVER_ADDRESS] == address.hostname
        assert found[server_attributes.SERVER_PORT] == address.port
    # Neither users nor bookings nor SQL.
    sent = b"".join(span.SerializeToString() for span in receiver.spans)
    assert not any(word in sent for word in (b"ana", package.id.encode(), b"SELECT", b"select"))


async def test_calls_that_are_committed_together_share_a_group(booking_dsn: str) -> None:
    async with receiving() as receiver:
        async with traced(booking_dsn, receiver) as service:
            package = await service.package()
            calls = [
                service.booking.StartBooking(start_of(package.id, user_id=f"u-{n}"), metadata=meta)
                # One of the callers has no trace.
                for n, meta in enumerate([trace(1), trace(2), trace(3), ()])
            ]
            await asyncio.gather(*calls)
        await receiver.until(lambda spans: len(spans) > 4)
    rpcs, groups = receiver.named(START), receiver.named(GROUP)
    assert len(rpcs) == 3
    assert sorted(ids(link) for group in groups for link in group.links) == sorted(map(ids, rpcs))
    for group in groups:
        linked = [rpc for rpc in rpcs if ids(rpc) in [ids(link) for link in group.links]]
        assert all([ids(link) for link in rpc.links] == [ids(group)] for rpc in linked)
        size = attributes(group.attributes)["farehold.group.size"]
        assert int(size) >= len(linked)
        assert all(attributes(r.links[0].attributes)["farehold.group.size"] == size for r in linked)


async def test_a_read_has_its_queries_below_it(booking_dsn: str) -> None:
    async with receiving() as receiver:
        async with traced(booking_dsn, receiver) as service:
            package = await service.package()
            request = catalog_pb2.GetPackageRequest(package_id=package.id)
            await service.catalog.GetPackage(request, metadata=trace(5))
        await receiver.until(lambda spans: len(spans) > 1)
    (rpc,) = receiver.named("booking.v1.CatalogService/GetPackage")
    queries = [span for span in receiver.spans if span is not rpc]
    assert queries
    assert all((span.trace_id, span.parent_span_id) == ids(rpc) for span in queries)
    assert not rpc.links


class Traces:
    """A sink of query records that keeps the trace of each user's query."""

    def __init__(self) -> None:
        self.of: list[bytes | None] = []

    def record_query(self, record: QueryRecord, definition: QueryDefinition) -> None:
        if not record.internal and definition.label in QUERIES:
            self.of.append(record.trace_id)


async def test_the_records_of_queries_carry_the_trace_of_the_caller(booking_dsn: str) -> None:
    kept = Traces()
    async with running(booking_dsn) as service:
        package = await service.package()
        service.server.database.tracker.add_sink(kept)
        await service.booking.StartBooking(start_of(package.id), metadata=trace(9))
        of_start, kept.of = {*kept.of}, []
        await service.booking.StartBooking(start_of(package.id))
    # Nothing is sent anywhere here: the group has no trace of its own.
    assert of_start == {(9).to_bytes(16, "big")}
    assert {*kept.of} == {None}


async def test_where_traces_are_sent_they_carry_that_of_the_group(booking_dsn: str) -> None:
    kept = Traces()
    async with receiving() as receiver:
        async with traced(booking_dsn, receiver) as service:
            package = await service.package()
            service.server.database.tracker.add_sink(kept)
            await service.booking.StartBooking(start_of(package.id), metadata=trace(9))
        await receiver.until(lambda spans: len(spans) > 2)
    (group,) = receiver.named(GROUP)
    assert {*kept.of} == {group.trace_id}


async def test_a_group_that_fails_says_so_without_the_driver_s_text(booking_dsn: str) -> None:
    async with receiving() as receiver:
        async with traced(booking_dsn, receiver) as service:
            package = await service.package()
            pool = service.server.database.pool
            await pool.execute("ALTER TABLE package_days RENAME TO secret_name")
            call = service.booking.StartBooking(start_of(package.id), metadata=trace(3))
            refusal = await refusal_of(call)
        await receiver.until(lambda spans: len(spans) > 2)
    assert refusal.reason == "INTERNAL"
    (rpc,), groups = receiver.named(START), receiver.named(GROUP)
    assert attributes(rpc.attributes)["error.type"] == "INTERNAL"
    assert rpc.status.code == Status.STATUS_CODE_ERROR
    assert [group.status.code for group in groups] == [Status.STATUS_CODE_ERROR]
    failed = [
        attributes(span.attributes)
        for span in receiver.spans
        if span.kind == Span.SPAN_KIND_CLIENT and span.status.code == Status.STATUS_CODE_ERROR
    ]
    assert {(each["error.type"], each["db.response.status_code"]) for each in failed} == {
        ("42P01", "42P01")
    }
    assert not any(b"secret_name" in span.SerializeToString() for span in receiver.spans)


async def test_a_slow_query_is_listed_with_its_caller_s_trace(
    booking_dsn: str, metrics_dsn: str
) -> None:
    async with (
        running_metrics(metrics_dsn) as metrics,
        running(booking_dsn, BOOKING_METRICS_TARGET=metrics.target) as service,
    ):
        package = await service.package()
        holder = await asyncpg.connect(booking_dsn)
        async with holder.transaction():
            await holder.execute("SELECT FROM packages FOR UPDATE")
            # It waits for the lock until it is refused.
            call = service.booking.StartBooking(start_of(package.id), metadata=trace(11))
            assert (await refusal_of(call)).reason == "OVERLOADED"
        await holder.close()

        async def traces() -> set[str]:
            found = await metrics.metrics.ListSlowQueries(metrics_pb2.ListSlowQueriesRequest())
            return {each.query.trace_id for each in found.queries}

        async with asyncio.timeout(BOUND_S):
            while True:
                if f"{11:032x}" in await traces():
                    break
                await asyncio.sleep(0.05)
