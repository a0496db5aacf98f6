"""Query timings that wait to be sent, and the texts of their fingerprints: each text goes out
before the first timing that needs it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import Final

from metrics_service.client.record import QueryDefinition, QueryRecord
from metrics_service.client.timings import definitions_of, timings_of
from protos.tracking.v1 import event_pb2

TIMINGS_MAX: Final = 50_000
"""Timings that wait at most; beyond it the oldest is dropped and counted."""

DEFINITIONS_MAX: Final = 1_024
"""Texts of fingerprints kept; the oldest goes first."""

DEFINITIONS_IN_EVENT: Final = 100
TIMING_BYTES: Final = 40
"""About what a timing takes."""


class TimingBuffer:
    """A bounded queue of timings with the definitions of their fingerprints."""

    def __init__(self) -> None:
        self.dropped = 0
        self._timings: deque[QueryRecord] = deque()
        self._definitions: dict[int, QueryDefinition] = {}
        self._announced: set[int] = set()

    def __len__(self) -> int:
        return len(self._timings)

    def add(self, record: QueryRecord, definition: QueryDefinition) -> None:
        """Queue one timing."""
        timings = self._timings
        if len(timings) >= TIMINGS_MAX:
            timings.popleft()
            self.dropped += 1
        if record.fingerprint not in self._definitions:
            self._define(definition)
        timings.append(record)

    def announce_again(self) -> None:
        """The other end is to be told every text anew, before its next use."""
        self._announced.clear()

    def definitions(self) -> Iterator[event_pb2.QueryDefinitions]:
        """All texts that are kept."""
        texts = list(self._definitions.values())
        for first in range(0, len(texts), DEFINITIONS_IN_EVENT):
            yield definitions_of(texts[first : first + DEFINITIONS_IN_EVENT])

    def take(
        self, max_count: int, max_bytes: int, offset_us: int
    ) -> tuple[int, int, list[event_pb2.QueryDefinitions | event_pb2.QueryTimings]]:
        """(how many timings were taken, about how many bytes they are, what they are sent as)."""
        records: list[QueryRecord] = []
        size = 0
        new: dict[int, QueryDefinition] = {}
        while self._timings and len(records) < max_count and size < max_bytes:
            record = self._timings.popleft()
            records.append(record)
            size += TIMING_BYTES
            fingerprint = record.fingerprint
            if fingerprint in self._announced or fingerprint in new:
                continue
            if (definition := self._definitions.get(fingerprint)) is not None:
                new[fingerprint] = definition
                size += TIMING_BYTES + 4 * len(definition.text)
        if not records:
            return 0, 0, []
        try:
            timings = timings_of(records, offset_us)
        except Exception:
            self.dropped += len(records)
            return len(records), 0, []
        self._announced.update(new)
        texts = [definitions_of(new.values())] if new else []
        return len(records), size, [*texts, timings]

    def _define(self, definition: QueryDefinition) -> None:
        if len(self._definitions) >= DEFINITIONS_MAX:
            oldest = next(iter(self._definitions))
            del self._definitions[oldest]
            self._announced.discard(oldest)
        self._definitions[definition.fingerprint] = definition
