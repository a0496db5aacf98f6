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
"""Spans that wait, and so those of an interval, whatever callers record: some 0.1 s of CPU."""

MAX_BATCH: Final = 64
"""Spans of one export: encoding them holds the interpreter for 2 to 3 ms."""

INTERVAL_S: Final = 1.0
"""How often what waits is sent."""

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
        self._told = 0
        self._exporter = exporter
        self._spans: deque[Span] = deque()
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
            await asyncio.sleep(INTERVAL_S)
            await self._flush()
            self._report()

    async def _flush(self) -> None:
        """Send the spans that wait now; after a batch that fails, no further one."""
        left, sent = len(self._spans), True
        while left and sent:
            batch = [self._spans.popleft() for _ in range(min(left, MAX_BATCH))]
            left -= len(batch)
            sent = await self._send(batch)

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
        if self.lost > self._told and self._lines.take() is not None:
            self._told = self.lost
            log.warning(
                "spans_lost",
                dropped=self.dropped,
                failed=self.failed,
                sent=self.sent,
                reason=self._reason,
            )
