"""The definitions of fingerprints, and the fingerprints with statistics: both tables are bounded,
least recently used first to go.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from metrics_service.state.truncate import MAX_NAME_BYTES, MAX_TEXT_BYTES, truncate
from protos.metrics.v1 import checkpoint_pb2
from protos.tracking.v1 import event_pb2

MAX_DEFINITIONS: Final = 4_000
MAX_TRACKED: Final = 500


class Query(NamedTuple):
    """The definition of a fingerprint: "model.operation", 16 hex digits, normalised text."""

    operation: str
    fingerprint: str
    text: str


class Fingerprints:
    """Definitions by fingerprint, and the most recently used fingerprints."""

    def __init__(
        self, *, max_definitions: int = MAX_DEFINITIONS, max_tracked: int = MAX_TRACKED
    ) -> None:
        self.evicted_definitions = 0
        self.evicted_fingerprints = 0
        self._max_definitions = max_definitions
        self._max_tracked = max_tracked
        # Both least recently used first.
        self._definitions: dict[int, event_pb2.QueryDefinition] = {}
        self._tracked: dict[int, None] = {}
        self._queries: dict[int, Query] = {}

    def define(self, definition: event_pb2.QueryDefinition) -> None:
        """Keep the definition of a fingerprint; the newest one replaces older ones."""
        fingerprint = definition.fingerprint
        if self._definitions.pop(fingerprint, None) is None and (
            len(self._definitions) >= self._max_definitions
        ):
            oldest = next(iter(self._definitions))
            del self._definitions[oldest]
            self._queries.pop(oldest, None)
            self.evicted_definitions += 1
        kept = event_pb2.QueryDefinition(
            fingerprint=fingerprint,
            model=truncate(definition.model, MAX_NAME_BYTES),
            operation=truncate(definition.operation, MAX_NAME_BYTES),
            text=truncate(definition.text, MAX_TEXT_BYTES),
        )
        self._definitions[fingerprint] = kept
        self._queries[fingerprint] = _query(kept)

    def find(self, fingerprint: int) -> Query | None:
        """Return the definition of a fingerprint; None if it is not defined."""
        return self._queries.get(fingerprint)

    def resolve(self, fingerprint: int) -> Query:
        """Return the definition of a fingerprint, with operation "unknown" if it is not defined."""
        query = self._queries.get(fingerprint)
        return Query("unknown", f"{fingerprint:016x}", "") if query is None else query

    def use(self, fingerprint: int) -> None:
        """Mark a fingerprint as the most recently used one, and keep statistics of it."""
        definition = self._definitions.pop(fingerprint, None)
        if definition is not None:
            self._definitions[fingerprint] = definition
        tracked = self._tracked
        if fingerprint in tracked:
            del tracked[fingerprint]
        elif len(tracked) >= self._max_tracked:
            del tracked[next(iter(tracked))]
            self.evicted_fingerprints += 1
        tracked[fingerprint] = None

    def tracked(self) -> dict[str, Query]:
        """Return the fingerprints with statistics, by their 16 hex digits."""
        return {query.fingerprint: query for query in map(self.resolve, self._tracked)}

    def encode(self) -> bytes:
        """Serialize as checkpoint_pb2.KnownQueries, without the counters."""
        return checkpoint_pb2.KnownQueries(
            definitions=self._definitions.values(), tracked=self._tracked
        ).SerializeToString()

    def restore(self, data: bytes) -> None:
        """Load what encode() returned."""
        message = checkpoint_pb2.KnownQueries.FromString(data)
        self._tracked = dict.fromkeys(message.tracked)
        for definition in message.definitions:
            self._definitions[definition.fingerprint] = definition
            self._queries[definition.fingerprint] = _query(definition)


def _query(definition: event_pb2.QueryDefinition) -> Query:
    model, operation = definition.model, definition.operation
    label = f"{model}.{operation}" if model else operation
    return Query(label or "unnamed", f"{definition.fingerprint:016x}", definition.text)
