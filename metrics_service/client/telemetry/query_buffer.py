"""What is known of queries and waits to be sent: each text of a fingerprint goes out before what
needs it, and what was seen of a query while it ran before its timing.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from itertools import islice
from typing import Final

from metrics_service.client.queries.record import QueryDefinition, QueryRecord
from metrics_service.client.telemetry.columns import definitions_of, timings_of
from protos.tracking.v1 import event_pb2

TIMINGS_MAX: Final = 50_000
"""Timings that wait at most; beyond it the oldest is dropped and counted."""

LOOKS_MAX: Final = 256
"""Looks at running queries, and plans, that wait at most; beyond it the oldest goes."""

DEFINITIONS_MAX: Final = 1_024
"""Texts of fingerprints kept; the oldest goes first."""

DEFINITIONS_IN_EVENT: Final = 100
TIMING_BYTES: Final = 40
"""About what a timing takes in a batch."""

HELD_BYTES: Final = 400
"""About what a timing or a definition takes here, its text apart."""

LOOK_BYTES: Final = 1_600
"""About what a look or a plan takes here, what it says apart: most with five blockers."""

Look = event_pb2.RunningQuery | event_pb2.QueryPlan
Part = event_pb2.QueryDefinitions | event_pb2.QueryTimings | Look


class TimingBuffer:
    """A bounded queue of timings with the definitions of their fingerprints."""

    def __init__(self) -> None:
        self.dropped = 0
        self.evicted = 0
        self._looks: deque[Look] = deque()
        self._timings: deque[QueryRecord] = deque()
        self._definitions: dict[int, QueryDefinition] = {}
        self._announced: set[int] = set()

    def __len__(self) -> int:
        return len(self._timings) + len(self._looks)

    @property
    def bytes_held(self) -> int:
        """About what all of it takes."""
        texts = sum(len(definition.text) for definition in self._definitions.values())
        entries = len(self._timings) + len(self._definitions)
        looks = sum(LOOK_BYTES + look.ByteSize() for look in self._looks)
        return texts + HELD_BYTES * entries + looks

    def add(self, record: QueryRecord, definition: QueryDefinition) -> int:
        """Queue one timing; how many of them wait now."""
        timings = self._timings
        if len(timings) >= TIMINGS_MAX:
            timings.popleft()
            self.dropped += 1
        if record.fingerprint not in self._definitions:
            self._define(definition)
        timings.append(record)
        return len(timings)

    def add_look(self, look: Look, definition: QueryDefinition) -> bool:
        """Queue what was seen of a query that is not timed yet; definition is that of its
        fingerprint. False where an older one had to go for it.
        """
        if look.fingerprint not in self._definitions:
            self._define(definition)
        self._looks.append(look)
        if len(self._looks) <= LOOKS_MAX:
            return True
        self._looks.popleft()
        return False

    def announce_again(self) -> None:
        """The other end is to be told every text anew, before its next use."""
        self._announced.clear()

    def definitions(self) -> Iterator[event_pb2.QueryDefinitions]:
        """All texts that are kept."""
        texts = list(self._definitions.values())
        for first in range(0, len(texts), DEFINITIONS_IN_EVENT):
            yield definitions_of(texts[first : first + DEFINITIONS_IN_EVENT])

    def take(self, max_count: int, max_bytes: int, offset_us: int) -> tuple[int, int, list[Part]]:
        """(how many looks and timings were taken, about how many bytes they are, what they are sent
        as). Times are moved by offset_us, the database's clock minus the process's.
        """
        looks: list[Look] = []
        records: list[QueryRecord] = []
        size = 0
        new: dict[int, QueryDefinition] = {}
        while self._looks and len(looks) < max_count and size < max_bytes:
            look = self._looks.popleft()
            if isinstance(look, event_pb2.RunningQuery):
                look.start_time_us += offset_us
            looks.append(look)
            size += look.ByteSize() + self._announce(look.fingerprint, new)
        room = 0 if self._looks else max_count - len(looks)
        announced = self._announced
        for record in islice(self._timings, room):
            if size >= max_bytes:
                break
            size += TIMING_BYTES
            # Nearly all are: asked here, that costs no call.
            if record.fingerprint not in announced:
                size += self._announce(record.fingerprint, new)
            records.append(record)
        for _ in records:
            self._timings.popleft()
        announced.update(new)
        parts: list[Part] = [definitions_of(new.values())] if new else []
        parts += looks
        if records:
            try:
                parts.append(timings_of(records, offset_us))
            except Exception:
                self.dropped += len(records)
        return len(looks) + len(records), size, parts

    def _announce(self, fingerprint: int, new: dict[int, QueryDefinition]) -> int:
        """Put its definition into `new` unless it is known there; about how many bytes it is."""
        if fingerprint in self._announced or fingerprint in new:
            return 0
        definition = self._definitions.get(fingerprint)
        if definition is None:
            return 0
        new[fingerprint] = definition
        return TIMING_BYTES + 4 * len(definition.text)

    def _define(self, definition: QueryDefinition) -> None:
        if len(self._definitions) >= DEFINITIONS_MAX:
            oldest = next(iter(self._definitions))
            del self._definitions[oldest]
            self._announced.discard(oldest)
            self.evicted += 1
        self._definitions[definition.fingerprint] = definition
