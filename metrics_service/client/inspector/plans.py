"""Captures the generic plans of slow statements, each at most once in an interval. A statement is
planned without values for its parameters and never executed.
"""

# The signatures with a timeout are asyncpg's.
# ruff: noqa: ASYNC109

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Callable
from itertools import count
from typing import Any, Final, NamedTuple, Protocol

from metrics_service.client.inspector.plan_text import plan_text
from metrics_service.client.queries.normalise import MAX_PARSED_CHARS
from metrics_service.client.queries.record import NamedQuery, QueryDefinition

OLDEST_SERVER: Final = 16
"""The oldest major version of PostgreSQL whose plans are captured."""

MAX_PENDING: Final = 32
"""The most statements that wait for their turn."""

RETRY_NS: Final = 30_000_000_000
"""The time until the next attempt for a statement whose tables were locked."""

MAX_REMEMBERED: Final = 1_000
"""The most fingerprints whose last turn is remembered."""


class Connection(Protocol):
    """The part of an asyncpg connection that is used here."""

    async def fetch(self, query: str, *args: Any, timeout: float | None = None) -> list[Any]: ...
    async def fetchval(self, query: str, *args: Any, timeout: float | None = None) -> Any: ...
    def get_server_version(self) -> Any: ...
    def is_closed(self) -> bool: ...
    def terminate(self) -> None: ...


class Waiting(NamedTuple):
    """A statement that waits for its plan, until not_before_ns of a monotonic clock at least."""

    definition: QueryDefinition
    source: str
    not_before_ns: int = 0


class PlanQueue:
    """Slow statements without a plan in this interval, oldest first."""

    def __init__(self, interval_s: float, monotonic_ns: Callable[[], int]) -> None:
        self.dropped = 0
        self._interval_ns = round(interval_s * 1e9)
        self._monotonic_ns = monotonic_ns
        self._pending: OrderedDict[int, Waiting] = OrderedDict()
        self._turns_ns: OrderedDict[int, int] = OrderedDict()

    def __bool__(self) -> bool:
        """Whether a statement can be planned now."""
        return self._next() is not None

    def add(self, statement: Any) -> None:
        """Queue a slow Statement or NamedQuery, unless it had its turn in this interval."""
        definition: QueryDefinition = statement.definition
        fingerprint = definition.fingerprint
        if fingerprint in self._pending:
            return
        turn_ns = self._turns_ns.get(fingerprint)
        if turn_ns is not None and self._monotonic_ns() - turn_ns < self._interval_ns:
            return
        source = source_of(statement)
        if source is None:
            return
        self._wait(Waiting(definition, source))

    def take(self) -> Waiting | None:
        """Return the next statement, if there is one now; it is not added again in this interval,
        whether or not it could be planned.
        """
        fingerprint = self._next()
        if fingerprint is None:
            return None
        self._turns_ns[fingerprint] = self._monotonic_ns()
        self._turns_ns.move_to_end(fingerprint)
        if len(self._turns_ns) > MAX_REMEMBERED:
            self._turns_ns.popitem(last=False)
        return self._pending.pop(fingerprint)

    def postpone(self, taken: Waiting) -> None:
        """Queue a statement that was taken for another attempt later."""
        self._wait(taken._replace(not_before_ns=self._monotonic_ns() + RETRY_NS))

    def _wait(self, waiting: Waiting) -> None:
        if len(self._pending) >= MAX_PENDING:
            self._pending.popitem(last=False)
            self.dropped += 1
        self._pending[waiting.definition.fingerprint] = waiting

    def _next(self) -> int | None:
        now_ns = self._monotonic_ns()
        return next(
            (key for key, waiting in self._pending.items() if waiting.not_before_ns <= now_ns), None
        )


def source_of(statement: Any) -> str | None:
    """Return the SQL to plan: that of a NamedQuery, else the normal form with its placeholders.
    None if that is not a whole statement that has a plan.
    """
    if isinstance(statement, NamedQuery):
        source = statement.sql
        masked = False
    else:
        source = statement.definition.text
        # "?" masks a value without a placeholder, "..." ends a text that was cut.
        masked = "?" in source or source.endswith("...")
    planned = _PLANNED.match(source) is not None
    return source if planned and not masked and len(source) <= MAX_PARSED_CHARS else None


async def generic_plan(connection: Connection, source: str) -> str:
    """Return the plan of one statement as text. Raises what asyncpg raises, and ValueError.

    By PREPARE and EXPLAIN EXECUTE, on a connection whose plan_cache_mode is force_generic_plan:
    EXPLAIN (GENERIC_PLAN) makes the same plan, but the extended protocol, the only one that refuses
    a second statement after a semicolon, would ask for values for its parameters, and plan with
    them. The values here are not used.
    """
    name = f"inspected_{next(_numbers)}"
    await connection.fetch(_named(f"PREPARE {name} AS {source}", "prepare"))
    deallocate = _named(f"DEALLOCATE {name}", "deallocate")
    try:
        parameters = await connection.fetchval(_PARAMETERS, name)
        values = f"({', '.join(['NULL'] * parameters)})" if parameters else ""
        explain = _named(f"EXPLAIN (FORMAT JSON) EXECUTE {name}{values}", "explain")
        document = await connection.fetchval(explain)
    except Exception:
        # Not after a cancellation, which must end at once and ends the connection.
        await connection.fetch(deallocate)
        raise
    await connection.fetch(deallocate)
    return plan_text(document)


def _named(text: str, operation: str) -> NamedQuery:
    return NamedQuery(text, model="inspector", operation=operation, internal=True)


_numbers: Final = count(1)
_PARAMETERS: Final = _named(
    "SELECT cardinality(parameter_types) FROM pg_prepared_statements WHERE name = $1", "parameters"
)
_PLANNED: Final = re.compile(
    r"(?=((?:\s|--[^\n]*\n|/\*(?:(?!/\*|\*/).)*\*/)*))\1(?:select|insert|update|delete|merge|with)\b",
    re.IGNORECASE | re.DOTALL,
)
