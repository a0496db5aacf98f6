"""Encodes an answer once for all readers of a question, and offers it to each in a slot of one.

A slow reader finds the newest answer in its slot, never a backlog, and does not slow down others.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from typing import Final, Generic, TypeVar

import structlog

log = structlog.get_logger()

MAX_READERS: Final = 1000
MAX_TOPICS: Final = 100

Q = TypeVar("Q", bound=Hashable)


class FullError(Exception):
    """As many readers or different questions as allowed exist already."""


class ClosedError(Exception):
    """The service is stopping; the reader should ask again elsewhere."""


@dataclass(frozen=True, slots=True)
class Pace:
    """At most one frame every gap_s, and a repeat after repeat_s without a change."""

    gap_s: float
    repeat_s: float


class Reader:
    """One reader's slot. An offered frame replaces one that was not taken."""

    __slots__ = ("_ended", "_frame", "_ready", "_reason")

    def __init__(self, frame: bytes) -> None:
        self._frame = frame
        self._reason: Exception | None = None
        self._ended = asyncio.Event()
        self._ready = asyncio.Event()
        self._ready.set()

    async def take(self) -> bytes:
        """Wait for a frame that was not taken yet. Raises the reason when the reader is ended."""
        await self._ready.wait()
        if self._reason is not None:
            raise self._reason
        self._ready.clear()
        return self._frame

    async def pause(self, duration_s: float) -> None:
        """Wait for a time, or until the reader is ended."""
        await _wait(self._ended, duration_s)

    def _offer(self, frame: bytes) -> None:
        self._frame = frame
        self._ready.set()

    def _finish(self, reason: Exception) -> None:
        self._reason = reason
        self._ended.set()
        self._ready.set()


@dataclass(slots=True, eq=False)
class _Topic(Generic[Q]):
    """All readers of one question at one pace."""

    question: Q
    pace: Pace
    frame: bytes
    current: bool = True
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    readers: set[Reader] = field(default_factory=set)
    task: asyncio.Task[None] | None = None


class Fanout(Generic[Q]):
    """Answers questions of type Q, as bytes, after each `notify`.

    encode(question) returns the current answer, serialised. It runs in the event loop, once for all
    readers of the same question and pace.
    """

    def __init__(
        self,
        encode: Callable[[Q], bytes],
        *,
        max_readers: int = MAX_READERS,
        max_topics: int = MAX_TOPICS,
    ) -> None:
        self._encode = encode
        self._max_readers = max_readers
        self._max_topics = max_topics
        self._topics: dict[tuple[Q, Pace], _Topic[Q]] = {}
        self._closed = False

    @property
    def readers(self) -> int:
        return sum(len(topic.readers) for topic in self._topics.values())

    @property
    def topics(self) -> int:
        """The number of different questions, with their paces, that have readers."""
        return len(self._topics)

    def notify(self) -> None:
        """Mark every answer as outdated. Cheap: nothing is encoded before it is due."""
        for topic in self._topics.values():
            topic.current = False
            topic.changed.set()

    def join(self, question: Q, pace: Pace) -> Reader:
        """Add a reader, whose slot already holds the current answer.

        Raises FullError or ClosedError. Every reader that joins must `leave`.
        """
        if self._closed:
            raise ClosedError
        topic = self._topics.get((question, pace))
        if self.readers >= self._max_readers or (
            topic is None and len(self._topics) >= self._max_topics
        ):
            raise FullError
        if topic is None:
            topic = _Topic(question, pace, self._encode(question))
            self._topics[(question, pace)] = topic
            topic.task = asyncio.create_task(self._run(topic))
        elif not topic.current:
            self._refresh(topic)
        reader = Reader(topic.frame)
        topic.readers.add(reader)
        return reader

    def leave(self, question: Q, pace: Pace, reader: Reader) -> None:
        """Remove a reader; the work for a question ends with its last reader."""
        topic = self._topics.get((question, pace))
        if topic is None or reader not in topic.readers:
            return
        topic.readers.discard(reader)
        if not topic.readers:
            self._drop(topic)

    def close(self) -> None:
        """End every reader with ClosedError, and refuse new ones."""
        self._closed = True
        for topic in list(self._topics.values()):
            self._end(topic, ClosedError())

    async def _run(self, topic: _Topic[Q]) -> None:
        """Offer the answer to all readers of a topic, at its pace, until the last one leaves."""
        try:
            while True:
                await asyncio.sleep(topic.pace.gap_s)
                await _wait(topic.changed, topic.pace.repeat_s - topic.pace.gap_s)
                topic.changed.clear()
                # A repeat is encoded again too: the ages in it have changed.
                self._refresh(topic)
                for reader in topic.readers:
                    reader._offer(topic.frame)
        except Exception as error:
            log.exception("fanout_failed", question=str(topic.question))
            self._end(topic, error)

    def _refresh(self, topic: _Topic[Q]) -> None:
        topic.frame = self._encode(topic.question)
        topic.current = True

    def _end(self, topic: _Topic[Q], reason: Exception) -> None:
        for reader in topic.readers:
            reader._finish(reason)
        self._drop(topic)

    def _drop(self, topic: _Topic[Q]) -> None:
        self._topics.pop((topic.question, topic.pace), None)
        if topic.task is not None and topic.task is not asyncio.current_task():
            topic.task.cancel()


async def _wait(event: asyncio.Event, timeout_s: float) -> None:
    """Wait until the event is set, or for a time."""
    try:
        async with asyncio.timeout(max(timeout_s, 0.0)):
            await event.wait()
    except TimeoutError:
        return
