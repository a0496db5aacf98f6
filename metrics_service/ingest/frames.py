"""The frames of a tracking stream at the server's end: those it sends, and the check of a Hello."""

from __future__ import annotations

from typing import Final, NamedTuple

from metrics_service.eventlog.errors import (
    EpochError,
    FencedError,
    ForkedError,
    GapError,
    OwnerError,
)
from metrics_service.eventlog.producer import ResumePoint
from metrics_service.ingest.ports import Terms
from protos.tracking.v1 import tracking_pb2

MAX_ID_CHARS: Final = 128
MAX_ID_BYTES: Final = 256
MAX_SUCCEEDED: Final = 64
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
    if len(hello.succeeds) > MAX_SUCCEEDED or hello.lane not in _LANES:
        return None
    return identity if all(map(_is_id, (*identity, *hello.succeeds))) else None


def _is_id(text: str) -> bool:
    fits = 0 < len(text) <= MAX_ID_CHARS and len(text.encode()) <= MAX_ID_BYTES
    return fits and text.isprintable()


def welcome_frame(
    lane: int, point: ResumePoint, terms: Terms, sink_id: str
) -> tracking_pb2.ServerFrame:
    """Announce the resume point of a lane's producer, and the terms."""
    welcome = tracking_pb2.Welcome(
        lane=tracking_pb2.Lane.ValueType(lane),
        resume_after=point.resume_after,
        batch_hash=point.batch_hash,
        credit_bytes=terms.credit_bytes,
        max_batch_bytes=terms.max_batch_bytes,
        heartbeat_ms=max(1, round(terms.heartbeat_s * 1_000)),
    )
    if lane == tracking_pb2.LANE_FACTS:
        welcome.sink_id, welcome.events = sink_id, point.events
    return tracking_pb2.ServerFrame(welcome=welcome)


def refusal_frame(
    lane: int, seq: int, failure: BaseException, sink_id: str
) -> tracking_pb2.ServerFrame:
    """Answer a refusal of the log: of a batch, or of a lane where seq is 0.

    A producer of facts that the log does not know learns nothing about it.
    """
    match failure:
        case GapError():
            return nack_frame(lane, failure.next_seq, tracking_pb2.Nack.GAP)
        case FencedError():
            return fence_frame(lane, seq, sink_id, failure.epoch)
        case EpochError():
            frame = nack_frame(lane, seq, tracking_pb2.Nack.EPOCH_REFUSED)
            frame.nack.sink_id, frame.nack.epoch = sink_id, failure.epoch
        case ForkedError():
            frame = nack_frame(lane, seq, tracking_pb2.Nack.FORKED)
            if failure.events is not None:
                frame.nack.sink_id, frame.nack.events = sink_id, failure.events
        case OwnerError():
            return nack_frame(lane, seq, tracking_pb2.Nack.INVALID)
        case _:
            frame = nack_frame(lane, seq, tracking_pb2.Nack.UNAVAILABLE)
    return frame


def fence_frame(lane: int, seq: int, sink_id: str, epoch: int = 0) -> tracking_pb2.ServerFrame:
    """Refuse a producer that a newer epoch, or a newer stream of its own, has taken over."""
    frame = nack_frame(lane, seq, tracking_pb2.Nack.FENCED)
    if lane == tracking_pb2.LANE_FACTS:
        frame.nack.sink_id = sink_id
    frame.nack.epoch = epoch
    return frame


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
