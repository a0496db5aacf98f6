"""One producer on one tracking stream: how far the log and the fold have come with its batches.

An acknowledgement never covers a batch that is not stored.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import Final

from metrics_service.eventlog.producer import ProducerKey, ResumePoint
from metrics_service.eventlog.producers import Appended
from protos.tracking.v1 import tracking_pb2

MAX_APPLYING: Final = 1_024


@dataclass(slots=True)
class ServerLane:
    """token is 0 until the producer is welcomed; refused says that the client was sent the reason
    and has not resumed yet.
    """

    key: ProducerKey
    epoch: int
    token: int = 0
    outstanding_bytes: int = 0
    refused: bool = False
    durable_seq: int = 0
    applied_seq: int = 0
    _acked: tuple[int, int] = (0, 0)
    _applying: deque[tuple[int, int]] = field(default_factory=deque)
    """Position and number of batches that are stored and not folded yet."""

    def on_opened(self, point: ResumePoint, last_position: int) -> None:
        """Resume after the stored batches, which are folded once the log's last position is."""
        self.durable_seq = point.resume_after
        self._wait_for(last_position, point.resume_after)

    def on_appended(self, appended: Appended, seq: int) -> None:
        """Note that a batch is stored; it has no position if it was stored before."""
        self.refused = False
        self.durable_seq = max(self.durable_seq, appended.durable_seq)
        if appended.position is not None:
            self._wait_for(appended.position, seq)

    def on_folded(self, position: int) -> bool:
        """Note that records up to a position are folded; returns whether a batch is among them."""
        before = self.applied_seq
        while self._applying and self._applying[0][0] <= position:
            self.applied_seq = self._applying.popleft()[1]
        return self.applied_seq != before

    def take_ack(self) -> tracking_pb2.ServerFrame | None:
        """Return the acknowledgement to send now; None when nothing is new."""
        reached = (self.durable_seq, self.applied_seq)
        if not self.token or reached == self._acked:
            return None
        self._acked = reached
        return tracking_pb2.ServerFrame(
            ack=tracking_pb2.Ack(
                lane=tracking_pb2.Lane.ValueType(self.key.lane),
                durable_seq=self.durable_seq,
                durability=tracking_pb2.Ack.FSYNC,
                applied_seq=self.applied_seq,
            )
        )

    def _wait_for(self, position: int, seq: int) -> None:
        if len(self._applying) >= MAX_APPLYING:
            self._applying.pop()
        self._applying.append((position, seq))
