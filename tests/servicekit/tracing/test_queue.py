"""The queue of spans is bounded, never waited for, and knows what became of each span."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from functools import partial

import pytest
from structlog.testing import capture_logs

from servicekit.exposition import spans
from servicekit.tracing import queue as queues
from servicekit.tracing.queue import MAX_BATCH, MAX_QUEUED, SpanQueue
from servicekit.tracing.span import Span
from servicekit.tracing.tracer import Tracer
from tests.servicekit.tracing.exporters import Hanging, Raising, Recording, ended

BOUND_S = 30.0


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(BOUND_S):
        while not condition():  # noqa: ASYNC110 - the queue has no event for it
            await asyncio.sleep(0.005)


def has_failed(queue: SpanQueue, count: int) -> bool:
    return queue.failed == count


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without long pauses between exports."""
    monkeypatch.setattr(queues, "INTERVAL_S", 0.01)


async def test_spans_are_sent_in_their_order_and_in_bounded_batches() -> None:
    exporter = Recording()
    queue = SpanQueue(exporter)
    spans = [ended() for _ in range(MAX_BATCH * 2 + 1)]
    for span in spans:
        queue.add(span)
    queue.start()
    await until(lambda: queue.sent == len(spans))
    await queue.stop()
    assert exporter.spans == spans
    assert [len(batch) for batch in exporter.batches] == [MAX_BATCH, MAX_BATCH, 1]
    assert (queue.lost, len(queue), exporter.closed) == (0, 0, True)


async def test_what_is_left_at_the_end_is_sent() -> None:
    exporter = Recording()
    queue = SpanQueue(exporter)
    queue.start()
    span = ended()
    queue.add(span)
    await queue.stop()
    assert exporter.spans == [span]
    assert queue.sent == 1


async def test_with_an_exporter_that_hangs_the_queue_is_bounded_and_drops_are_counted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(queues, "STOP_S", 0.01)
    exporter = Hanging()
    queue = SpanQueue(exporter)
    queue.start()
    queue.add(ended())
    await asyncio.to_thread(exporter.begun.wait, BOUND_S)
    for _ in range(MAX_QUEUED + 500):
        queue.add(ended())
    assert len(queue) == MAX_QUEUED
    assert queue.dropped == 500
    with capture_logs() as lines:
        # Nobody waits for the export that hangs.
        await queue.stop()
    # Each span once: those of the batch that hangs and of the next one have failed.
    assert queue.dropped + queue.failed == 1 + MAX_QUEUED + 500
    assert (queue.sent, len(queue)) == (0, 0)
    (line,) = lines
    assert (line["event"], line["log_level"]) == ("spans_lost", "warning")
    assert (line["dropped"], line["failed"]) == (queue.dropped, queue.failed)


async def test_a_batch_that_fails_is_counted_and_later_ones_are_sent() -> None:
    exporter = Recording()
    exporter.fails = True
    queue = SpanQueue(exporter)
    queue.start()
    queue.add(ended("first"))
    await until(lambda: queue.failed == 1)
    exporter.fails = False
    queue.add(ended("second"))
    await until(lambda: queue.sent == 1)
    await queue.stop()
    assert [span.name for span in exporter.spans] == ["first", "second"]


async def test_a_fault_of_the_exporter_is_logged_without_its_text_and_ends_nothing() -> None:
    exporter = Raising()
    queue = SpanQueue(exporter)
    with capture_logs() as lines:
        queue.start()
        for count in (1, 2):
            queue.add(ended())
            await until(partial(has_failed, queue, count))
        await queue.stop()
    (line,) = lines
    assert (line["event"], line["reason"]) == ("spans_lost", "ValueError")
    assert "secret text" not in str(line)


async def test_an_outage_of_the_receiver_is_one_line_a_minute() -> None:
    exporter, now_s = Recording(), 1_000.0
    exporter.fails = True
    queue = SpanQueue(exporter, now_s=lambda: now_s)
    with capture_logs() as lines:
        queue.start()
        for count in range(1, 4):
            queue.add(ended())
            await until(partial(has_failed, queue, count))
        await until(lambda: lines)
        assert len(lines) == 1
        now_s += queues.LINE_GAP_S
        queue.add(ended())
        await until(lambda: len(lines) == 2)
        await queue.stop()
    assert (lines[-1]["failed"], lines[-1]["reason"]) == (4, "UNAVAILABLE")


async def test_what_arrives_while_spans_are_sent_waits_for_the_next_interval(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """So that no caller makes the thread that encodes spans busy for ever."""
    monkeypatch.setattr(queues, "INTERVAL_S", 60.0)
    exporter = Recording()
    queue = SpanQueue(exporter)
    sending = exporter.export

    def export(spans: Sequence[Span]) -> str:
        queue.add(ended())
        return sending(spans)

    monkeypatch.setattr(exporter, "export", export)
    queue.add(ended())
    await queue.stop()
    assert (queue.sent, queue.dropped) == (1, 1)


async def test_without_a_further_loss_there_is_no_further_line() -> None:
    exporter, now_s = Recording(), 1_000.0
    exporter.fails = True
    queue = SpanQueue(exporter, now_s=lambda: now_s)
    with capture_logs() as lines:
        queue.start()
        queue.add(ended())
        await until(lambda: lines)
        exporter.fails = False
        now_s += queues.LINE_GAP_S
        queue.add(ended())
        await until(lambda: queue.sent == 1)
        await queue.stop()
    assert len(lines) == 1


async def test_a_scrape_says_what_became_of_spans() -> None:
    exporter = Recording()
    queue = SpanQueue(exporter)
    queue.add(ended())
    for _ in range(MAX_QUEUED + 2):
        queue.add(ended())
    await queue.stop()
    (family,) = spans.families(Tracer(queue))
    assert family.samples == {("sent",): MAX_QUEUED, ("dropped",): 3, ("failed",): 0}
    (off,) = spans.families(Tracer())
    assert {*off.samples.values()} == {0}
