"""One relay leads and the others wait; it continues at the sink's resume point."""

from __future__ import annotations

import pytest

from booking_service.delivery import relay as module
from booking_service.delivery.fact_lane import FactLane
from booking_service.delivery.relay import OutboxRelay
from booking_service.storage.database import Database
from protos.tracking.v1 import tracking_pb2
from tests.booking.delivery.outbox_lane import Relay, Rows, Sink, append, facts_of
from tests.booking.seed import eventually

ADVISORY = """
SELECT count(*) FROM pg_locks
WHERE locktype = 'advisory'
    AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
"""


pytestmark = pytest.mark.usefixtures("no_long_waits")


async def holds(value: object) -> object:
    return value


async def lane_of(relay: OutboxRelay, sink: Sink) -> FactLane:
    await eventually(lambda: holds(relay.leading))
    return sink.lanes[-1]


async def test_facts_reach_the_sink_and_are_acknowledged(booking_dsn: str, rows: Rows) -> None:
    sink = Sink()
    copy = Relay(booking_dsn, sink)
    copy.relay.start()
    lane = await lane_of(copy.relay, sink)
    assert lane.lane == tracking_pb2.LANE_FACTS
    assert lane.epoch == 1
    assert lane.producer_id == str(await rows.fetchval("SELECT producer_id FROM relay"))
    for n in range(10):
        await append(rows, ("a", n + 1))
        copy.relay.notify()
    await sink.has(10)
    assert facts_of(sink.batches) == [("a", n + 1) for n in range(10)]

    async def acknowledged() -> bool:
        return bool(await rows.fetchval("SELECT acked_seq FROM relay") == sink.resume_after)

    # As of a moment ago: there may have been nothing pending yet.
    await eventually(acknowledged)
    await eventually(lambda: holds(copy.relay.facts_pending == 0))
    await copy.relay.stop()
    assert not copy.relay.leading
    assert copy.relay.facts_pending is None


async def test_a_commit_without_a_notice_is_found_by_the_poll(booking_dsn: str, rows: Rows) -> None:
    sink = Sink()
    copy = Relay(booking_dsn, sink)
    copy.relay.start()
    await lane_of(copy.relay, sink)
    await append(rows, ("a", 1))
    await sink.has(1)
    await copy.relay.stop()


async def test_notice_of_a_commit_is_faster_than_the_poll(
    booking_dsn: str, rows: Rows, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "POLL_S", 60.0)
    sink = Sink()
    copy = Relay(booking_dsn, sink)
    copy.relay.start()
    await lane_of(copy.relay, sink)
    for n in range(3):
        await append(rows, ("a", n + 1))
        copy.relay.notify()
        await sink.has(n + 1)
    await copy.relay.stop()


async def test_one_copy_leads_and_another_takes_over_with_a_higher_epoch(
    booking_dsn: str, rows: Rows
) -> None:
    sink = Sink()
    copies = [Relay(booking_dsn, sink) for _ in range(3)]
    for copy in copies:
        copy.relay.start()
    await append(rows, ("a", 1))
    await sink.has(1)
    [first] = [copy for copy in copies if copy.relay.leading]
    await first.relay.stop()
    await append(rows, ("a", 2))
    await sink.has(2)
    [second] = [copy for copy in copies if copy.relay.leading]
    assert second is not first
    assert [lane.epoch for lane in sink.lanes] == [1, 2]
    assert facts_of(sink.batches) == [("a", 1), ("a", 2)]
    for copy in copies:
        await copy.relay.stop()


async def test_a_restarted_relay_continues_at_the_sinks_resume_point(
    booking_dsn: str, rows: Rows
) -> None:
    sink = Sink()
    first = Relay(booking_dsn, sink)
    first.relay.start()
    await append(rows, ("a", 1))
    await sink.has(1)
    await first.relay.stop()
    await append(rows, ("a", 2))
    second = Relay(booking_dsn, sink)
    second.relay.start()
    await sink.has(2)
    assert facts_of(sink.batches) == [("a", 1), ("a", 2)]
    assert [batch.seq for batch in sink.batches] == [1, 2]
    await second.relay.stop()


