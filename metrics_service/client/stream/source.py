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


class ForkError(Exception):
    """The server's batch at the resume point differs from the producer's: one of the two databases
    was restored from an older copy, and their batches must not be mixed.
    """


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
        """1 to 128 characters."""

    @property
    def epoch(self) -> int:
        """The epoch for the next Hello."""

    async def open(self, resume_after: int, batch_hash: bytes) -> None:
        """Continue with batch resume_after + 1 at the next call of next().

        The server has stored every batch up to resume_after, and batch_hash is the SHA-256 of that
        batch's payload (empty for none); acked follows. Raises ForkError where the batch kept under
        that number has another hash or cannot exist, NewEpoch to start again.
        """

    async def next(self) -> OutBatch:
        """Wait for the next batch. Raises LaneDrained after drain() when none is left."""

    async def acked(self, seq: int) -> None:
        """Forget the batches up to seq, which are durable. seq never decreases."""

    async def fenced(self) -> None:
        """Note that a newer epoch has taken over; the stream drops this lane until it is added
        again.
        """

    def drain(self) -> None:
        """Have next() return at once what waits, and then raise LaneDrained: the process ends."""
