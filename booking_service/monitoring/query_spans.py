"""Records each query of a traced RPC, or of a traced group, as a span.

A span has the statement's name or normal form, and counts: no text of SQL, argument or literal.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final
from urllib.parse import unquote, urlsplit

from metrics_service.client.host import Outcome, QueryDefinition, QueryRecord
from servicekit.database_url import DEFAULT_PORT
from servicekit.tracing.span import Attributes, SpanKind, current_span

_FAILED: Final = {
    Outcome.TIMEOUT: "timeout",
    Outcome.CANCELLED: "cancelled",
    Outcome.CONNECTION_LOST: "connection_lost",
    Outcome.MISUSE: "misuse",
}


class QuerySpans:
    """A sink of query records, which makes a span of each that is the user's own.

    The span ends when its record is made, which is when the query returns.
    """

    def __init__(self, dsn: str, now_ns: Callable[[], int] = time.time_ns) -> None:
        self._database = database_attributes(dsn)
        self._now_ns = now_ns

    def record_query(self, record: QueryRecord, definition: QueryDefinition) -> None:
        """Make the span of a query, if the task that ran it works for a span that is recorded."""
        parent = current_span.get()
        if parent is None or not parent.recorded or parent.ended_ns or record.internal:
            return
        span = parent.child(definition.label, SpanKind.CLIENT, record.started_us * 1000)
        attributes = span.attributes
        attributes.update(self._database)
        attributes["db.query.summary"] = definition.label
        attributes["db.response.returned_rows"] = record.rows
        if record.batch_size > 1:
            attributes["db.operation.batch.size"] = record.batch_size
        if record.pool_wait_us:
            attributes["farehold.pool_wait_us"] = record.pool_wait_us
        if record.sqlstate is not None:
            attributes["db.response.status_code"] = record.sqlstate
        if record.outcome is not Outcome.OK:
            span.error = record.sqlstate or _FAILED.get(record.outcome, "_OTHER")
        span.end(self._now_ns())


def database_attributes(dsn: str) -> Attributes:
    """Return what every query span says of its database: host, port and name, nothing else."""
    parts = urlsplit(dsn)
    return {
        "db.system.name": "postgresql",
        "db.namespace": unquote(parts.path.lstrip("/")),
        "server.address": parts.hostname or "localhost",
        "server.port": parts.port or DEFAULT_PORT,
    }