async def test_relay_whose_session_ended_leads_again_and_loses_nothing(
    booking_dsn: str, rows: Rows
) -> None:
    sink = Sink()
    copy = Relay(booking_dsn, sink)
    copy.relay.start()
    for n in range(3):
        await append(rows, ("a", n + 1))
        copy.relay.notify()
        await sink.has(n + 1)
        ended = await rows.fetchval(
            "SELECT count(pg_terminate_backend(pid, 5000)) FROM pg_stat_activity"
            " WHERE datname = current_database() AND application_name LIKE '%/relay'"
        )
        assert ended == 1
        await eventually(lambda: holds(copy.relay.leading))
    await eventually(lambda: holds(len(sink.lanes) >= 3))
    assert facts_of(sink.batches) == [("a", n + 1) for n in range(3)]
    epochs = [lane.epoch for lane in sink.lanes]
    assert epochs == sorted(set(epochs))
    await copy.relay.stop()


async def test_frozen_relay_loses_its_session_and_so_its_lead(
    booking_dsn: str, rows: Rows, monkeypatch: pytest.MonkeyPatch
) -> None:
    from booking_service.delivery import segments

    monkeypatch.setattr(segments, "SESSION_SETTINGS", {"idle_session_timeout": "1000"})
    database = Database(booking_dsn)
    async with segments.Segments.connected(database) as frozen:
        assert await frozen.try_lead()
        # It asks nothing any more, as a stopped process.
        sink = Sink()
        other = Relay(booking_dsn, sink)
        other.relay.start()
        await append(rows, ("a", 1))
        await sink.has(1)
        await other.relay.stop()


async def test_relay_fenced_by_the_sink_begins_a_higher_epoch(booking_dsn: str) -> None:
    sink = Sink()
    copy = Relay(booking_dsn, sink)
    copy.relay.start()
    lane = await lane_of(copy.relay, sink)
    assert await lane.fenced(lane.epoch + 70, "")
    assert lane.epoch == 1 + 70 + 1
    assert sink.lanes == [lane]
    await copy.relay.stop()


async def test_relay_fenced_in_the_database_gives_its_lead_up(booking_dsn: str, rows: Rows) -> None:
    sink = Sink()
    copy = Relay(booking_dsn, sink)
    copy.relay.start()
    await lane_of(copy.relay, sink)
    await rows.execute("UPDATE relay SET epoch = epoch + 10")
    await eventually(lambda: holds(len(sink.lanes) == 2))
    assert sink.lanes[1].epoch == 12
    await copy.relay.stop()


async def test_unreachable_database_is_tried_again(rows: Rows, booking_dsn: str) -> None:
    sink = Sink()
    copy = Relay(booking_dsn, sink)
    copy.database.dsn = "postgresql://u@127.0.0.1:1/none"
    copy.relay.start()
    await append(rows, ("a", 1))
    copy.database.dsn = booking_dsn
    await sink.has(1)
    await copy.relay.stop()


async def test_sink_that_lost_its_tail_is_refilled_from_kept_segments(
    booking_dsn: str, rows: Rows
) -> None:
    sink = Sink()
    first = Relay(booking_dsn, sink)
    first.relay.start()
    for n in range(5):
        await append(rows, ("a", n + 1))
        first.relay.notify()
        await sink.has(n + 1)
    await first.relay.stop()
    del sink.batches[2:]
    second = Relay(booking_dsn, sink)
    second.relay.start()
    await sink.has(5)
    assert facts_of(sink.batches) == [("a", n + 1) for n in range(5)]
    await second.relay.stop()


async def test_stopped_relay_leaves_no_lock_and_no_session(booking_dsn: str, rows: Rows) -> None:
    sink = Sink()
    copy = Relay(booking_dsn, sink)
    copy.relay.start()
    await lane_of(copy.relay, sink)
    await copy.relay.stop()
    await eventually(
        lambda: rows.fetchval(
            "SELECT count(*) = 0 FROM pg_stat_activity"
            " WHERE datname = current_database() AND application_name LIKE '%/relay'"
        )
    )
    assert await rows.fetchval(ADVISORY) == 0


async def test_an_unforeseen_error_does_not_end_the_relay(
    booking_dsn: str, rows: Rows, monkeypatch: pytest.MonkeyPatch
) -> None:
    sink = Sink()
    copy = Relay(booking_dsn, sink)
    copy.relay.start()
    lane = await lane_of(copy.relay, sink)

    async def broken() -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(lane, "seal_all", broken)
    await eventually(lambda: holds(len(sink.lanes) == 2))
    await append(rows, ("a", 1))
    await sink.has(1)
    assert [lane.epoch for lane in sink.lanes] == [1, 2]
    await copy.relay.stop()
