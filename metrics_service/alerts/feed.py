"""The newest changes of alerts, as frames for the readers of StreamAlerts: each reads at its own
pace from a bounded log that all share, and is told what it has missed.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Iterable
from typing import Final

from google.protobuf.timestamp_pb2 import Timestamp

from protos.metrics.v1.alert_pb2 import AlertEvent, StreamAlertsResponse

MAX_KEPT: Final = 2_000
"""Changes that a reader may fall behind, or come back for."""

MAX_READERS: Final = 256

MAX_FRAMES: Final = 100
"""That a reader is given at a time."""


class FullError(Exception):
    """MAX_READERS read already."""


class ClosedError(Exception):
    """The service is stopping."""


class AlertFeed:
    """Events in the order of their numbers, which are dense, from the time of `begin` on."""

    def __init__(self, max_kept: int = MAX_KEPT) -> None:
        self.as_of_us = 0
        """No event up to this time of the log is missing."""

        self.closed = False
        self._frames: deque[bytes] = deque(maxlen=max_kept)
        self._newest = 0
        self._begun = False
        self._more = asyncio.Event()
        self.readers = 0

    @property
    def begun(self) -> bool:
        """Whether it has what is stored."""
        return self._begun

    @property
    def newest(self) -> int:
        """The number of the newest event."""
        return self._newest

    def begin(self, newest: int, events: Iterable[AlertEvent]) -> None:
        """Begin with the newest events that are stored, up to number `newest`."""
        self._newest, self._begun = newest, True
        self._frames.extend(_frame(event) for event in events)

    def add(self, events: Iterable[AlertEvent]) -> None:
        """Add the next events, for all readers."""
        for event in events:
            if event.number != self._newest + 1:
                raise ValueError(f"event {event.number} follows {self._newest}")
            self._frames.append(_frame(event))
            self._newest = event.number
        self._wake()

    def join(self) -> None:
        """Count a reader, which must `leave`. Raises FullError, ClosedError."""
        if self.closed:
            raise ClosedError
        if self.readers >= MAX_READERS:
            raise FullError
        self.readers += 1

    def leave(self) -> None:
        """Count a reader no more."""
        self.readers -= 1

    def close(self) -> None:
        """End all readers."""
        self.closed = True
        self._wake()

    async def after(self, number: int, wait_s: float) -> tuple[int, list[bytes]]:
        """Return frames of what follows the event `number`, and the number of the last one.

        Waits until there is something; a frame that says so follows where nothing has come for
        wait_s. Raises ClosedError.
        """
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(wait_s):
                while number >= self._newest and not self.closed:
                    await self._more.wait()
        if self.closed:
            raise ClosedError
        if number >= self._newest:
            return number, [self._nothing()]
        frames: list[bytes] = []
        first = self._newest - len(self._frames) + 1
        if number + 1 < first:
            frames.append(StreamAlertsResponse(gap_from=number + 1).SerializeToString())
            number = first - 1
        begin = number + 1 - first
        frames += [
            self._frames[at] for at in range(begin, min(begin + MAX_FRAMES, len(self._frames)))
        ]
        return min(number + MAX_FRAMES, self._newest), frames

    def _nothing(self) -> bytes:
        stamp = Timestamp()
        stamp.FromMicroseconds(self.as_of_us)
        return StreamAlertsResponse(as_of=stamp).SerializeToString()

    def _wake(self) -> None:
        # Each wait is for one event object: readers that come later wait for the next one.
        self._more.set()
        self._more = asyncio.Event()


def _frame(event: AlertEvent) -> bytes:
    return StreamAlertsResponse(event=event).SerializeToString()
