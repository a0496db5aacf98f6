"""The telemetry of one process: a bounded buffer that never blocks its callers and never raises,
sealed into numbered batches; whatever it has to drop it counts, and says so to the server.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections import deque
from collections.abc import Callable
from typing import Final

from metrics_service.client.queries.record import QueryDefinition, QueryRecord
from metrics_service.client.stream.source import LaneDrained, NewEpoch, OutBatch
from metrics_service.client.telemetry.envelope import Body, envelope
from metrics_service.client.telemetry.query_buffer import Observation, TimingBuffer
from metrics_service.client.telemetry.unacked import UnackedBatches
from protos.tracking.v1 import event_pb2, tracking_pb2
from servicekit.clock import wall_us

MAX_EVENTS: Final = 20_000
"""Events that wait at most; beyond it the oldest is dropped and counted."""

MAX_BATCH_EVENTS: Final = 500
"""Events and timings in one batch."""

MAX_BATCH_BYTES: Final = 256 * 1024
"""Bytes of events in one batch, as far as they are of ordinary size."""

EVENT_BYTES: Final = 500
"""About what an event takes that waits."""

MAX_UNACKED: Final = 64
"""Sealed batches kept for sending again; while so many are unacknowledged none is sealed."""

MAX_METHODS: Final = 256
"""RPC methods that are tallied apart."""

FLUSH_INTERVAL_S: Final = 1.0
"""How long an event waits for company at most."""


def _instance_name() -> str:
    return f"{socket.gethostname()[:80]}-{os.getpid()}-{os.urandom(4).hex()}"


class Emitter:
    """Buffers telemetry and gives it to the stream as LANE_TELEMETRY.

    To be called from the event loop's thread. A message handed in belongs to the emitter: do not
    change it afterwards. Times are UTC microseconds by the process's clock, moved to the
    database's by the offset that the probe measures.
    """

    def __init__(
        self,
        service: str,
        *,
        instance: str | None = None,
        now_us: Callable[[], int] = wall_us,
        flush_interval_s: float = FLUSH_INTERVAL_S,
    ) -> None:
        self.service = service
        self.instance = instance or _instance_name()
        self.dropped_events = 0
        self._now_us = now_us
        self._offset_us = 0
        self._flush_interval_s = flush_interval_s
        self._epoch = now_us()
        self._events: deque[tuple[int, str, Body]] = deque()
        self._timings = TimingBuffer()
        self._tally: dict[tuple[str, bool], list[int]] = {}
        self._told_events = 0
        self._told_timings = 0
        self._sealed = UnackedBatches()
        self._sent_seq = 0
        self._full = asyncio.Event()
        self._draining = False

    # What the process calls.

    def emit(self, body: Body, *, session_id: str = "", time_us: int | None = None) -> None:
        """Take one event; time_us is when it happened, now where absent."""
        try:
            events = self._events
            if len(events) >= MAX_EVENTS:
                events.popleft()
                self.dropped_events += 1
            when_us = self._now_us() if time_us is None else time_us
            events.append((when_us + self._offset_us, session_id, body))
            if len(events) >= MAX_BATCH_EVENTS:
                self._full.set()
        except Exception:
            self.dropped_events += 1

    def record_query(self, record: QueryRecord, definition: QueryDefinition) -> None:
        """Take one query timing (QuerySink)."""
        try:
            if self._timings.add(record, definition) >= MAX_BATCH_EVENTS:
                self._full.set()
        except Exception:
            self._timings.dropped += 1

    def add_observation(self, observation: Observation, definition: QueryDefinition) -> None:
        """Take what was seen of a query that is not timed yet, or its plan (ObservationSink)."""
        try:
            if not self._timings.add_observation(observation, definition):
                self.dropped_events += 1
        except Exception:
            self.dropped_events += 1

    def count_rpc(self, rpc: str, *, write: bool, ok: bool, queries: int = 0) -> None:
        """Count an RPC that ended, and the queries that it ran; rpc is the full method without its
        leading slash.
        """
        counts = self._tally.get((rpc, write))
        if counts is None:
            if len(self._tally) >= MAX_METHODS:
                self.dropped_events += 1
                return
            counts = self._tally[(rpc, write)] = [0, 0, 0, 0]
        counts[0 if ok else 1] += 1
        counts[2] += queries
        counts[3] = max(counts[3], queries)

    def set_clock_offset_us(self, offset_us: int) -> None:
        """Set the database's clock minus this process's; later stamps are moved by it."""
        self._offset_us = offset_us

    @property
    def dropped_timings(self) -> int:
        """Timings dropped since the process started."""
        return self._timings.dropped

    @property
    def dropped(self) -> int:
        """Events and timings dropped since the process started."""
        return self.dropped_events + self.dropped_timings

    @property
    def unsent(self) -> int:
        """Events and timings that wait, or are not acknowledged by the server."""
        waiting = len(self._events) + len(self._timings) + bool(self._tally)
        return waiting + self._sealed.items

    @property
    def evicted(self) -> int:
        """Definitions that found no place, since the process started."""
        return self._timings.evicted

    @property
    def bytes_held(self) -> int:
        """About what waits, and what is kept for sending again."""
        events = EVENT_BYTES * len(self._events)
        return events + self._timings.bytes_held + self._sealed.bytes_held

    # What the stream calls (LaneSource).

    @property
    def lane(self) -> tracking_pb2.Lane.ValueType:
        return tracking_pb2.LANE_TELEMETRY

    @property
    def producer_id(self) -> str:
        return self.instance

    @property
    def epoch(self) -> int:
        """The start of the process, in microseconds; one more each time the server lost it."""
        return self._epoch

    async def open(self, resume_after: int, batch_hash: bytes) -> None:
        """Go on after the server's resume point; NewEpoch where the server does not know what
        it acknowledged, so that what is kept is sent under new numbers.
        """
        self._timings.announce_again()
        if not self._sealed.continues(resume_after, batch_hash):
            self._begin_epoch()
            raise NewEpoch
        self._sealed.acked(resume_after)
        self._sent_seq = resume_after

    async def next(self) -> OutBatch:
        """The next batch: one sent before, or a new one once 500 events wait or the oldest has
        waited for the flush interval.
        """
        while True:
            batch = self._sealed.after(self._sent_seq)
            if batch is not None:
                self._sent_seq = batch.seq
                return batch
            if self._draining and not self._anything():
                raise LaneDrained
            if not self._draining and not (self._has_room() and self._has_full_batch()):
                self._full.clear()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(self._flush_interval_s):
                        await self._full.wait()
            if (self._draining or self._has_room()) and self._anything():
                self._seal()

    async def acked(self, seq: int) -> None:
        self._sealed.acked(seq)
        if self._has_full_batch():
            self._full.set()

    async def fenced(self) -> None:
        """Only a process with the same instance name can cause it; there is nothing to save."""

    def drain(self) -> None:
        self._draining = True
        self._full.set()

    # Helpers.

    def _begin_epoch(self) -> None:
        """Number what is kept anew, after the texts of all fingerprints."""
        self._epoch = max(self._epoch + 1, self._now_us())
        self._sent_seq = 0
        parts = [
            _list_of([envelope(self._stamp_us(), "", definitions)])
            for definitions in self._timings.definitions()
        ]
        self._sealed = self._sealed.again(parts)

    def _has_room(self) -> bool:
        return len(self._sealed) < MAX_UNACKED

    def _has_full_batch(self) -> bool:
        return len(self._events) + len(self._timings) >= MAX_BATCH_EVENTS

    def _anything(self) -> bool:
        return bool(
            self._events
            or self._timings
            or self._tally
            or self.dropped_events > self._told_events
            or self.dropped_timings > self._told_timings
        )

    def _seal(self) -> None:
        """Move what waits, up to the bounds of a batch, into the next numbered batch."""
        now_us = self._stamp_us()
        sealed: list[event_pb2.Event] = []
        if self.dropped_events > self._told_events or self.dropped_timings > self._told_timings:
            loss = event_pb2.TelemetryLoss(
                dropped_events=self.dropped_events - self._told_events,
                dropped_timings=self.dropped_timings - self._told_timings,
            )
            self._told_events, self._told_timings = self.dropped_events, self.dropped_timings
            sealed.append(envelope(now_us, "", loss))
        items = 0
        if self._tally:
            items += 1
            sealed.append(envelope(now_us, "", self._take_tally()))
        taken, size, timings = self._timings.take(
            MAX_BATCH_EVENTS, MAX_BATCH_BYTES, self._offset_us
        )
        sealed.extend(envelope(now_us, "", body) for body in timings)
        items += taken
        room = MAX_BATCH_EVENTS - taken
        while self._events and room > 0 and size < MAX_BATCH_BYTES:
            room -= 1
            try:
                event = envelope(*self._events.popleft())
            except Exception:
                self.dropped_events += 1
                continue
            if event.ByteSize() > MAX_BATCH_BYTES:
                self.dropped_events += 1
                continue
            size += event.ByteSize()
            items += 1
            sealed.append(event)
        if sealed:
            self._sealed.add(*_list_of(sealed), items=items)

    def _take_tally(self) -> event_pb2.RpcTally:
        tally = event_pb2.RpcTally(
            entries=[
                event_pb2.RpcTally.Entry(
                    rpc=rpc,
                    write=write,
                    ok=ok,
                    refused=refused,
                    queries=queries,
                    queries_max=queries_max,
                )
                for (rpc, write), (ok, refused, queries, queries_max) in self._tally.items()
            ]
        )
        self._tally.clear()
        return tally

    def _stamp_us(self) -> int:
        return self._now_us() + self._offset_us


def _list_of(events: list[event_pb2.Event]) -> tuple[int, bytes]:
    """(count, payload) of a batch."""
    return len(events), event_pb2.EventList(events=events).SerializeToString()
