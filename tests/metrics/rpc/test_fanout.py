"""The fan-out: one encoding for all readers, a slot of one for each, an end for all on close."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterator

import pytest

from metrics_service.fanout import (
    PAUSES_PER_WORK,
    ClosedError,
    Fanout,
    FullError,
    Pace,
    Reader,
)

BOUND_S = 20.0
FAST = Pace(gap_s=0.02, repeat_s=60.0)


class Source:
    """A state that counts how often it was asked."""

    def __init__(self) -> None:
        self.revision = 1
        self.encoded = 0
        self.fails = False

    def encode(self, questions: Collection[str]) -> Iterator[dict[str, bytes]]:
        for question in sorted(questions):
            if self.fails:
                raise RuntimeError("cannot encode")
            self.encoded += 1
            yield {question: f"{question}:{self.revision}".encode()}


@pytest.fixture
def source() -> Source:
    return Source()


async def take(reader: Reader) -> bytes:
    async with asyncio.timeout(BOUND_S):
        return await reader.take()


async def test_the_first_frame_is_available_at_once_and_the_next_after_a_change(
    source: Source,
) -> None:
    fanout = Fanout(source.encode)
    reader = fanout.join("all", FAST)
    assert await take(reader) == b"all:1"
    source.revision = 2
    fanout.notify()
    assert await take(reader) == b"all:2"
    fanout.close()


async def test_readers_of_one_question_share_one_encoding(source: Source) -> None:
    fanout = Fanout(source.encode)
    readers = [fanout.join("all", FAST) for _ in range(50)]
    assert {await take(reader) for reader in readers} == {b"all:1"}
    source.revision = 2
    fanout.notify()
    frames = [await take(reader) for reader in readers]
    assert source.encoded == 2
    assert all(frame is frames[0] for frame in frames)
    fanout.close()


async def test_other_questions_are_encoded_apart(source: Source) -> None:
    fanout = Fanout(source.encode)
    one, other = fanout.join("hour", FAST), fanout.join("day", FAST)
    assert (await take(one), await take(other)) == (b"hour:1", b"day:1")
    assert fanout.questions == {"hour", "day"}
    fanout.close()


async def test_a_slow_reader_finds_only_the_newest_frame(source: Source) -> None:
    fanout = Fanout(source.encode)
    slow, quick = fanout.join("all", FAST), fanout.join("all", FAST)
    await take(quick)
    for revision in range(2, 6):
        source.revision = revision
        fanout.notify()
        assert await take(quick) == f"all:{revision}".encode()
    assert await take(slow) == b"all:5"
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.1):
            await slow.take()
    fanout.close()


async def test_changes_within_the_gap_are_one_frame(source: Source) -> None:
    fanout = Fanout(source.encode)
    pace = Pace(gap_s=0.2, repeat_s=60.0)
    reader = fanout.join("all", pace)
    await take(reader)
    start = asyncio.get_running_loop().time()
    for revision in range(2, 12):
        source.revision = revision
        fanout.notify()
        await asyncio.sleep(0)
    assert await take(reader) == b"all:11"
    assert asyncio.get_running_loop().time() - start >= 0.19
    assert source.encoded == 2
    fanout.close()


async def test_a_reader_that_joins_later_does_not_get_an_older_answer(source: Source) -> None:
    fanout = Fanout(source.encode)
    fanout.join("all", Pace(gap_s=60.0, repeat_s=60.0))
    source.revision = 7
    fanout.notify()
    late = fanout.join("all", Pace(gap_s=60.0, repeat_s=60.0))
    assert await take(late) == b"all:7"
    fanout.close()


async def test_the_frame_is_repeated_while_nothing_changes(source: Source) -> None:
    fanout = Fanout(source.encode)
    reader = fanout.join("all", Pace(gap_s=0.01, repeat_s=0.05))
    assert [await take(reader) for _ in range(3)] == [b"all:1"] * 3
    fanout.close()


async def test_the_last_reader_to_leave_ends_the_work(source: Source) -> None:
    fanout = Fanout(source.encode)
    readers = [fanout.join("all", FAST) for _ in range(2)]
    fanout.leave("all", FAST, readers[0])
    assert (fanout.readers, fanout.questions) == (1, {"all"})
    fanout.leave("all", FAST, readers[1])
    fanout.leave("all", FAST, readers[1])
    assert (fanout.readers, fanout.questions) == (0, set())
    encoded = source.encoded
    fanout.notify()
    await asyncio.sleep(3 * FAST.gap_s)
    assert source.encoded == encoded


async def test_closing_ends_every_reader_and_refuses_new_ones(source: Source) -> None:
    fanout = Fanout(source.encode)
    reader = fanout.join("all", FAST)
    await take(reader)
    waiting = asyncio.create_task(reader.take())
    await asyncio.sleep(0)
    fanout.close()
    with pytest.raises(ClosedError):
        await waiting
    async with asyncio.timeout(BOUND_S):
        await reader.pause(60.0)
    with pytest.raises(ClosedError):
        fanout.join("all", FAST)


async def test_a_failing_answer_ends_its_readers_with_the_error(source: Source) -> None:
    fanout = Fanout(source.encode)
    reader = fanout.join("all", FAST)
    await take(reader)
    source.fails = True
    fanout.notify()
    with pytest.raises(RuntimeError):
        await take(reader)
    assert fanout.questions == set()


async def test_readers_are_bounded(source: Source) -> None:
    fanout = Fanout(source.encode, max_readers=2)
    fanout.join("a", FAST)
    fanout.join("b", FAST)
    with pytest.raises(FullError):
        fanout.join("a", FAST)
    fanout.close()


async def test_paces_share_the_encoding_of_a_tick(source: Source) -> None:
    fanout = Fanout(source.encode)
    readers = [fanout.join("all", Pace(gap_s / 1000, 60.0)) for gap_s in range(1, 101)]
    for reader in readers:
        await take(reader)
    encoded, source.revision = source.encoded, 2
    fanout.notify()
    assert {await take(reader) for reader in readers} == {b"all:2"}
    # Those with a gap of almost a tick may be due in the next one.
    assert source.encoded - encoded <= 2
    fanout.close()


async def test_one_question_that_fails_leaves_the_next_tick_to_the_others(source: Source) -> None:
    fanout = Fanout(source.encode)
    failing, slow = fanout.join("a", FAST), fanout.join("b", Pace(0.5, 60.0))
    await take(failing)
    await take(slow)
    source.fails = True
    fanout.notify()
    with pytest.raises(RuntimeError):
        await take(failing)
    source.fails, source.revision = False, 2
    assert await take(slow) == b"b:2"
    fanout.close()


async def test_the_pause_after_a_tick_grows_with_its_work(source: Source) -> None:
    clock_s, work_s = 0.0, 0.1

    def encode(questions: Collection[str]) -> Iterator[dict[str, bytes]]:
        nonlocal clock_s
        clock_s += work_s
        yield from source.encode(questions)

    fanout = Fanout(encode, monotonic_s=lambda: clock_s)
    reader = fanout.join("all", FAST)
    loop = asyncio.get_running_loop()
    await take(reader)
    fanout.notify()
    await take(reader)
    began_s = loop.time()
    fanout.notify()
    await take(reader)
    assert loop.time() - began_s >= PAUSES_PER_WORK * work_s - 0.05
    fanout.close()


async def test_readers_that_come_at_once_get_their_first_answers_in_turn(source: Source) -> None:
    clock_s, work_s, others = 0.0, 0.02, 0
    loop = asyncio.get_running_loop()

    def encode(questions: Collection[str]) -> Iterator[dict[str, bytes]]:
        nonlocal clock_s
        clock_s += work_s
        yield from source.encode(questions)

    async def other() -> None:
        nonlocal others
        while True:
            await asyncio.sleep(0)
            others += 1

    fanout = Fanout(encode, monotonic_s=lambda: clock_s)
    running = asyncio.create_task(other())
    began_s, admitted = loop.time(), []
    entering = [
        asyncio.create_task(
            fanout.enter(f"{number}", FAST, lambda: admitted.append((source.encoded, others)))
        )
        for number in range(5)
    ]
    for each in asyncio.as_completed(entering):
        await each
    running.cancel()
    assert [encoded for encoded, _ in admitted] == [0, 1, 2, 3, 4]
    turns = [ran for _, ran in admitted]
    assert turns == sorted(set(turns)), "others run between two of them"
    assert loop.time() - began_s >= 4 * work_s * 0.9, "for as long as the answers took"
    fanout.close()


async def test_who_is_not_admitted_joins_nothing(source: Source) -> None:
    def full() -> None:
        raise FullError

    fanout = Fanout(source.encode)
    with pytest.raises(FullError):
        await fanout.enter("all", FAST, full)
    assert (fanout.readers, source.encoded) == (0, 0)
    await fanout.enter("all", FAST, lambda: None)
    fanout.close()
