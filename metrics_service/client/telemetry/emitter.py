"""Buffers the telemetry of one process within bounds and seals it into numbered batches. It never
blocks its callers or raises; what it drops is counted and reported to the server.
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
from metrics_service.client.stream.source import ForkError, LaneDrained, NewEpoch, OutBatch
from metrics_service.client.telemetry.envelope import Body, envelope
from metrics_service.client.telemetry.producer_name import ProducerName
from metrics_service.client.telemetry.query_buffer import Observation, TimingBuffer
from metrics_service.client.telemetry.rpc_tally import RpcTally
from metrics_service.client.telemetry.unacked import UnackedBatches
from protos.tracking.v1 import event_pb2, tracking_pb2
from servicekit.clock import wall_us

MAX_EVENTS: Final = 20_000
"""The most events that wait; beyond it the oldest is dropped and counted."""

MAX_BATCH_EVENTS: Final = 500
"""The most events and timings in one batch."""

MAX_BATCH_BYTES: Final = 256 * 1024
"""The most bytes of events in one batch, if they have ordinary sizes."""

EVENT_BYTES: Final = 500
"""The approximate memory of an event that waits."""

MAX_UNACKED: Final = 64
"""The most unacknowledged batches; while there are so many, none is sealed."""

FLUSH_INTERVAL_S: Final = 1.0
"""The longest that an event waits for others to share its batch."""


def instance_name() -> str:
    """Return a name that no other process has, such as "web1-4711-1f2e3d4c"."""
    return f"{socket.gethostname()[:80]}-{os.getpid()}-{os.urandom(4).hex()}"


class Emitter:
    """Buffers telemetry and passes it to the stream as LANE_TELEMETRY.

    Call it only in the event loop's thread, and do not change a message after passing it. Times are
    UTC microseconds by the process's clock, shifted to the database's clock by the offset that the
    probe measures.
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
        self.instance = instance or instance_name()
        self._name = ProducerName(self.instance)
        self.dropped_events = 0
        self._now_us = now_us
        self._offset_us = 0
        self._flush_interval_s = flush_interval_s
        self._epoch = now_us()
        self._events: deque[tuple[int, str, Body]] = deque()
        self._timings = TimingBuffer()
        self._tally = RpcTally()
        self._reported_events = 0
        self._reported_timings = 0
        self._sealed = UnackedBatches()
        self._sent_seq = 0
        self._full = asyncio.Event()
        self._draining = False

    def emit(self, body: Body, *, session_id: str = "", time_us: int | None = None) -> None:
        """Take one event; time_us is when it happened, by default now."""
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
        """Take an observation of a running query, or a plan (ObservationSink)."""
        try:
            if not self._timings.add_observation(observation, definition):
                self.dropped_events += 1
        except Exception:
            self.dropped_events += 1

    def count_rpc(self, rpc: str, *, write: bool, ok: bool, queries: int = 0) -> None:
        """Count an RPC that ended and the queries that it ran; rpc is the full method without its
        leading slash.
        """
        if not self._tally.add(rpc, write=write, ok=ok, queries=queries):
            self.dropped_events += 1

    def set_clock_offset_us(self, offset_us: int) -> None:
        """Set the database's clock minus this process's; later times are shifted by it."""
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
        """Definitions evicted since the process started."""
        return self._timings.evicted

    @property
    def bytes_held(self) -> int:
        """The approximate memory of what waits or is unacknowledged."""
        events = EVENT_BYTES * len(self._events)
        return events + self._timings.bytes_held + self._sealed.bytes_held

    def lane_signal(self) -> tracking_pb2.LaneSignal:
        """Return the state of the lane for heartbeats: FENCED for a while after it was."""
        return self._name.signal()

    @property
    def lane(self) -> tracking_pb2.Lane.ValueType:
        return tracking_pb2.LANE_TELEMETRY

    @property
    def producer_id(self) -> str:
        return self._name.id

    @property
    def epoch(self) -> int:
        """The start of the process in microseconds; greater after each NewEpoch."""
        return self._epoch

    @property
    def succeeds(self) -> tuple[str, ...]:
        return ()

    async def open(
        self, resume_after: int, batch_hash: bytes, *, sink_id: str = "", events: int | None = None
    ) -> None:
        """Continue after the server's resume point. NewEpoch if the server has lost batches that it
        acknowledged: the kept ones are then sent under new numbers.
        """
        del sink_id, events
        self._timings.announce_again()
        if not self._sealed.continues(resume_after, batch_hash):
            self._begin_epoch()
            raise NewEpoch
        self._sealed.acked(resume_after)
        self._sent_seq = resume_after

    async def next(self) -> OutBatch:
        """Return the next batch: one sent before, or a new one once MAX_BATCH_EVENTS wait or the
        flush interval has passed.
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

    async def fenced(self, epoch: int, sink_id: str) -> bool:
        """Go on under another name: what was sent and is stored has no second effect."""
        del epoch, sink_id
        self._name.renew()
        self._begin_epoch()
        return True

    async def forked(self, fork: ForkError) -> None:
        """Do nothing: telemetry is numbered anew instead."""

    def drain(self) -> None:
        self._draining = True
        self._full.set()

    def _begin_epoch(self) -> None:
        """Renumber the kept batches, after the texts of all fingerprints."""
        self._epoch = max(self._epoch + 1, self._now_us())
        self._sent_seq = 0
        parts = [
            _list_of([envelope(self._stamp_us(), "", definitions)])
            for definitions in self._timings.definitions()
        ]
        self._sealed = self._sealed.renumbered(parts)

    def _has_room(self) -> bool:
        return len(self._sealed) < MAX_UNACKED

    def _has_full_batch(self) -> bool:
        return len(self._events) + len(self._timings) >= MAX_BATCH_EVENTS

    def _anything(self) -> bool:
        return bool(
            self._events
            or self._timings
            or self._tally
            or self.dropped_events > self._reported_events
            or self.dropped_timings > self._reported_timings
        )

    def _seal(self) -> None:
        """Seal what waits, up to the bounds of a batch, into the next numbered batch."""
        now_us = self._stamp_us()
        sealed: list[event_pb2.Event] = []
        if (
            self.dropped_events > self._reported_events
            or self.dropped_timings > self._reported_timings
        ):
            loss = event_pb2.TelemetryLoss(
                dropped_events=self.dropped_events - self._reported_events,
                dropped_timings=self.dropped_timings - self._reported_timings,
            )
            self._reported_events, self._reported_timings = (
                self.dropped_events,
                self.dropped_timings,
            )
            sealed.append(envelope(now_us, "", loss))
        items = 0
        if self._tally:
            items += 1
            sealed.append(envelope(now_us, "", self._tally.take()))
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

    def _stamp_us(self) -> int:
        return self._now_us() + self._offset_us


def _list_of(events: list[event_pb2.Event]) -> tuple[int, bytes]:
    """Return (count, payload) of a batch."""
    return len(events), event_pb2.EventList(events=events).SerializeToString()
