"""Readers of StreamMetrics ask for sections of windows; each is computed and encoded once a tick,
however many readers want it.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Final

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration

from metrics_service.fanout import Fanout, Pace
from metrics_service.rpc.metrics import MAX_WINDOWS, Question, snapshots
from metrics_service.rpc.validate import SECTIONS
from metrics_service.state.answers import SECTIONS as FIGURES
from metrics_service.state.series.rings import Window
from protos.metrics.v1 import metrics_pb2
from protos.metrics.v1.health_pb2 import DatabaseHealth
from protos.metrics.v1.metrics_pb2 import Section, StreamMetricsRequest, StreamMetricsResponse
from tests.metrics.rpc.running_servicers import Figures, serve
from tests.metrics.state.log import MINUTE, NOW, SECOND, Fact, Log

BOUND_S = 20.0
PACE: Final = Pace(gap_s=0.1, repeat_s=60.0)
WINDOWS: Final = [None, *(minutes * MINUTE for minutes in range(1, MAX_WINDOWS))]
CHOICES: Final = [
    frozenset(chosen)
    for size in range(1, len(SECTIONS) + 1)
    for chosen in itertools.combinations(sorted(SECTIONS), size)
]


def questions(count: int) -> list[Question]:
    """So many different questions, about every window."""
    windows = itertools.cycle(WINDOWS)
    choices = itertools.cycle(reversed(CHOICES))
    asked: dict[Question, None] = {}
    while len(asked) < count:
        asked[Question(Window(next(windows)), next(choices))] = None
    return list(asked)


async def next_frames(fanout: Fanout[Question], asked: Iterable[Question]) -> list[bytes]:
    """Join a reader for each question and take the frame that follows the next change."""
    readers = [fanout.join(question, PACE) for question in asked]
    for reader in readers:
        await reader.take()
    await asyncio.sleep(2 * PACE.gap_s)  # From here on, each is due a frame as soon as one changes.
    fanout.notify()
    async with asyncio.timeout(BOUND_S):
        return [await reader.take() for reader in readers]


def busy_log() -> Log:
    """A state with figures in every section."""
    log = Log()
    log.append(log.define(1, "bookings.read"), log.queries([100, 2_000_000], rows=3))
    for number in range(300):
        at = NOW + number * SECOND
        log.now_us = at
        log.append(
            log.view(at, f"s{number}"),
            log.fact(Fact.STARTED, at, f"s{number}", booking=f"b{number}", hold_us=at),
            log.fact(Fact.CONFIRMED, at, f"s{number}", package=f"p{number}", amount=7),
            log.refused(at, reason=f"R{number}"),
            log.tally(at, 5, rpc=f"rpc{number}", queries=9, most=4),
        )
    return log


async def test_a_hundred_different_questions_encode_each_section_once() -> None:
    figures, health_asked = Figures(), Counter[str]()

    def health() -> DatabaseHealth:
        health_asked["health"] += 1
        return DatabaseHealth(status=DatabaseHealth.HEALTHY)

    fanout = snapshots(lambda: figures, health)
    asked = questions(100)
    readers = [fanout.join(question, PACE) for question in asked]
    for reader in readers:
        await reader.take()
    await asyncio.sleep(2 * PACE.gap_s)
    figures.asked.clear()
    health_asked.clear()
    figures.revision = 2
    fanout.notify()
    async with asyncio.timeout(BOUND_S):
        frames = [await reader.take() for reader in readers]
    fanout.close()
    assert len(set(asked)) == 100
    names = {Section.Value(f"SECTION_{name.upper()}"): name for name in FIGURES}
    wanted = {
        (names[section], None if names[section] == "quality" else question.window.window_us)
        for question in asked
        for section in question.sections & names.keys()
    }
    assert len(wanted) > 4 * MAX_WINDOWS - 4
    assert Counter(figures.asked) == dict.fromkeys(wanted, 1)
    assert health_asked["health"] == 1
    answers = map(StreamMetricsResponse.FromString, frames)
    assert {answer.snapshot.revision for answer in answers} == {2}


async def test_a_hundred_readers_cost_little_more_than_one_of_each_window() -> None:
    log = busy_log()
    fanout = snapshots(lambda: log.state, DatabaseHealth)
    all_sections = [Question(Window(window_us), SECTIONS) for window_us in WINDOWS]

    def tick_s(asked: list[Question]) -> float:
        """The least CPU time of a tick of several, for a state that has just changed."""

        def once() -> float:
            log.append(log.view(log.now_us, "another"))
            began_s = time.process_time()
            for _ in fanout._encode(asked):
                pass
            return time.process_time() - began_s

        return min(once() for _ in range(7))

    one, every_window = tick_s(all_sections[:1]), tick_s(all_sections)
    hundred = tick_s(questions(100))
    print(f"1 reader {one * 1e3:.1f} ms, 16 {every_window * 1e3:.1f}, 100 {hundred * 1e3:.1f} ms")
    assert hundred < 3 * every_window


async def test_an_answer_put_together_equals_that_of_get_metrics() -> None:
    state = busy_log().state
    verdict = DatabaseHealth(status=DatabaseHealth.DEGRADED)
    fanout = snapshots(lambda: state, lambda: verdict)
    asked = questions(100)
    frames = await next_frames(fanout, asked)
    fanout.close()
    for question, frame in zip(asked, frames, strict=True):
        answer, whole = (
            StreamMetricsResponse.FromString(frame),
            state.metrics(question.window.window_us),
        )
        for name in FIGURES:
            wanted = Section.Value(f"SECTION_{name.upper()}") in question.sections
            assert answer.snapshot.HasField(name) == wanted
            assert not wanted or getattr(answer.snapshot, name) == getattr(whole, name)
            answer.snapshot.ClearField(name)
            whole.ClearField(name)
        assert answer.snapshot == whole
        wanted = metrics_pb2.SECTION_HEALTH in question.sections
        assert answer.health == (verdict if wanted else DatabaseHealth())


async def test_a_reader_gets_the_sections_it_wants() -> None:
    wanted = [metrics_pb2.SECTION_BUSINESS, metrics_pb2.SECTION_HEALTH]
    async with serve() as running, running.channel() as (metrics, _):
        async for answer in metrics.StreamMetrics(StreamMetricsRequest(sections=wanted)):
            assert [field.name for field, _ in answer.ListFields()] == ["snapshot", "health"]
            parts = [field.name for field, _ in answer.snapshot.ListFields()]
            assert parts == ["revision", "business"]
            break


@pytest.mark.parametrize(
    "sections",
    [
        pytest.param(lambda: [metrics_pb2.SECTION_UNSPECIFIED], id="unspecified"),
        pytest.param(lambda: [99], id="unknown"),
        pytest.param(lambda: [-1], id="negative"),
        pytest.param(lambda: [metrics_pb2.SECTION_ERRORS] * 2, id="twice"),
        pytest.param(lambda: [*SECTIONS, metrics_pb2.SECTION_ERRORS], id="seven"),
        pytest.param(lambda: [metrics_pb2.SECTION_ERRORS] * 200_000, id="many"),
    ],
)
async def test_sections_that_are_none_are_refused(sections: Callable[[], list[int]]) -> None:
    request = StreamMetricsRequest(sections=sections())  # type: ignore[arg-type]  # Any number.
    async with serve() as running, running.channel() as (metrics, _):
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            async for _ in metrics.StreamMetrics(request):
                pass
    assert raised.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert "sections" in (raised.value.details() or "")


async def test_windows_are_bounded_and_those_that_are_streamed_are_not_refused() -> None:
    async with serve() as running, running.channel() as (metrics, _):

        async def open_stream(minutes: int) -> grpc.aio.UnaryStreamCall:  # type: ignore[type-arg]
            window = Duration(seconds=60 * minutes)
            call = metrics.StreamMetrics(StreamMetricsRequest(window=window))
            async with asyncio.timeout(BOUND_S):
                await anext(aiter(call))
            return call

        calls = [await open_stream(minutes) for minutes in range(1, MAX_WINDOWS + 1)]
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await open_stream(MAX_WINDOWS + 1)
        assert raised.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert "windows" in (raised.value.details() or "")
        await open_stream(1)
        calls[-1].cancel()
        async with asyncio.timeout(BOUND_S):
            while len(running.snapshots.questions) == MAX_WINDOWS:  # noqa: ASYNC110 - no event
                await asyncio.sleep(0.01)
        await open_stream(MAX_WINDOWS + 1)
