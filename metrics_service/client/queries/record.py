"""Defines what is kept of a query that ended: durations, counts and codes, never an argument, a
literal, an exception or a frame.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum
from typing import Final, Protocol

from metrics_service.measure.thresholds import of_the_server

MAX_TEXT_BYTES: Final = 2048
"""The longest normalised statement of a definition, in UTF-8 bytes."""

TraceIdProvider = Callable[[], bytes | None]
"""Returns the 16 bytes of the current trace, or None outside one; by default that of the RPC."""


class Outcome(IntEnum):
    """How a query ended; has the numbers of tracking.v1.QueryOutcome."""

    OK = 1
    ERROR = 2
    TIMEOUT = 3
    CANCELLED = 4
    CONNECTION_LOST = 5
    MISUSE = 6


@dataclass(slots=True)
class QueryRecord:
    """One query, or one operation that wraps several.

    started_us is UTC microseconds since the epoch; every duration is microseconds by a monotonic
    clock. batch_size is the number of argument sets of an executemany and 0 otherwise. trace_id is
    16 bytes or None. internal marks what the driver, the pool or a poll ran for itself, and the
    parts of a wrapped operation: counted apart from the user's queries. capture_id is that of the
    observations of the query while it ran, 0 without one.
    """

    fingerprint: int
    started_us: int
    pool_wait_us: int
    connect_us: int
    cancel_wait_us: int
    execute_us: int
    rows: int
    batch_size: int
    outcome: Outcome
    sqlstate: str | None
    internal: bool
    trace_id: bytes | None
    capture_id: int = 0


@dataclass(frozen=True, slots=True)
class QueryDefinition:
    """The name or normal form of a fingerprint.

    text is normalised, without any literal, at most MAX_TEXT_BYTES, and empty for a named query.
    """

    fingerprint: int
    model: str
    operation: str
    text: str

    @property
    def label(self) -> str:
        """Such as "bookings.check_availability"; only the operation if there is no model."""
        return f"{self.model}.{self.operation}" if self.model else self.operation


class QuerySink(Protocol):
    """Takes the records of queries, in the event loop's thread and in order of completion."""

    def record_query(self, record: QueryRecord, definition: QueryDefinition) -> None:
        """Take one record, which other sinks also get: must not change it, block or raise."""


class NamedQuery(str):
    """A statement with the name of its timings; runs like any str on a TrackedConnection.

    `internal` marks statements that the service runs for itself, such as polls and probes.
    """

    __slots__ = ("definition", "internal", "model", "operation", "session_state", "sql")

    model: str
    operation: str
    internal: bool
    definition: QueryDefinition
    session_state: bool
    sql: str

    def __new__(
        cls, text: str, *, model: str, operation: str, internal: bool = False
    ) -> NamedQuery:
        """Name a statement: text is SQL, and "model.operation" its label."""
        self = super().__new__(cls, text)
        self.model = model
        self.operation = operation
        self.internal = internal
        self.definition = named_definition(model, operation)
        self.session_state = leaves_session_state(text)
        # asyncpg takes statements as exact str only.
        self.sql = str.__str__(self)
        return self


def named_definition(model: str, operation: str) -> QueryDefinition:
    """Return the definition of a name; its fingerprint depends only on model and operation."""
    return QueryDefinition(fingerprint_of(f"name:{model}.{operation}"), model, operation, "")


def is_failed(outcome: Outcome, sqlstate: str | None) -> bool:
    """Whether a query counts as failed for database health (not: whether it raised).

    Failed are a lost connection, a timeout, and errors of the server. A query that its
    caller cancelled has its own outcome.
    """
    if outcome is Outcome.ERROR:
        return sqlstate is not None and of_the_server(sqlstate)
    return outcome is Outcome.TIMEOUT or outcome is Outcome.CONNECTION_LOST


def leaves_session_state(text: str) -> bool:
    """Whether a statement may outlive its transaction in the session: a setting, a role, a
    listener, a cursor, a prepared statement, a temporary table, an advisory lock, a random seed, or
    a block whose content is not parsed. May return True without need; what functions and triggers
    of the application do is not detected.
    """
    text = text.lower()
    if _STATE_COMMAND.match(text) or (";" in text and _LATER_STATE_COMMAND.search(text)):
        return True
    return any(name in text for name in _STATE_NAMES) and _STATE_USE.search(text) is not None


def fingerprint_of(text: str) -> int:
    """Return 64 bits of BLAKE2b of the text: the same in every process and version; never 0."""
    digest = hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "big") or 1


# At the start of a statement, after any comments; nested and unclosed comments always match. LOCAL
# and TRANSACTION are keywords only before another word: local.tenant is a setting of the session.
# What is skipped is never given back; the shorter `*+` is broken before Python 3.11.5 (gh-106052).
_COMMAND: Final = (
    r"(?=((?:\s|--[^\n\r]*[\n\r]|/\*(?:(?!/\*|\*/).)*\*/)*))\1"
    r"(?:/\*|--|(?:set(?![ \t\n\r\f\v]+(?:local|transaction)[ \t\n\r\f\v]+[a-z_\"])"
    r"|reset|listen|unlisten|load|do|call|prepare|discard)\b)"
)
_STATE_COMMAND: Final = re.compile(_COMMAND, re.DOTALL)
_LATER_STATE_COMMAND: Final = re.compile(f";{_COMMAND}", re.DOTALL)

# Searched one by one first, which is much faster. Any name may be written as U&"...".
_STATE_NAMES: Final = (
    *("declare", "temp", "pg_settings", "set_config", "advisory_", "setseed", 'u&"'),
)
# A set_config whose last argument is the word true, after a name and a value without quotes
# inside, ends with the transaction.
_STATE_USE: Final = re.compile(
    r"\b(?:declare|temp|temporary|pg_settings|setseed)\b|\bpg_temp"
    r"|\bpg_(?:try_)?advisory_(?:un)?lock|\bu&\""
    r"|\bset_config\b(?!\s*\(\s*(?:'[\w.]+'|\$\d+),\s*(?:'[^'\\]*'|\$\d+),\s*true\s*\))"
)
