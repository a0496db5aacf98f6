"""What a group of requests makes of the producers: rows, answers and refusals; no database."""

from __future__ import annotations

import asyncio
import hashlib
from typing import Any

import pytest

from metrics_service.eventlog.errors import FencedError, GapError
from metrics_service.eventlog.producer import Producer, ProducerKey, ResumePoint
from metrics_service.eventlog.producers import (
    AppendRequest,
    CloseRequest,
    OpenRequest,
    Plan,
    Producers,
    Request,
)
from metrics_service.eventlog.row import Row
from protos.tracking.v1 import tracking_pb2

FACTS = ProducerKey(tracking_pb2.LANE_FACTS, "relay")
TELEMETRY = ProducerKey(tracking_pb2.LANE_TELEMETRY, "booking-1")
UNCLEAN_AFTER_S = 15.0
NOW_S = 1_000.0
EVENTS = 7


@pytest.fixture
def producers() -> Producers:
    return Producers(UNCLEAN_AFTER_S)


def stored(
    epoch: int = 1,
    next_seq: int = 1,
    payload: bytes | None = None,
    *,
    is_open: bool = True,
    events: int | None = None,
    pinned: bool | None = None,
) -> Producer:
    """A producer of facts whose newest batch had this payload."""
    last_hash = b"" if payload is None else sha256(payload)
    return Producer(
        epoch,
        next_seq,
        last_hash,
        "i",
        "test",
        backfill=False,
        open=is_open,
        events=EVENTS * (next_seq - 1) if events is None else events,
        pinned=next_seq > 1 if pinned is None else pinned,
    )


def row(key: ProducerKey, seq: int, payload: bytes, *, epoch: int = 1) -> Row:
    return Row("batch", key, epoch, seq, "i", "test", False, EVENTS, payload)


def unclean_end(key: ProducerKey, seq: int, *, epoch: int = 1) -> Row:
    return Row("unclean_end", key, epoch, seq, "i", "test", False, 0, b"")


def sha256(payload: bytes) -> bytes:
    return hashlib.sha256(payload).digest()


def hello(key: ProducerKey = FACTS, epoch: int = 1) -> OpenRequest:
    return OpenRequest(key, epoch, "i", "test", backfill=False, done=future())


def batch(
    token: int, seq: int, payload: bytes = b"x", *, key: ProducerKey = FACTS, epoch: int = 1
) -> AppendRequest:
    return AppendRequest(key, token, epoch, seq, EVENTS, payload, future())


def goodbye(token: int, key: ProducerKey = FACTS) -> CloseRequest:
    return CloseRequest(key, token, future())


def future() -> asyncio.Future[Any]:
    return asyncio.get_running_loop().create_future()


def commit(producers: Producers, *requests: Request, now_s: float = NOW_S) -> Plan:
    """Plan a group that is then written."""
    plan = producers.plan(requests, now_s)
    producers.committed(plan)
    return plan


def opened(producers: Producers, key: ProducerKey = FACTS, epoch: int = 1) -> int:
    """A stream has opened the producer; returns its token."""
    ((_, point),) = commit(producers, hello(key, epoch)).opened
    return point.token


def refusals(plan: Plan) -> list[tuple[Request, type[Exception], str]]:
    return [(request, type(reason), str(reason)) for request, reason in plan.refused]


async def test_a_new_producer_opens_at_its_first_batch(producers: Producers) -> None:
    request = hello()
    assert producers.plan([request], NOW_S) == Plan(
        changed={FACTS: stored()}, opened=[(request, ResumePoint(0, b"", 1))]
    )


async def test_batches_are_appended_once_each_in_their_order(producers: Producers) -> None:
    token = opened(producers)
    first, second = batch(token, 1, b"a"), batch(token, 2, b"b")
    assert producers.plan([first, second], NOW_S) == Plan(
        rows=[row(FACTS, 1, b"a"), row(FACTS, 2, b"b")],
        changed={FACTS: stored(next_seq=3, payload=b"b")},
        appended=[(first, 0, 1), (second, 1, 2)],
    )


