"""The span of a query has its name, counts and SQLSTATE, and is made for a recorded trace only."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

from booking_service.monitoring.query_spans import QuerySpans, database_attributes
from metrics_service.client.host import Outcome, QueryDefinition, QueryRecord
from servicekit.tracing.span import Span, SpanKind, new_span_id, new_trace_id, working_for

DSN = "postgresql://grace:secret@db.example:5433/book%20ings?sslmode=require"
DEFINITION = QueryDefinition(7, "bookings", "load", "")
RECORD = QueryRecord(7, 1_000_000, 0, 0, 0, 500, 3, 0, Outcome.OK, None, False, None)


@pytest.fixture
def ended() -> list[Span]:
    return []


@pytest.fixture
def parent(ended: list[Span]) -> Iterator[Span]:
    """The recorded span that the test's task works for."""
    span = Span("rpc", new_trace_id(), new_span_id(), on_end=ended.append)
    with working_for(span):
        yield span


def record(kept: QueryRecord = RECORD) -> None:
    QuerySpans(DSN, lambda: 2_000_000_000).record_query(kept, DEFINITION)


def test_a_query_is_a_span_below_that_of_its_task(parent: Span, ended: list[Span]) -> None:
    record()
    (span,) = ended
    assert (span.trace_id, span.parent_id) == (parent.trace_id, parent.span_id)
    assert (span.name, span.kind, span.error) == ("bookings.load", SpanKind.CLIENT, "")
    assert (span.started_ns, span.ended_ns) == (1_000_000_000, 2_000_000_000)
    assert span.attributes == {
        "db.system.name": "postgresql",
        "db.namespace": "book ings",
        "server.address": "db.example",
        "server.port": 5433,
        "db.query.summary": "bookings.load",
        "db.response.returned_rows": 3,
    }


def test_batches_and_waits_are_attributes(parent: Span, ended: list[Span]) -> None:
    record(replace(RECORD, batch_size=20, pool_wait_us=1_500))
    (span,) = ended
    assert span.attributes["db.operation.batch.size"] == 20
    assert span.attributes["farehold.pool_wait_us"] == 1_500


@pytest.mark.parametrize(
    ("outcome", "sqlstate", "error"),
    [
        (Outcome.ERROR, "23505", "23505"),
        (Outcome.CONNECTION_LOST, "57P01", "57P01"),
        (Outcome.CONNECTION_LOST, None, "connection_lost"),
        (Outcome.TIMEOUT, None, "timeout"),
        (Outcome.CANCELLED, None, "cancelled"),
        (Outcome.MISUSE, None, "misuse"),
        (Outcome.ERROR, None, "_OTHER"),
    ],
)
def test_a_failed_query_says_how(
    parent: Span, ended: list[Span], outcome: Outcome, sqlstate: str | None, error: str
) -> None:
    record(replace(RECORD, outcome=outcome, sqlstate=sqlstate))
    (span,) = ended
    assert (span.error, span.attributes["error.type"]) == (error, error)
    assert span.attributes.get("db.response.status_code") == sqlstate


def test_what_the_driver_runs_for_itself_is_no_span(parent: Span, ended: list[Span]) -> None:
    record(replace(RECORD, internal=True))
    assert ended == []


def test_without_a_recorded_span_that_still_runs_there_is_none(ended: list[Span]) -> None:
    record()
    carried = Span("rpc", new_trace_id(), new_span_id(), recorded=False, on_end=ended.append)
    over = Span("rpc", new_trace_id(), new_span_id(), on_end=lambda _: None)
    over.end()
    for span in (carried, over):
        with working_for(span):
            record()
    assert ended == []


@pytest.mark.parametrize(
    ("dsn", "host", "port", "name"),
    [
        ("postgresql://db/x", "db", 5432, "x"),
        ("postgresql:///x", "localhost", 5432, "x"),
        ("postgresql://[::1]:6000/x", "::1", 6000, "x"),
    ],
)
def test_the_database_is_named_by_its_address(dsn: str, host: str, port: int, name: str) -> None:
    found = database_attributes(dsn)
    assert (found["server.address"], found["server.port"], found["db.namespace"]) == (
        *(host, port, name),
    )
