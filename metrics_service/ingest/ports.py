"""What a tracking stream at the server's end stands on: the log, the fold and health behind it, its
terms, and how far each of its producers has come.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, Protocol

from metrics_service.eventlog.producers import Appended, ProducerKey, ResumePoint
from protos.tracking.v1 import tracking_pb2

APPLYING_MAX: Final = 1_024
RETRY_AFTER_MS: Final = 500

HEARTBEAT: Final = tracking_pb2.ServerFrame(heartbeat=tracking_pb2.ServerHeartbeat())


class Log(Protocol):
    """What the streams need of the event log."""

    @property
    def last_position(self) -> int: ...

    def open_producer(
        self, key: ProducerKey, *, epoch: int, instance: str, service: str, backfill: bool
    ) -> asyncio.Future[ResumePoint]: ...

    def append(
        self, key: ProducerKey, *, token: int, epoch: int, seq: int, count: int, payload: bytes
    ) -> asyncio.Future[Appended]: ...

    def close_producer(self, key: ProducerKey, *, token: int) -> asyncio.Future[None]: ...

    def release_producer(self, key: ProducerKey, *, token: int) -> None: ...


class Fold(Protocol):
    """What the streams need of the engine."""

    @property
    def position(self) -> int: ...

    def on_change(self, listener: Callable[[], None]) -> None: ...


class Health(Protocol):
    """Who hears of the processes at the other end, at once and whatever the log does."""

    def on_hello(self, instance: str, service: str) -> None: ...

    def on_heartbeat(self, instance: str, service: str, signals: tracking_pb2.Signals) -> None: ...

    def on_goodbye(self, instance: str) -> None: ...

    def on_closed(self, instance: str) -> None: ...


@dataclass(frozen=True, slots=True)
class Terms:
    """What every stream of a server is told, or held to."""

    heartbeat_s: float
    credit_bytes: int
    max_batch_bytes: int
    allow_backfill: bool


@dataclass(slots=True)
class ServerLane:
    """One producer on one stream. token is 0 until it is welcomed; refused says that the client
    was told why and has not gone on yet; applying are stored batches that are not folded yet.
    """

    key: ProducerKey
    epoch: int
    token: int = 0
    outstanding_bytes: int = 0
    durable_seq: int = 0
    applied_seq: int = 0
    acked: tuple[int, int] = (0, 0)
    refused: bool = False
    applying: deque[tuple[int, int]] = field(default_factory=deque)

    def stored(self, position: int, seq: int) -> None:
        if len(self.applying) >= APPLYING_MAX:
            self.applying.pop()
        self.applying.append((position, seq))


def welcome_frame(lane: ServerLane, point: ResumePoint, terms: Terms) -> tracking_pb2.ServerFrame:
    """What is stored of a lane's producer, and the terms."""
    return tracking_pb2.ServerFrame(
        welcome=tracking_pb2.Welcome(
            lane=tracking_pb2.Lane.ValueType(lane.key.lane),
            resume_after=point.resume_after,
            batch_hash=point.batch_hash,
            credit_bytes=terms.credit_bytes,
            max_batch_bytes=terms.max_batch_bytes,
            heartbeat_ms=max(1, round(terms.heartbeat_s * 1_000)),
        )
    )


def ack_frame(lane: ServerLane) -> tracking_pb2.ServerFrame:
    """How far a lane has come."""
    return tracking_pb2.ServerFrame(
        ack=tracking_pb2.Ack(
            lane=tracking_pb2.Lane.ValueType(lane.key.lane),
            durable_seq=lane.durable_seq,
            durability=tracking_pb2.Ack.FSYNC,
            applied_seq=lane.applied_seq,
        )
    )


def nack_frame(
    lane: int, seq: int, reason: tracking_pb2.Nack.Reason.ValueType
) -> tracking_pb2.ServerFrame:
    """A refusal of a batch, or of a lane where seq is 0; lane is as the client gave it."""
    unavailable = reason == tracking_pb2.Nack.UNAVAILABLE
    return tracking_pb2.ServerFrame(
        nack=tracking_pb2.Nack(
            lane=tracking_pb2.Lane.ValueType(lane),
            seq=seq,
            reason=reason,
            retry_after_ms=RETRY_AFTER_MS if unavailable else 0,
        )
    )
