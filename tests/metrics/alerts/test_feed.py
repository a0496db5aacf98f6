"""The changes of alerts as readers of StreamAlerts get them."""

from __future__ import annotations

import asyncio

import pytest

from metrics_service.alerts import feed as feed_module
from metrics_service.alerts.feed import AlertFeed, ClosedError, FullError
from protos.metrics.v1.alert_pb2 import AlertEvent, StreamAlertsResponse

NEVER_S = 60.0


def changes(first: int, last: int) -> list[AlertEvent]:
    return [AlertEvent(number=number) for number in range(first, last + 1)]


def begun(newest: int, *, kept: int = 5, most: int = 10) -> AlertFeed:
    feed = AlertFeed(most)
    feed.begin(newest, changes(newest - kept + 1, newest))
    return feed


async def read(feed: AlertFeed, number: int, wait_s: float = NEVER_S) -> tuple[int, list[str]]:
    """What a reader gets after a number: "gap 3", "4" or "as of 5"."""
    number, frames = await feed.after(number, wait_s)
    found = []
    for frame in frames:
        answer = StreamAlertsResponse.FromString(frame)
        match answer.WhichOneof("body"):
            case "event":
                found.append(str(answer.event.number))
            case "gap_from":
                found.append(f"gap {answer.gap_from}")
            case _:
                found.append(f"as of {answer.as_of.ToMicroseconds()}")
    return number, found


async def test_a_reader_goes_on_after_its_number_and_is_told_of_a_gap() -> None:
    feed = begun(20)
    assert await read(feed, 18) == (20, ["19", "20"])
    assert await read(feed, 15) == (20, ["16", "17", "18", "19", "20"])
    assert await read(feed, 14) == (20, ["gap 15", "16", "17", "18", "19", "20"])
    assert await read(feed, 0) == (20, ["gap 1", "16", "17", "18", "19", "20"])
    feed.add(changes(21, 40))
    assert await read(feed, 20) == (40, ["gap 21", *map(str, range(31, 41))])


async def test_a_reader_waits_for_the_next_one_and_hears_that_nothing_has_come() -> None:
    feed = begun(20)
    waiting = asyncio.create_task(read(feed, 20))
    await asyncio.sleep(0)
    feed.add(changes(21, 22))
    assert await waiting == (22, ["21", "22"])
    feed.as_of_us = 7
    assert await read(feed, 22, 0.01) == (22, ["as of 7"])


async def test_readers_read_at_their_own_pace_from_what_is_kept_once() -> None:
    feed = begun(0, kept=0, most=2_000)
    feed.add(changes(1, 250))
    number, seen = 0, []
    while number < 250:
        number, found = await read(feed, number)
        assert len(found) <= feed_module.MAX_FRAMES
        seen += found
    assert seen == [str(each) for each in range(1, 251)]
    assert await read(feed, 249) == (250, ["250"])


async def test_numbers_are_dense() -> None:
    with pytest.raises(ValueError, match="event 22 follows 20"):
        begun(20).add(changes(22, 22))


async def test_readers_are_bounded_and_end_with_the_service(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(feed_module, "MAX_READERS", 1)
    feed = begun(1, kept=1)
    feed.join()
    with pytest.raises(FullError):
        feed.join()
    feed.leave()
    feed.join()
    waiting = asyncio.create_task(read(feed, 1))
    await asyncio.sleep(0)
    feed.close()
    with pytest.raises(ClosedError):
        await waiting
    with pytest.raises(ClosedError):
        feed.join()
