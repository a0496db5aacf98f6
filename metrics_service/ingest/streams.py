"""The server's end of the tracking streams: a batch is acknowledged only after the log has it, and
only the newest stream of a producer is heard.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Final

from metrics_service.eventlog.producers import ProducerKey
from metrics_service.ingest.ports import Fold, Health, Log, Terms
from metrics_service.ingest.session import Session, Write
from protos.tracking.v1 import tracking_pb2

__all__ = ["Fold", "Health", "Ingest", "Log"]

HEARTBEAT_S: Final = 1.0
"""A stopped database shows within this; three missed ones end a stream."""

CREDIT_BYTES: Final = 4 * 1024 * 1024
MAX_BATCH_BYTES: Final = 1024 * 1024
STREAMS_MAX: Final = 256


class Ingest:
    """All tracking streams of this process.

    A stream of which nothing was heard for three heartbeats is ended. Every stream may have
    credit_bytes of batches unacknowledged on each lane.
    """

    def __init__(
        self,
        event_log: Log,
        fold: Fold,
        health: Health,
        *,
        heartbeat_s: float = HEARTBEAT_S,
        credit_bytes: int = CREDIT_BYTES,
        max_batch_bytes: int = MAX_BATCH_BYTES,
        allow_backfill: bool = False,
    ) -> None:
        self._log = event_log
        self._fold = fold
        self._health = health
        self._terms = Terms(
            heartbeat_s, max(credit_bytes, max_batch_bytes), max_batch_bytes, allow_backfill
        )
        self._sessions: set[Session] = set()
        self._owners: dict[ProducerKey, Session] = {}
        self._draining = False
        self._empty = asyncio.Event()
        self._empty.set()
        fold.on_change(self._folded)

    @property
    def streams(self) -> int:
        """Streams that are open."""
        return len(self._sessions)

    async def serve(self, frames: AsyncIterator[tracking_pb2.ClientFrame], write: Write) -> None:
        """Serve one stream until either side ends it."""
        if self._draining or len(self._sessions) >= STREAMS_MAX:
            await write(tracking_pb2.ServerFrame(drain=tracking_pb2.Drain()))
            return
        session = Session(
            self._log, self._fold, self._health, self._terms, frames, write, self._take_over
        )
        self._sessions.add(session)
        self._empty.clear()
        try:
            await session.run()
        finally:
            self._sessions.discard(session)
            for key in [key for key, speaker in self._owners.items() if speaker is session]:
                del self._owners[key]
            if not self._sessions:
                self._empty.set()

    async def drain(self, timeout_s: float) -> None:
        """Ask every client to go elsewhere and wait for them; then end what is left."""
        self._draining = True
        for session in self._sessions:
            session.tell(tracking_pb2.ServerFrame(drain=tracking_pb2.Drain()))
        try:
            async with asyncio.timeout(timeout_s):
                await self._empty.wait()
        except TimeoutError:
            for session in self._sessions:
                session.end()

    def _take_over(self, key: ProducerKey, session: Session) -> None:
        """A stream was welcomed for a producer: an older one of it ends."""
        older = self._owners.get(key)
        self._owners[key] = session
        if older is not None and older is not session:
            older.fence(key)

    def _folded(self) -> None:
        for session in self._sessions:
            session.folded(self._fold.position)
