"""Encodes each answer once a tick for all readers of a question, and offers it to each in a slot of
one.

A slow reader finds the newest answer in its slot, never a backlog, and does not slow down others.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Collection, Hashable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final, Generic, TypeVar

import structlog

log = structlog.get_logger()

MAX_READERS: Final = 256

TICK_S: Final = 0.1
"""The least time between two ticks: those whose answers are due in it share the work."""

PAUSES_PER_WORK: Final = 4
"""How much longer than its work the pause after a tick is: reads take a fifth of the process."""

WRITE_S: Final = 0.000_1
"""About what it takes to write a frame to a reader, as part of that work."""

Q = TypeVar("Q", bound=Hashable)

Encode = Callable[[Collection[Q]], Iterator[Mapping[Q, bytes]]]


class FullError(Exception):
    """As many readers as allowed exist already."""


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
    """All readers of one question at one pace. `frame` is of the version `encoded`; the readers
    were offered that of the version `offered` at `offered_s`.
    """

    question: Q
    pace: Pace
    frame: bytes
    encoded: int
    offered: int
    offered_s: float
    readers: set[Reader] = field(default_factory=set)

    def due_s(self, version: int) -> float:
        """Return when its readers are due a frame, if the answers are of this version."""
        gap_s = self.pace.gap_s
        if self.offered == version:
            # A repeat is encoded again too: the ages in it have changed.
            gap_s = max(gap_s, self.pace.repeat_s)
        return self.offered_s + gap_s


class Fanout(Generic[Q]):
    """Answers questions of type Q, as bytes, after each `notify`.

    encode(questions) yields the current answers, serialised, in one or more steps, each of one
    state. It runs in the event loop, once a tick for all questions whose answers are due; others
    run between two steps.
    """

    def __init__(
        self,
        encode: Encode[Q],
        *,
        max_readers: int = MAX_READERS,
        monotonic_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._encode = encode
        self._max_readers = max_readers
        self._monotonic_s = monotonic_s
        self._topics: dict[tuple[Q, Pace], _Topic[Q]] = {}
        self._version = 0
        self._changed = asyncio.Event()
        self._ticking: asyncio.Task[None] | None = None
        self._closed = False
        self._entering = asyncio.Lock()
        self._free_s = 0.0

    @property
    def readers(self) -> int:
        return sum(len(topic.readers) for topic in self._topics.values())

    @property
    def questions(self) -> set[Q]:
        """The different questions that have readers."""
        return {question for question, _ in self._topics}

    def notify(self) -> None:
        """Mark every answer as outdated. Cheap: nothing is encoded before it is due."""
        self._version += 1
        self._changed.set()

    def join(self, question: Q, pace: Pace) -> Reader:
        """Add a reader, whose slot already holds the current answer.

        Raises FullError or ClosedError. Every reader that joins must `leave`.
        """
        if self._closed:
            raise ClosedError
        if self.readers >= self._max_readers:
            raise FullError
        topic = self._topics.get((question, pace))
        if topic is None:
            frame, now_s, version = self._answer(question), _now_s(), self._version
            topic = _Topic(question, pace, frame, version, version, now_s)
            self._topics[(question, pace)] = topic
        elif topic.encoded != self._version:
            topic.frame, topic.encoded = self._answer(question), self._version
        reader = Reader(topic.frame)
        topic.readers.add(reader)
        if self._ticking is None:
            self._ticking = asyncio.create_task(self._run(), name="fanout")
        # The new topic may be due before those that are waited for.
        self._changed.set()
        return reader

    async def enter(self, question: Q, pace: Pace, admit: Callable[[], None]) -> Reader:
        """Join in turn, after `admit`, which may raise: the first answers of many that come at once
        are encoded one by one, each followed by a pause as long as it took, in which others run.
        """
        async with self._entering:
            await asyncio.sleep(max(self._free_s - self._monotonic_s(), 0.0))
            began_s = self._monotonic_s()
            try:
                admit()
                return self.join(question, pace)
            finally:
                ended_s = self._monotonic_s()
                self._free_s = ended_s + (ended_s - began_s)

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
        self._end(self._topics.values(), ClosedError())

    async def _run(self) -> None:
        """Offer the answers that are due to their readers, until the last one leaves."""
        while True:
            due_s = min(topic.due_s(self._version) for topic in self._topics.values())
            if due_s > _now_s():
                self._changed.clear()
                await _wait(self._changed, due_s - _now_s())
            now_s = _now_s()
            due = [each for each in self._topics.values() if each.due_s(self._version) <= now_s]
            work_s = await self._tick(due) if due else 0.0
            await asyncio.sleep(max(TICK_S, PAUSES_PER_WORK * work_s))

    async def _tick(self, due: list[_Topic[Q]]) -> float:
        """Encode and offer the answers of topics; return about how long it took."""
        waiting = set(due)
        work_s = 0.0
        try:
            steps = self._encode({topic.question for topic in due})
            while True:
                began_s, version = self._monotonic_s(), self._version
                frames = next(steps, None)
                work_s += self._monotonic_s() - began_s
                if frames is None:
                    return work_s
                for topic in [each for each in waiting if each.question in frames]:
                    waiting.discard(topic)
                    self._offer(topic, frames[topic.question], version)
                    work_s += WRITE_S * len(topic.readers)
                await asyncio.sleep(0)
        except Exception as error:
            log.exception("fanout_failed", questions=str([each.question for each in waiting]))
            self._end(waiting, error)
            return work_s

    def _offer(self, topic: _Topic[Q], frame: bytes, version: int) -> None:
        topic.frame, topic.encoded = frame, version
        topic.offered, topic.offered_s = version, _now_s()
        for reader in topic.readers:
            reader._offer(frame)

    def _answer(self, question: Q) -> bytes:
        return next(self._encode([question]))[question]

    def _end(self, topics: Iterable[_Topic[Q]], reason: Exception) -> None:
        for topic in list(topics):
            for reader in topic.readers:
                reader._finish(reason)
            self._drop(topic)

    def _drop(self, topic: _Topic[Q]) -> None:
        if self._topics.get((topic.question, topic.pace)) is topic:
            del self._topics[(topic.question, topic.pace)]
        if not self._topics and self._ticking is not None:
            self._ticking.cancel()
            self._ticking = None


def _now_s() -> float:
    return asyncio.get_running_loop().time()


async def _wait(event: asyncio.Event, timeout_s: float) -> None:
    """Wait until the event is set, or for a time."""
    try:
        async with asyncio.timeout(max(timeout_s, 0.0)):
            await event.wait()
    except TimeoutError:
        return