async def test_a_resent_batch_is_answered_and_not_appended_again(producers: Producers) -> None:
    token = opened(producers)
    commit(producers, batch(token, 1, b"a"), batch(token, 2, b"b"))
    older, newest = batch(token, 1, b"a"), batch(token, 2, b"b")
    assert producers.plan([older, newest], NOW_S) == Plan(
        appended=[(older, None, 2), (newest, None, 2)]
    )


async def test_a_batch_resent_within_one_group_is_appended_once(producers: Producers) -> None:
    token = opened(producers)
    batches = [batch(token, 1, b"a"), batch(token, 1, b"a"), batch(token, 2, b"b")]
    assert producers.plan(batches, NOW_S) == Plan(
        rows=[row(FACTS, 1, b"a"), row(FACTS, 2, b"b")],
        changed={FACTS: stored(next_seq=3, payload=b"b")},
        appended=[(batches[0], 0, 1), (batches[1], None, 1), (batches[2], 1, 2)],
    )


async def test_a_batch_after_a_gap_is_refused_with_the_next_number(producers: Producers) -> None:
    token = opened(producers)
    first, third = batch(token, 1, b"a"), batch(token, 3, b"c")
    plan = producers.plan([first, third], NOW_S)
    assert plan.rows == [row(FACTS, 1, b"a")]
    assert plan.appended == [(first, 0, 1)]
    ((refused, reason),) = plan.refused
    assert isinstance(reason, GapError)
    assert (refused, reason.next_seq) == (third, 2)
    assert plan.changed == {FACTS: stored(next_seq=2, payload=b"a")}


async def test_a_stream_resumes_after_what_is_stored(producers: Producers) -> None:
    token = opened(producers)
    commit(producers, batch(token, 1, b"a"))
    request = hello()
    assert producers.plan([request], NOW_S) == Plan(
        opened=[(request, ResumePoint(1, sha256(b"a"), 2, EVENTS))]
    )


async def test_a_newer_stream_of_the_same_epoch_fences_the_older(producers: Producers) -> None:
    older, newer = opened(producers), opened(producers)
    late, good = batch(older, 1, b"late"), batch(newer, 1, b"a")
    plan = producers.plan([late, good], NOW_S)
    assert plan.rows == [row(FACTS, 1, b"a")]
    assert plan.appended == [(good, 0, 1)]
    assert refusals(plan) == [
        (late, FencedError, "another stream of this producer has taken over"),
    ]


async def test_a_newer_epoch_goes_on_with_the_numbers_of_facts(producers: Producers) -> None:
    token = opened(producers)
    commit(producers, batch(token, 1, b"a"))
    request = hello(epoch=2)
    assert producers.plan([request], NOW_S) == Plan(
        changed={FACTS: stored(epoch=2, next_seq=2, payload=b"a")},
        opened=[(request, ResumePoint(1, sha256(b"a"), 2, EVENTS))],
    )


async def test_a_newer_epoch_of_telemetry_ends_the_older_and_counts_anew(
    producers: Producers,
) -> None:
    token = opened(producers, TELEMETRY)
    commit(producers, batch(token, 1, b"a", key=TELEMETRY))
    request = hello(TELEMETRY, epoch=2)
    assert producers.plan([request], NOW_S) == Plan(
        rows=[unclean_end(TELEMETRY, 1)],
        changed={TELEMETRY: stored(epoch=2)},
        opened=[(request, ResumePoint(0, b"", 2))],
    )


async def test_an_older_epoch_is_refused(producers: Producers) -> None:
    token = opened(producers, epoch=2)
    request, append = hello(epoch=1), batch(token, 1, epoch=1)
    plan = producers.plan([request, append], NOW_S)
    assert refusals(plan) == [
        (request, FencedError, "epoch 2 has taken over"),
        (append, FencedError, "epoch 2 has taken over"),
    ]
    assert not plan.writes


async def test_a_producer_that_was_never_opened_is_refused(producers: Producers) -> None:
    request = batch(1, 1)
    plan = producers.plan([request], NOW_S)
    assert refusals(plan) == [
        (request, FencedError, "another stream of this producer has taken over"),
    ]
    assert not plan.writes


