"""Defines what a lane of the tracking stream needs from the source of its batches: a batch keeps
its number and its bytes until it is acknowledged.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from protos.tracking.v1 import tracking_pb2


@dataclass(frozen=True, slots=True)
class OutBatch:
    """A batch to send: seq is its number, count the number of events in payload, and payload a
    serialised EventList.
    """

    seq: int
    count: int
    payload: bytes


@dataclass(frozen=True, slots=True)
class Speaker:
    """Who says Hello. With `backfill` the events count at the times they give."""

    service: str
    instance: str
    backfill: bool = False

    @property
    def mode(self) -> tracking_pb2.Hello.Mode.ValueType:
        """The mode of its Hello."""
        return tracking_pb2.Hello.BACKFILL if self.backfill else tracking_pb2.Hello.LIVE


class ForkError(Exception):
    """The lane must not go on, or the batches of two histories would be mixed: the server is
    another one, or one of the two databases was restored from an older copy.

    resume_after and events are what the server has stored of the producer; they and sink_id are
    None where it did not say so.
    """

    def __init__(
        self,
        reason: str,
        *,
        sink_id: str | None = None,
        resume_after: int | None = None,
        events: int | None = None,
    ) -> None:
        super().__init__(reason)
        self.sink_id = sink_id
        self.resume_after = resume_after
        self.events = events


class NewEpoch(Exception):  # noqa: N818 - the source asks for another Hello; nothing failed
    """The source has started a new epoch while it was opened: send Hello again with it."""


class LaneDrained(Exception):  # noqa: N818 - the end of the lane, as StopAsyncIteration is
    """Nothing is left to send after drain()."""


class LaneSource(Protocol):
    """The batches of one producer, in order.

    The stream calls open once after each Welcome and then next repeatedly, from one task at a time;
    acked may be called meanwhile. A call of next may be cancelled and must then lose nothing: after
    another open it returns the same batches again.
    """

    @property
    def lane(self) -> tracking_pb2.Lane.ValueType:
        """LANE_FACTS or LANE_TELEMETRY."""

    @property
    def producer_id(self) -> str:
        """The producer for the next Hello: 1 to 128 characters."""

    @property
    def epoch(self) -> int:
        """The epoch for the next Hello."""

    @property
    def succeeds(self) -> tuple[str, ...]:
        """The producers whose place this one takes, newest first."""

    async def open(
        self, resume_after: int, batch_hash: bytes, *, sink_id: str = "", events: int | None = None
    ) -> None:
        """Continue with batch resume_after + 1 at the next call of next().

        The server has stored every batch up to resume_after, and batch_hash is the SHA-256 of that
        batch's payload (empty for none); acked follows. For facts, sink_id names its log (empty
        where it did not say so) and events is their number there. Raises ForkError where the lane
        must not go on with this server, NewEpoch to start again.
        """

    async def next(self) -> OutBatch:
        """Wait for the next batch. Raises LaneDrained after drain() when none is left."""

    async def acked(self, seq: int) -> None:
        """Forget the batches up to seq, which are durable. seq never decreases."""

    async def fenced(self, epoch: int, sink_id: str) -> bool:
        """Note that a newer epoch has taken over at a server, or a newer stream (epoch is 0).

        Returns whether to say Hello again, with an epoch that is newer still or as another
        producer; else the stream drops the lane until it is added again. Raises ForkError as open
        does.
        """

    async def forked(self, fork: ForkError) -> None:
        """Note, and tell people, that the lane does not go on; it is opened again at intervals."""

    def drain(self) -> None:
        """Have next() return at once what waits, and then raise LaneDrained: the process ends."""
