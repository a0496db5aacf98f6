"""The generic plans of slow statements, each at most once in an interval. A statement is planned,
without values for its parameters, and never executed.
"""

# The signatures with a time-out are asyncpg's.
# ruff: noqa: ASYNC109

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Callable
from itertools import count
from typing import Any, Final, NamedTuple, Protocol

from metrics_service.client.inspector.plan_text import plan_text
from metrics_service.client.queries.normalise import PARSED_MAX_CHARS
from metrics_service.client.queries.record import NamedQuery, QueryDefinition

OLDEST_SERVER: Final = 16
"""The oldest major version of PostgreSQL that is asked for plans."""

PENDING_MAX: Final = 32
"""Statements that wait for their turn."""

PUT_OFF_NS: Final = 30_000_000_000
"""Until a statement is tried again whose tables somebody had locked."""

REMEMBERED_MAX: Final = 1_000
"""Fingerprints whose last turn is remembered."""


class Connection(Protocol):
    """As much of asyncpg's as is used."""

    async def fetch(self, query: str, *args: Any, timeout: float | None = None) -> list[Any]: ...
    async def fetchval(self, query: str, *args: Any, timeout: float | None = None) -> Any: ...
    def get_server_version(self) -> Any: ...
    def is_closed(self) -> bool: ...
    def terminate(self) -> None: ...


class Waiting(NamedTuple):
    """A statement that waits for its plan, until a time by a monotonic clock at least."""

    definition: QueryDefinition
    source: str
    not_before_ns: int = 0


class PlanQueue:
    """Slow statements that have no plan of this interval yet, oldest first."""

    def __init__(self, interval_s: float, monotonic_ns: Callable[[], int]) -> None:
        self.dropped = 0
        self._interval_ns = round(interval_s * 1e9)
        self._monotonic_ns = monotonic_ns
        self._pending: OrderedDict[int, Waiting] = OrderedDict()
        self._turns_ns: OrderedDict[int, int] = OrderedDict()

    def __bool__(self) -> bool:
        """Whether one is to be planned now."""
        return self._next() is not None

    def add(self, statement: Any) -> None:
        """A Statement or NamedQuery was slow."""
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
        """The next one, if there is one now; it is not added again in this interval, whatever comes
        of it.
        """
        fingerprint = self._next()
        if fingerprint is None:
            return None
        self._turns_ns[fingerprint] = self._monotonic_ns()
        self._turns_ns.move_to_end(fingerprint)
        if len(self._turns_ns) > REMEMBERED_MAX:
            self._turns_ns.popitem(last=False)
        return self._pending.pop(fingerprint)

    def put_off(self, taken: Waiting) -> None:
        """One that was taken is to be tried again later."""
        self._wait(taken._replace(not_before_ns=self._monotonic_ns() + PUT_OFF_NS))

    def _wait(self, waiting: Waiting) -> None:
        if len(self._pending) >= PENDING_MAX:
            self._pending.popitem(last=False)
            self.dropped += 1
        self._pending[waiting.definition.fingerprint] = waiting

    def _next(self) -> int | None:
        now_ns = self._monotonic_ns()
        return next(
            (key for key, waiting in self._pending.items() if waiting.not_before_ns <= now_ns), None
        )


def source_of(statement: Any) -> str | None:
    """What to plan: the SQL of a NamedQuery, else the normal form with its placeholders; None where
    that is not one whole statement that has a plan.
    """
    if isinstance(statement, NamedQuery):
        source = statement.sql
        masked = False
    else:
        source = statement.definition.text
        # "?" is what no placeholder could be found for, "..." where the text was cut.
        masked = "?" in source or source.endswith("...")
    planned = _PLANNED.match(source) is not None
    return source if planned and not masked and len(source) <= PARSED_MAX_CHARS else None


async def generic_plan(connection: Connection, source: str) -> str:
    """The plan of one statement as text. Raises what asyncpg does, and ValueError.

    By PREPARE and EXPLAIN EXECUTE, on a connection whose plan_cache_mode is force_generic_plan:
    EXPLAIN (GENERIC_PLAN) makes the same plan, but the extended protocol, the only one that refuses
    a second statement after a semicolon, would ask for values for its parameters, and plan with
    them. The values here are not looked at.
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
        # Not when it is cancelled: that has to end at once, and ends the connection.
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
    r"(?:\s|--[^\n]*\n|/\*(?:(?!/\*|\*/).)*\*/)*+(?:select|insert|update|delete|merge|with)\b",
    re.IGNORECASE | re.DOTALL,
)
