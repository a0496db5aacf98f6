"""The frames of a tracking stream at the server's end: those it sends, and the check of a Hello."""

from __future__ import annotations

from typing import Final, NamedTuple

from metrics_service.eventlog.producers import ResumePoint
from metrics_service.ingest.ports import Terms
from protos.tracking.v1 import tracking_pb2

MAX_ID_CHARS: Final = 128
RETRY_AFTER_MS: Final = 500

HEARTBEAT: Final = tracking_pb2.ServerFrame(heartbeat=tracking_pb2.ServerHeartbeat())
DRAIN: Final = tracking_pb2.ServerFrame(drain=tracking_pb2.Drain())

_LANES: Final = (tracking_pb2.LANE_FACTS, tracking_pb2.LANE_TELEMETRY)


class Identity(NamedTuple):
    """The producer that a Hello names, and the process it belongs to."""

    producer_id: str
    service: str
    instance: str


def identity_of(hello: tracking_pb2.Hello) -> Identity | None:
    """Return None when an id or the lane is invalid. The instance defaults to the producer's id."""
    identity = Identity(hello.producer_id, hello.service, hello.instance or hello.producer_id)
    valid = all(0 < len(text) <= MAX_ID_CHARS and "\0" not in text for text in identity)
    return identity if valid and hello.lane in _LANES else None


def welcome_frame(lane: int, point: ResumePoint, terms: Terms) -> tracking_pb2.ServerFrame:
    """Announce the resume point of a lane's producer, and the terms."""
    return tracking_pb2.ServerFrame(
        welcome=tracking_pb2.Welcome(
            lane=tracking_pb2.Lane.ValueType(lane),
            resume_after=point.resume_after,
            batch_hash=point.batch_hash,
            credit_bytes=terms.credit_bytes,
            max_batch_bytes=terms.max_batch_bytes,
            heartbeat_ms=max(1, round(terms.heartbeat_s * 1_000)),
        )
    )


def nack_frame(
    lane: int, seq: int, reason: tracking_pb2.Nack.Reason.ValueType
) -> tracking_pb2.ServerFrame:
    """Refuse a batch, or a lane where seq is 0; lane is as the client gave it."""
    unavailable = reason == tracking_pb2.Nack.UNAVAILABLE
    return tracking_pb2.ServerFrame(
        nack=tracking_pb2.Nack(
            lane=tracking_pb2.Lane.ValueType(lane),
            seq=seq,
            reason=reason,
            retry_after_ms=RETRY_AFTER_MS if unavailable else 0,
        )
    )
