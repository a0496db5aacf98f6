"""Queries for a health window."""

from __future__ import annotations

from metrics_service.client.health import (
    Figures,
    HealthWindow,
)
from metrics_service.client.queries.record import Outcome, QueryDefinition, QueryRecord

DEFINITION = QueryDefinition(1, "bookings", "create", "")
OTHER = QueryDefinition(2, "packages", "search", "")
MS = 1000


def record(
    execute_us: int,
    outcome: Outcome = Outcome.OK,
    sqlstate: str | None = None,
    internal: bool = False,
) -> QueryRecord:
    return QueryRecord(1, 0, 0, 0, 0, execute_us, 1, 0, outcome, sqlstate, internal, None)


def feed(window: HealthWindow, *executes_us: int) -> Figures:
    for execute_us in executes_us:
        window.record_query(record(execute_us), DEFINITION)
    return window.figures()
