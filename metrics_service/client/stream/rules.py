"""The rules that a server of the tracking stream is held to: a client ends the connection with one
that breaks them, believes nothing of the frame, and connects again after a growing pause.
"""

from __future__ import annotations

from typing import Final
from uuid import UUID

from protos.tracking.v1 import tracking_pb2

MIN_HEARTBEAT_MS: Final = 20
MAX_HEARTBEAT_MS: Final = 60_000
HASH_BYTES: Final = 32
MAX_CREDIT_BYTES: Final = 64 * 1024 * 1024


class ProtocolError(Exception):
    """The server has sent a frame that no server may send."""


def check_welcome(welcome: tracking_pb2.Welcome) -> None:
    """Raise ProtocolError when a resume point or a term cannot be meant."""
    if welcome.resume_after < 0:
        raise ProtocolError(f"the resume point is batch {welcome.resume_after}")
    if len(welcome.batch_hash) not in (0, HASH_BYTES):
        raise ProtocolError(f"the hash of that batch has {len(welcome.batch_hash)} bytes")
    if not MIN_HEARTBEAT_MS <= welcome.heartbeat_ms <= MAX_HEARTBEAT_MS:
        raise ProtocolError(f"the interval of heartbeats is {welcome.heartbeat_ms} ms")
    check_credit(welcome.credit_bytes)
    _check_sink(welcome)


def check_nack(nack: tracking_pb2.Nack) -> None:
    """Raise ProtocolError when what a refusal tells of the server cannot be meant."""
    if nack.epoch < 0:
        raise ProtocolError(f"the stored epoch is {nack.epoch}")
    _check_sink(nack)


def _check_sink(frame: tracking_pb2.Welcome | tracking_pb2.Nack) -> None:
    if frame.events < 0:
        raise ProtocolError(f"the number of stored events is {frame.events}")
    if frame.sink_id:
        try:
            same = str(UUID(frame.sink_id)) == frame.sink_id
        except ValueError:
            same = False
        if not same:
            raise ProtocolError("the id of the sink is not a UUID")


def check_credit(credit_bytes: int) -> None:
    """Raise ProtocolError when a limit of unacknowledged bytes is negative or none at all."""
    if not 0 <= credit_bytes <= MAX_CREDIT_BYTES:
        raise ProtocolError(f"the credit is {credit_bytes} bytes")
