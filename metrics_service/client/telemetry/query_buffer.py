"""Buffers query timings and observations that wait to be sent: the text of a fingerprint goes out
before the first event that needs it, and the observations of a query before its timing.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from itertools import islice
from typing import Final

from metrics_service.client.queries.record import QueryDefinition, QueryRecord
from metrics_service.client.telemetry.columns import definitions_of, timings_of
from protos.tracking.v1 import event_pb2

MAX_TIMINGS: Final = 50_000
"""The most timings that wait; beyond it the oldest is dropped and counted."""

MAX_OBSERVATIONS: Final = 256
"""The most observations and plans that wait; beyond it the oldest is dropped and counted."""

MAX_DEFINITIONS: Final = 1_024
"""The most texts of fingerprints kept; the oldest is evicted first."""

DEFINITIONS_IN_EVENT: Final = 100
TIMING_BYTES: Final = 40
"""The approximate size of a timing in a batch."""

HELD_BYTES: Final = 400
"""The approximate memory of a timing, or of a definition without its text."""

OBSERVATION_BYTES: Final = 1_600
"""The approximate overhead in memory of an observation with five blockers, or of a plan."""

Observation = event_pb2.RunningQuery | event_pb2.QueryPlan
Part = event_pb2.QueryDefinitions | event_pb2.QueryTimings | Observation


class TimingBuffer:
    """A bounded queue of timings with the definitions of their fingerprints."""

    def __init__(self) -> None:
        self.dropped = 0
        self.evicted = 0
        self._observations: deque[Observation] = deque()
        self._timings: deque[QueryRecord] = deque()
        self._definitions: dict[int, QueryDefinition] = {}
        self._announced: set[int] = set()

    def __len__(self) -> int:
        return len(self._timings) + len(self._observations)

    @property
    def bytes_held(self) -> int:
        """The approximate memory of the whole buffer."""
        texts = sum(len(definition.text) for definition in self._definitions.values())
        entries = len(self._timings) + len(self._definitions)
        observed = sum(
            OBSERVATION_BYTES + observation.ByteSize() for observation in self._observations
        )
        return texts + HELD_BYTES * entries + observed

    def add(self, record: QueryRecord, definition: QueryDefinition) -> int:
        """Queue one timing and return how many wait now."""
        timings = self._timings
        if len(timings) >= MAX_TIMINGS:
            timings.popleft()
            self.dropped += 1
        if record.fingerprint not in self._definitions:
            self._define(definition)
        timings.append(record)
        return len(timings)

    def add_observation(self, observation: Observation, definition: QueryDefinition) -> bool:
        """Queue an observation or plan with the definition of its fingerprint. False if an older
        one was dropped for it.
        """
        if observation.fingerprint not in self._definitions:
            self._define(definition)
        self._observations.append(observation)
        if len(self._observations) <= MAX_OBSERVATIONS:
            return True
        self._observations.popleft()
        return False

    def announce_again(self) -> None:
        """Send every text again before its next use: the server may have forgotten it."""
        self._announced.clear()

    def definitions(self) -> Iterator[event_pb2.QueryDefinitions]:
        """Yield all texts that are kept, in events of limited size."""
        texts = list(self._definitions.values())
        for first in range(0, len(texts), DEFINITIONS_IN_EVENT):
            yield definitions_of(texts[first : first + DEFINITIONS_IN_EVENT])

    def take(self, max_count: int, max_bytes: int, offset_us: int) -> tuple[int, int, list[Part]]:
        """Remove what fits into a batch: (number of observations and timings, their approximate
        bytes, their events). Times are shifted by offset_us, the database's clock minus the
        process's.
        """
        observations: list[Observation] = []
        records: list[QueryRecord] = []
        size = 0
        new: dict[int, QueryDefinition] = {}
        while self._observations and len(observations) < max_count and size < max_bytes:
            observation = self._observations.popleft()
            if isinstance(observation, event_pb2.RunningQuery):
                observation.start_time_us += offset_us
            observations.append(observation)
            size += observation.ByteSize() + self._announce(observation.fingerprint, new)
        room = 0 if self._observations else max_count - len(observations)
        announced = self._announced
        for record in islice(self._timings, room):
            if size >= max_bytes:
                break
            size += TIMING_BYTES
            # Nearly all are announced: checking here saves the call.
            if record.fingerprint not in announced:
                size += self._announce(record.fingerprint, new)
            records.append(record)
        for _ in records:
            self._timings.popleft()
        announced.update(new)
        parts: list[Part] = [definitions_of(new.values())] if new else []
        parts += observations
        if records:
            try:
                parts.append(timings_of(records, offset_us))
            except Exception:
                self.dropped += len(records)
        return len(observations) + len(records), size, parts

    def _announce(self, fingerprint: int, new: dict[int, QueryDefinition]) -> int:
        """Add its definition to `new` unless it is announced; return its approximate bytes."""
        if fingerprint in self._announced or fingerprint in new:
            return 0
        definition = self._definitions.get(fingerprint)
        if definition is None:
            return 0
        new[fingerprint] = definition
        return TIMING_BYTES + 4 * len(definition.text)

    def _define(self, definition: QueryDefinition) -> None:
        if len(self._definitions) >= MAX_DEFINITIONS:
            oldest = next(iter(self._definitions))
            del self._definitions[oldest]
            self._announced.discard(oldest)
            self.evicted += 1
        self._definitions[definition.fingerprint] = definition
