"""Sealed batches of telemetry: each keeps its number and its bytes until it is acknowledged."""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Iterable

from metrics_service.client.stream.source import OutBatch


class UnackedBatches:
    """The batches of one epoch that are not acknowledged, numbered from 1 without a gap."""

    def __init__(self) -> None:
        self._kept: deque[OutBatch] = deque()
        self._next_seq = 1
        self._acked_seq = 0
        self._acked_hash = b""

    def __len__(self) -> int:
        return len(self._kept)

    @property
    def bytes_held(self) -> int:
        """What the payloads take."""
        return sum(len(batch.payload) for batch in self._kept)

    def add(self, count: int, payload: bytes) -> None:
        """Give the next number to a batch of so many events."""
        self._kept.append(OutBatch(self._next_seq, count, payload))
        self._next_seq += 1

    def after(self, seq: int) -> OutBatch | None:
        """The first batch with a greater number."""
        return next((batch for batch in self._kept if batch.seq > seq), None)

    def acked(self, seq: int) -> None:
        """All batches up to seq are durable."""
        while self._kept and self._kept[0].seq <= seq:
            batch = self._kept.popleft()
            self._acked_seq, self._acked_hash = batch.seq, _hash(batch)

    def continues(self, resume_after: int, batch_hash: bytes) -> bool:
        """Whether the batches from resume_after on are here, and those before it the same."""
        if resume_after == self._acked_seq:
            return batch_hash == self._acked_hash
        return any(batch.seq == resume_after and batch_hash == _hash(batch) for batch in self._kept)

    def again(self, first: Iterable[tuple[int, bytes]]) -> UnackedBatches:
        """What another epoch begins with: these (count, payload), and then what is kept."""
        anew = UnackedBatches()
        for count, payload in first:
            anew.add(count, payload)
        for batch in self._kept:
            anew.add(batch.count, batch.payload)
        return anew


def _hash(batch: OutBatch) -> bytes:
    return hashlib.sha256(batch.payload).digest()
