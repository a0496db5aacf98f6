"""Keeps sealed batches of telemetry with their numbers and bytes until they are acknowledged."""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Iterable
from typing import NamedTuple

from metrics_service.client.stream.source import OutBatch


class _Kept(NamedTuple):
    batch: OutBatch
    items: int


class UnackedBatches:
    """The unacknowledged batches of one epoch, numbered from 1 without gaps."""

    def __init__(self) -> None:
        self._kept: deque[_Kept] = deque()
        self._next_seq = 1
        self._acked_seq = 0
        self._acked_hash = b""

    def __len__(self) -> int:
        return len(self._kept)

    @property
    def bytes_held(self) -> int:
        """The memory of the payloads."""
        return sum(len(kept.batch.payload) for kept in self._kept)

    @property
    def items(self) -> int:
        """The events and timings in all batches."""
        return sum(kept.items for kept in self._kept)

    def add(self, count: int, payload: bytes, *, items: int = 0) -> None:
        """Give the next number to a batch of `count` events on the wire, which carry `items` events
        and timings of the process.
        """
        self._kept.append(_Kept(OutBatch(self._next_seq, count, payload), items))
        self._next_seq += 1

    def after(self, seq: int) -> OutBatch | None:
        """Return the first batch with a greater number."""
        return next((kept.batch for kept in self._kept if kept.batch.seq > seq), None)

    def acked(self, seq: int) -> None:
        """Forget the batches up to seq, which are durable."""
        while self._kept and self._kept[0].batch.seq <= seq:
            batch = self._kept.popleft().batch
            self._acked_seq, self._acked_hash = batch.seq, _hash(batch)

    def continues(self, resume_after: int, batch_hash: bytes) -> bool:
        """Whether the batch at resume_after is the same and those after it are kept."""
        if resume_after == self._acked_seq:
            return batch_hash == self._acked_hash
        return any(
            batch.seq == resume_after and batch_hash == _hash(batch) for batch, _ in self._kept
        )

    def renumbered(self, first: Iterable[tuple[int, bytes]]) -> UnackedBatches:
        """Return the batches of a new epoch: these (count, payload), then the kept ones."""
        renumbered = UnackedBatches()
        for count, payload in first:
            renumbered.add(count, payload)
        for batch, items in self._kept:
            renumbered.add(batch.count, batch.payload, items=items)
        return renumbered


def _hash(batch: OutBatch) -> bytes:
    return hashlib.sha256(batch.payload).digest()
