"""Maps a statement to the definition of its timings: a name as it is, any other text by its normal
form, in tables whose size does not depend on what an application sends.
"""

from __future__ import annotations

import re
from collections import OrderedDict
from dataclasses import dataclass
from typing import Final

from metrics_service.client.queries.normalise import MAX_PARSED_CHARS, normalise
from metrics_service.client.queries.record import (
    NamedQuery,
    QueryDefinition,
    fingerprint_of,
    leaves_session_state,
    named_definition,
)


@dataclass(frozen=True, slots=True)
class Statement:
    """How a statement is recorded. A NamedQuery has the same attributes."""

    definition: QueryDefinition
    internal: bool
    session_state: bool


def driver_statement(model: str, operation: str) -> Statement:
    """Make a statement that the driver or the pool runs for itself: always internal."""
    return Statement(named_definition(model, operation), True, False)


ENTRY_BYTES: Final = 500
"""The approximate memory of an entry of the tables without its texts."""

OTHER: Final = named_definition("sql", "other")
"""Collects the fingerprints that have no entry."""

ACQUIRE: Final = driver_statement("pool", "acquire")
CONNECT: Final = driver_statement("pool", "connect")
INITIALISE: Final = driver_statement("pool", "initialise")
SET_UP: Final = Statement(INITIALISE.definition, True, False)
RESET: Final = driver_statement("pool", "reset")
TAKE_BACK: Final = driver_statement("pool", "take_back")
CONNECTION_LOST: Final = driver_statement("pool", "connection_lost")
INTROSPECT: Final = driver_statement("driver", "introspect")
UNTRACKED: Final = driver_statement("driver", "untracked")


def set_up_by(query: str) -> Statement:
    """Return how to record a query of the pool's setup=; its session state ends at the release."""
    return _SET_UP_WITH_STATE if _may_leave_session_state(query) else SET_UP


def _may_leave_session_state(query: str) -> bool:
    if isinstance(query, NamedQuery):
        return query.session_state
    # Too long to search each time; a reset too many is safe.
    return len(query) > MAX_PARSED_CHARS or leaves_session_state(query)


_SET_UP_WITH_STATE: Final = Statement(INITIALISE.definition, True, True)


class Fingerprints:
    """Holds at most `limit` definitions. When it is full, a new one counts as OTHER until its
    second use, and then replaces the least recently used: a flood of statements that are each used
    once evicts nothing.
    """

    def __init__(self, limit: int = 500) -> None:
        self._limit = limit
        self._known: OrderedDict[int, QueryDefinition] = OrderedDict()
        self._seen_once: OrderedDict[int, None] = OrderedDict()
        self.evicted = 0
        self.others = 0

    def admit(self, definition: QueryDefinition) -> QueryDefinition:
        """Return the definition to record under: the known one of this fingerprint, or OTHER."""
        fingerprint = definition.fingerprint
        if self.touch(fingerprint):
            return self._known[fingerprint]
        if len(self._known) >= self._limit:
            if fingerprint not in self._seen_once:
                self._seen_once[fingerprint] = None
                if len(self._seen_once) > self._limit:
                    self._seen_once.popitem(last=False)
                self.others += 1
                return OTHER
            del self._seen_once[fingerprint]
            self._known.popitem(last=False)
            self.evicted += 1
        self._known[fingerprint] = definition
        return definition

    def touch(self, fingerprint: int) -> bool:
        """Mark a fingerprint as used; False if it has no entry."""
        try:
            self._known.move_to_end(fingerprint)
        except KeyError:
            return False
        return True

    def __len__(self) -> int:
        return len(self._known)


class StatementTable:
    """Holds statements by their text; parameterised statements are normalised once."""

    def __init__(
        self, *, max_fingerprints: int = 500, max_texts: int = 1000, max_chars: int = 2_000_000
    ) -> None:
        self.fingerprints = Fingerprints(max_fingerprints)
        self._texts: OrderedDict[str, Statement] = OrderedDict()
        self._max_texts = max_texts
        self._max_chars = max_chars
        self._chars = 0
        self._operations: OrderedDict[tuple[str, str, str], QueryDefinition] = OrderedDict()

    def statement(self, text: str) -> Statement:
        """Return how to record one execution of a text. The next execution may be recorded
        differently, once the text has an entry.
        """
        if len(text) > MAX_PARSED_CHARS:
            # Too long to hash or to search each time; a reset too many is safe.
            return self._admitted(self._new(text))
        known = self._texts.get(text)
        if known is not None:
            self._texts.move_to_end(text)
            if self.fingerprints.touch(known.definition.fingerprint):
                return known
            return self._admitted(known)
        common = _COMMON_CONTROL.get(text)
        if common is not None:
            return common
        control = _CONTROL.fullmatch(text)
        if control is not None:
            return _CONTROL_STATEMENTS[_control_name(control)]
        statement = self._new(text)
        self._remember(text, statement)
        return self._admitted(statement)

    def operation(self, model: str, operation: str, query: str) -> QueryDefinition:
        """Return the definition of an operation that a caller names; query is SQL or empty, and is
        kept normalised.
        """
        if isinstance(query, NamedQuery):
            query = ""
        key = (model, operation, query)
        known = self._operations.get(key)
        if known is None:
            text = normalise(query).text if query else ""
            if text:
                label = f"name:{model}.{operation}:{text}"
                known = QueryDefinition(fingerprint_of(label), model, operation, text)
            else:
                known = named_definition(model, operation)
            if len(query) <= MAX_PARSED_CHARS:
                self._operations[key] = known
                if len(self._operations) > self._max_texts // 4:
                    self._operations.popitem(last=False)
        return self.fingerprints.admit(known)

    def __len__(self) -> int:
        """Return the number of remembered texts."""
        return len(self._texts)

    @property
    def bytes_held(self) -> int:
        """The approximate memory of the tables: each text once as it is and once normalised."""
        entries = len(self._texts) + len(self._operations) + len(self.fingerprints)
        return 2 * self._chars + ENTRY_BYTES * entries

    def _admitted(self, statement: Statement) -> Statement:
        definition = self.fingerprints.admit(statement.definition)
        if definition is statement.definition:
            return statement
        return Statement(definition, statement.internal, statement.session_state)

    def _new(self, text: str) -> Statement:
        normal = normalise(text)
        definition = QueryDefinition(normal.fingerprint, "sql", normal.operation, normal.text)
        return Statement(definition, False, _may_leave_session_state(text))

    def _remember(self, text: str, statement: Statement) -> None:
        self._texts[text] = statement
        self._chars += len(text)
        while len(self._texts) > self._max_texts or self._chars > self._max_chars:
            forgotten, _ = self._texts.popitem(last=False)
            self._chars -= len(forgotten)


_CONTROL: Final = re.compile(
    r"\s*(?:(BEGIN|START\s+TRANSACTION)|(COMMIT|END)|(ROLLBACK\s+TO)|(ROLLBACK|ABORT)"
    r"|(SAVEPOINT)|(RELEASE))\b[^;'$]*;?\s*",
    re.IGNORECASE,
)
_CONTROL_NAMES: Final = ("begin", "commit", "rollback_to", "rollback", "savepoint", "release")
_CONTROL_STATEMENTS: Final = {
    name: driver_statement("transaction", name) for name in _CONTROL_NAMES
}
_COMMON_CONTROL: Final = {
    f"{name.upper()};": _CONTROL_STATEMENTS[name] for name in ("begin", "commit", "rollback")
}


def _control_name(match: re.Match[str]) -> str:
    return _CONTROL_NAMES[(match.lastindex or 1) - 1]
