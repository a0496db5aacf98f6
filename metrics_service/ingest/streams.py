"""All tracking streams at the server's end: a batch is acknowledged only once the log has stored
it, and only the newest stream of a producer may append.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Final

from metrics_service.eventlog.producers import ProducerKey
from metrics_service.ingest.frames import DRAIN
from metrics_service.ingest.ports import Fold, Health, Log, Terms
from metrics_service.ingest.session import Session, Write
from protos.tracking.v1 import tracking_pb2
from servicekit.pauses import PauseDetector

HEARTBEAT_S: Final = 1.0
"""Also how soon a failed database shows; a stream ends after three missed ones."""

CREDIT_BYTES: Final = 4 * 1024 * 1024
MAX_BATCH_BYTES: Final = 1024 * 1024
MAX_STREAMS: Final = 256


class Ingest:
    """All tracking streams of this process.

    A stream that sends nothing for three heartbeats is ended. Each of its lanes may have
    credit_bytes of batches that are not acknowledged.
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
        self._pauses = PauseDetector()
        self._draining = False
        self._empty = asyncio.Event()
        self._empty.set()
        fold.on_change(self._on_folded)

    @property
    def streams(self) -> int:
        """The number of open streams."""
        return len(self._sessions)

    async def serve(self, frames: AsyncIterator[tracking_pb2.ClientFrame], write: Write) -> None:
        """Serve one stream until either side ends it."""
        if self._draining or len(self._sessions) >= MAX_STREAMS:
            await write(DRAIN)
            return
        session = Session(
            self._log,
            self._fold,
            self._health,
            self._terms,
            frames,
            write,
            self._take_over,
            self._pauses,
        )
        self._sessions.add(session)
        self._empty.clear()
        try:
            await session.run()
        finally:
            self._sessions.discard(session)
            for key in [key for key, owner in self._owners.items() if owner is session]:
                del self._owners[key]
            if not self._sessions:
                self._empty.set()

    async def drain(self, timeout_s: float) -> None:
        """Ask every client to connect elsewhere, wait, and end the streams that are left."""
        self._draining = True
        for session in self._sessions:
            session.send(DRAIN)
        try:
            async with asyncio.timeout(timeout_s):
                await self._empty.wait()
        except TimeoutError:
            for session in self._sessions:
                session.end()

    def _take_over(self, key: ProducerKey, session: Session) -> None:
        """End the older stream of a producer for which a newer one was welcomed."""
        older = self._owners.get(key)
        self._owners[key] = session
        if older is not None and older is not session:
            older.fence(key)

    def _on_folded(self) -> None:
        for session in self._sessions:
            session.on_folded(self._fold.position)
