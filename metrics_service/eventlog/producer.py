"""A producer of batches as the log knows it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple


class ProducerKey(NamedTuple):
    """A producer: its lane and its id."""

    lane: int
    id: str


@dataclass(frozen=True, slots=True)
class Producer:
    """A producer as it is stored; last_hash is the SHA-256 of batch next_seq - 1, or empty.

    It is open until it sends Goodbye or counts as ended without one. `events` are those stored of
    it, and of the producers of facts that it succeeds. Only the facts of a pinned one are taken.
    """

    epoch: int
    next_seq: int
    last_hash: bytes
    instance: str
    service: str
    backfill: bool
    open: bool
    events: int = 0
    pinned: bool = False


class ResumePoint(NamedTuple):
    """What the log has stored of a producer; token marks the stream that may append from now on."""

    resume_after: int
    batch_hash: bytes
    token: int
    events: int = 0