async def test_goodbye_closes_the_producer_and_detaches_its_stream(producers: Producers) -> None:
    token = opened(producers, TELEMETRY)
    request = goodbye(token, TELEMETRY)
    plan = commit(producers, request)
    assert plan == Plan(changed={TELEMETRY: stored(is_open=False)}, closed=[request])
    late = batch(token, 1, key=TELEMETRY)
    assert [reason for _, reason, _ in refusals(commit(producers, late))] == [FencedError]
    assert commit(producers, now_s=NOW_S + 10 * UNCLEAN_AFTER_S) == Plan()


async def test_goodbye_of_an_older_stream_is_answered_and_changes_nothing(
    producers: Producers,
) -> None:
    older, newer = opened(producers), opened(producers)
    request, append = goodbye(older), batch(newer, 1, b"a")
    assert producers.plan([request, append], NOW_S) == Plan(
        rows=[row(FACTS, 1, b"a")],
        changed={FACTS: stored(next_seq=2, payload=b"a")},
        appended=[(append, 0, 1)],
        closed=[request],
    )


async def test_telemetry_without_a_stream_ends_unclean_once_it_is_overdue(
    producers: Producers,
) -> None:
    token = opened(producers, TELEMETRY)
    commit(producers, batch(token, 1, b"a", key=TELEMETRY))
    producers.release(TELEMETRY, token, NOW_S)
    assert commit(producers, now_s=NOW_S + UNCLEAN_AFTER_S - 0.001) == Plan()
    assert commit(producers, now_s=NOW_S + UNCLEAN_AFTER_S) == Plan(
        rows=[unclean_end(TELEMETRY, 1)],
        changed={TELEMETRY: stored(next_seq=2, payload=b"a", is_open=False, pinned=False)},
    )
    assert commit(producers, now_s=NOW_S + 10 * UNCLEAN_AFTER_S) == Plan()


async def test_facts_without_a_stream_are_closed_without_a_record(producers: Producers) -> None:
    token = opened(producers)
    producers.release(FACTS, token, NOW_S)
    assert commit(producers, now_s=NOW_S + UNCLEAN_AFTER_S) == Plan(
        changed={FACTS: stored(is_open=False)}
    )


async def test_a_stream_that_comes_back_in_time_ends_nothing(producers: Producers) -> None:
    token = opened(producers, TELEMETRY)
    producers.release(TELEMETRY, token, NOW_S)
    newer = opened(producers, TELEMETRY)
    producers.release(TELEMETRY, token, NOW_S)
    append = batch(newer, 1, b"a", key=TELEMETRY)
    assert producers.plan([append], NOW_S + 10 * UNCLEAN_AFTER_S) == Plan(
        rows=[row(TELEMETRY, 1, b"a")],
        changed={TELEMETRY: stored(next_seq=2, payload=b"a", pinned=False)},
        appended=[(append, 0, 1)],
    )


async def test_a_plan_that_was_not_committed_leaves_the_producers_as_they_were(
    producers: Producers,
) -> None:
    token = opened(producers)
    producers.plan([batch(token, 1, b"lost")], NOW_S)
    again = batch(token, 1, b"a")
    assert producers.plan([again], NOW_S) == Plan(
        rows=[row(FACTS, 1, b"a")],
        changed={FACTS: stored(next_seq=2, payload=b"a")},
        appended=[(again, 0, 1)],
    )


async def test_reloaded_producers_keep_their_streams_and_others_get_time_to_reconnect(
    producers: Producers,
) -> None:
    token = opened(producers)
    beside = ProducerKey(tracking_pb2.LANE_TELEMETRY, "booking-2")
    ended = ProducerKey(tracking_pb2.LANE_TELEMETRY, "booking-3")
    read = {FACTS: stored(), beside: stored(next_seq=5), ended: stored(is_open=False)}
    producers.reload(read, NOW_S)
    append = batch(token, 1, b"a")
    assert producers.plan([append], NOW_S + UNCLEAN_AFTER_S) == Plan(
        rows=[row(FACTS, 1, b"a"), unclean_end(beside, 4)],
        changed={
            FACTS: stored(next_seq=2, payload=b"a"),
            beside: stored(next_seq=5, is_open=False),
        },
        appended=[(append, 0, 1)],
    )
