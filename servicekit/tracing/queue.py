"""Holds ended spans until they are sent, by a task that no RPC ever waits for.

The queue is bounded: a span that finds it full is dropped, and every span that was lost is counted.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final, Protocol

import structlog

from servicekit.background import BackgroundTask
from servicekit.handlers import LineLimit
from servicekit.tracing.span import Span

MAX_QUEUED: Final = 2_048
MAX_BATCH: Final = 128
"""Spans of one export: encoding them holds the interpreter for a few milliseconds."""

INTERVAL_S: Final = 1.0
"""How long a span waits for others to be sent with; and the pause after a failure."""

STOP_S: Final = 1.0
"""How long the last spans may take at the end."""

LINE_GAP_S: Final = 60.0
"""The least time between two log lines about lost spans."""

log = structlog.get_logger()


class Exporter(Protocol):
    """Sends spans. Its methods are called in a thread of its own, one after the other."""

    def export(self, spans: Sequence[Span]) -> str:
        """Send spans, within about a second, and return "" if they were taken, else why not."""

    def close(self) -> None:
        """End, also an export that another thread waits for."""


class SpanQueue:
    """Ended spans on their way to an exporter; to be used in the event loop's thread.

    Each span that was added is at last one of `sent`, `dropped` (the queue was full, or the process
    ended) and `failed` (the exporter could not send it).
    """

    def __init__(self, exporter: Exporter, *, now_s: Callable[[], float] = time.monotonic) -> None:
        self.sent = 0
        self.dropped = 0
        self.failed = 0
        self._reason = ""
        self._exporter = exporter
        self._spans: deque[Span] = deque()
        self._full_batch = asyncio.Event()
        self._task = BackgroundTask("traces")
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="traces")
        self._lines = LineLimit(now_s, gap_s=LINE_GAP_S)

    def __len__(self) -> int:
        return len(self._spans)

    @property
    def lost(self) -> int:
        """Spans that were not sent and never will be."""
        return self.dropped + self.failed

    def add(self, span: Span) -> None:
        """Queue an ended span, or drop it. Never blocks or raises."""
        if len(self._spans) >= MAX_QUEUED:
            self.dropped += 1
            return
        self._spans.append(span)
        if len(self._spans) >= MAX_BATCH:
            self._full_batch.set()

    def start(self) -> None:
        """Begin to send."""
        self._task.start(self._run())

    async def stop(self) -> None:
        """Send what is left within STOP_S; what is left then is dropped."""
        await self._task.stop()
        flushed = asyncio.create_task(self._flush(), name="traces/flush")
        await asyncio.wait({flushed}, timeout=STOP_S)
        flushed.cancel()
        await asyncio.gather(flushed, return_exceptions=True)
        self.dropped += len(self._spans)
        self._spans.clear()
        self._report()
        self._exporter.close()
        self._thread.shutdown(wait=False, cancel_futures=True)

    async def _run(self) -> None:
        while True:
            try:
                async with asyncio.timeout(INTERVAL_S):
                    await self._full_batch.wait()
            except TimeoutError:
                pass
            if not await self._flush():
                self._report()
                await asyncio.sleep(INTERVAL_S)

    async def _flush(self) -> bool:
        """Send all spans; after a batch that fails, none."""
        while self._spans:
            count = min(len(self._spans), MAX_BATCH)
            if not await self._send([self._spans.popleft() for _ in range(count)]):
                return False
        self._full_batch.clear()
        return True

    async def _send(self, batch: Sequence[Span]) -> bool:
        loop = asyncio.get_running_loop()
        # Where this task is cancelled, nobody learns what becomes of the batch.
        reason = "cancelled"
        try:
            reason = await loop.run_in_executor(self._thread, self._exporter.export, batch)
        except Exception as error:
            reason = type(error).__name__
        finally:
            if reason:
                self.failed += len(batch)
                self._reason = reason
            else:
                self.sent += len(batch)
        return not reason

    def _report(self) -> None:
        if self.lost and self._lines.take() is not None:
            log.warning(
                "spans_lost",
                dropped=self.dropped,
                failed=self.failed,
                sent=self.sent,
                reason=self._reason,
            )
