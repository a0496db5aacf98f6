"""All tracking streams at the server's end: a batch is acknowledged only once the log has stored
it, and only the newest stream of a producer may append.
"""

from __future__ import annotations

import asyncio
import math
import random
from collections.abc import AsyncIterator
from typing import Final

import structlog

from metrics_service.eventlog.producer import ProducerKey
from metrics_service.eventlog.single_events import SingleEvent
from metrics_service.ingest.frames import DRAIN
from metrics_service.ingest.ports import Fold, Health, Log, Terms
from metrics_service.ingest.session import MayOpen, Session, Write
from metrics_service.storage.errors import LogUnavailableError
from protos.tracking.v1 import tracking_pb2
from servicekit.handlers import LineLimit
from servicekit.pauses import PauseDetector

log = structlog.get_logger()

HEARTBEAT_S: Final = 1.0
"""Also how soon a failed database shows; a stream ends after three missed ones."""

CREDIT_BYTES: Final = 4 * 1024 * 1024
# With the frame around it, a message of at most 1 MiB, the most that the server reads.
MAX_BATCH_BYTES: Final = 1024 * 1024 - 1024
MAX_STREAMS: Final = 256
"""Streams that are open at a time. Beyond it a further one takes the place of the oldest whose
producers have never stored a batch; streams of known producers are never ended for others.
"""

SEND_AWAY_S: Final = 3.0
"""The time for producers to leave a process that is not the writer any more."""

FULL_EVERY_S: Final = 10.0
"""How often it is logged that all streams are taken."""


class Ingest:
    """All tracking streams of this process.

    A stream that sends nothing for three heartbeats is ended. Each of its lanes may have
    credit_bytes of batches that are not acknowledged. A client is asked to connect again when its
    stream is max_stream_s old, or up to a fifth less.
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
        allow_live: bool = True,
        max_streams: int = MAX_STREAMS,
        max_stream_s: float = math.inf,
    ) -> None:
        self._log = event_log
        self._fold = fold
        self._health = health
        self._terms = Terms(
            heartbeat_s,
            max(credit_bytes, max_batch_bytes),
            max_batch_bytes,
            allow_backfill,
            allow_live,
        )
        self._max_streams = max_streams
        self._max_stream_s = max_stream_s
        self._full_lines = LineLimit(gap_s=FULL_EVERY_S)
        self._sessions: dict[Session, None] = {}
        """In the order in which they were opened."""

        self._owners: dict[ProducerKey, Session] = {}
        self._pauses = PauseDetector()
        self._draining = False
        self._superseded = False
        self._empty = asyncio.Event()
        self._empty.set()
        fold.on_change(self._on_folded)
        event_log.on_superseded(self._on_superseded)

    @property
    def streams(self) -> int:
        """The number of open streams."""
        return len(self._sessions)

    async def serve(
        self,
        frames: AsyncIterator[tracking_pb2.ClientFrame],
        write: Write,
        may_open: MayOpen = lambda _: True,
    ) -> None:
        """Serve one stream until either side ends it, or it opens a lane that it may not open."""
        if self._draining or self._superseded or not self._make_room():
            await write(DRAIN)
            return
        session = Session(
            self._log,
            self._fold,
            self._health,
            self._terms,
            frames,
            write,
            may_open,
            self._take_over,
            self._pauses,
        )
        self._sessions[session] = None
        self._empty.clear()
        age_s = self._max_stream_s * random.uniform(0.8, 1.0)  # noqa: S311 - jitter
        leaving = None
        if age_s < math.inf:
            loop = asyncio.get_running_loop()
            leaving = loop.call_later(age_s, session.send_away, SEND_AWAY_S)
        try:
            await session.run()
        finally:
            if leaving is not None:
                leaving.cancel()
            del self._sessions[session]
            for key in [key for key, owner in self._owners.items() if owner is session]:
                del self._owners[key]
            if not self._sessions:
                self._empty.set()

    def append_single(self, event: SingleEvent) -> asyncio.Future[bool]:
        """Append an event of no stream once by its id, and answer whether it is new, after the
        commit. LogUnavailableError.
        """
        if not self._terms.allow_live:
            raise LogUnavailableError("this log takes history alone")
        return self._log.append_single(event)

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

    def _make_room(self) -> bool:
        """Return whether a stream may be opened, and end one for it if all are taken."""
        staying = [session for session in self._sessions if not session.ending]
        if len(staying) < self._max_streams:
            return len(self._sessions) < 2 * self._max_streams
        stranger = next((session for session in staying if not session.known), None)
        if self._full_lines.take() is not None:
            log.warning("streams_full", streams=len(staying), refused=stranger is None)
        if stranger is None:
            return False
        stranger.send(DRAIN)
        stranger.end()
        return True

    def _on_superseded(self, superseded: bool) -> None:
        """Send all producers to the new writer once this process is not the writer any more."""
        if superseded and not self._superseded:
            log.warning("producers_sent_away", streams=len(self._sessions))
            for session in self._sessions:
                session.send_away(SEND_AWAY_S)
        self._superseded = superseded

    def _take_over(self, key: ProducerKey, session: Session) -> None:
        """End the older stream of a producer for which a newer one was welcomed."""
        older = self._owners.get(key)
        self._owners[key] = session
        if older is not None and older is not session:
            older.fence(key)

    def _on_folded(self) -> None:
        for session in self._sessions:
            session.on_folded(self._fold.position)
