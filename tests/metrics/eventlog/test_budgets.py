"""What the log forgets, drops and refuses at its bounds; what it never does."""

from __future__ import annotations

import asyncio
import secrets
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import pytest

from metrics_service.eventlog import event_log, forgetting
from metrics_service.eventlog.errors import FullError
from metrics_service.eventlog.event_log import EventLog
from metrics_service.eventlog.producer import Producer, ProducerKey
from metrics_service.storage import session_rows
from metrics_service.storage.errors import LogNotReadyError
from servicekit.clock import wall_us
from tests.metrics.delivery_pair import BOUND_S, FACTS, TELEMETRY, until
from tests.metrics.eventlog.test_event_log import DAY_US, NOON_US, Clock, attach, everything, opened
from tests.metrics.eventlog.test_repeats import COMPLETED, CONFIRMED, STARTED, batch

KB = 1_000
BYTES = """
SELECT sum(pg_total_relation_size(inhrelid)) FROM pg_inherits
WHERE inhparent = 'event_log'::regclass
"""


@pytest.fixture(autouse=True)
def _measured_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(event_log, "MEASURE_S", 0.05)
    monkeypatch.setattr(event_log, "MAINTENANCE_S", 0.0)


async def query(dsn: str, statement: str) -> Any:
    connection = await asyncpg.connect(dsn)
    try:
        return await connection.fetchval(statement)
    finally:
        await connection.close()


# Producers.


async def test_invented_producers_are_forgotten_and_those_that_matter_are_not(
    metrics_dsn: str,
) -> None:
    async with opened(metrics_dsn, max_producers=20, unclean_after_s=0.0) as log:
        relay = await attach(log, "relay", lane=FACTS)
        await relay(1, batch(STARTED))
        real = await attach(log, "real", lane=TELEMETRY)
        await real(1)
        log.release_producer(ProducerKey(FACTS, "relay"), token=1)
        for number in range(200):
            key = ProducerKey(TELEMETRY, f"invented-{number}")
            point = await log.open_producer(
                key, epoch=1, instance="i", service="ghosts", backfill=False
            )
            log.release_producer(key, token=point.token)
        assert await query(metrics_dsn, "SELECT count(*) FROM producer") <= 20
        [line] = log.over_budget
        assert line.startswith("producers known to the log: 18")
        assert line.endswith("forgotten, beyond 20")
        # The stream that is open goes on, and so do the facts where they were.
        assert (await real(2)).durable_seq == 2
        again = await attach(log, "relay", lane=FACTS)
        assert (await again(2, batch(COMPLETED))).durable_seq == 2
        kinds = [record.kind for record in await everything(log)]
        # Those that stored nothing leave no record of their end.
        assert kinds == ["batch", "batch", "batch", "batch"]
    # What is stored is what is known, in the order of the last change.
    async with opened(metrics_dsn, max_producers=20) as log:
        again = await attach(log, "relay", lane=FACTS)
        assert (await again(3, batch(CONFIRMED))).durable_seq == 3


async def test_a_producer_that_comes_back_when_it_was_forgotten_begins_anew(
    metrics_dsn: str,
) -> None:
    async with opened(metrics_dsn, max_producers=10) as log:
        key = ProducerKey(TELEMETRY, "old")
        point = await log.open_producer(key, epoch=1, instance="i", service="s", backfill=False)
        await log.append(key, token=point.token, epoch=1, seq=1, count=1, payload=b"x")
        log.release_producer(key, token=point.token)
        for number in range(12):
            await attach(log, f"new-{number}", lane=TELEMETRY)
        # One that was open had stored something: its end is a record.
        assert [each.kind for each in await everything(log)] == ["batch", "unclean_end"]
        point = await log.open_producer(key, epoch=1, instance="i", service="s", backfill=False)
        assert point.resume_after == 0
        answer = await log.append(key, token=point.token, epoch=1, seq=1, count=1, payload=b"x")
        assert answer.durable_seq == 1


def producer(**fields: Any) -> Producer:
    values = {"next_seq": 1, "open": False, **fields}
    return Producer(1, values.pop("next_seq"), b"", "i", "s", False, **values)


def test_as_many_are_forgotten_as_leave_room_for_others() -> None:
    stored = {ProducerKey(TELEMETRY, str(number)): producer() for number in range(101)}
    assert forgetting.forgettable(stored, set(), 101) == []
    gone = forgetting.forgettable(stored, {ProducerKey(TELEMETRY, "0")}, 100)
    assert [key.id for key in gone] == [str(number) for number in range(1, 12)]


def test_one_that_holds_facts_is_never_forgotten() -> None:
    stored = {
        ProducerKey(FACTS, "empty"): producer(),
        ProducerKey(FACTS, "pinned"): producer(pinned=True),
        ProducerKey(FACTS, "stored"): producer(next_seq=2),
    }
    assert forgetting.forgettable(stored, set(), 0) == [ProducerKey(FACTS, "empty")]


# The size of the log.


async def folded(log: EventLog) -> None:
    """Two checkpoints of everything there is, so that no refold needs it."""
    for _ in range(2):
        await log.save_checkpoint(log.last_position, 1, [], [], replace=False)


@pytest.mark.parametrize(("count", "size"), [(1, 400 * KB), (40, 10 * KB)], ids=["large", "many"])
async def test_the_oldest_days_go_first_and_only_what_is_folded(
    metrics_dsn: str, count: int, size: int
) -> None:
    clock = Clock()
    async with opened(
        metrics_dsn, now_us=clock, monotonic_s=lambda: clock.us / 1e6, max_bytes=1_500 * KB
    ) as log:
        telemetry = Resending(log)
        for day in range(6):
            clock.us = NOON_US + day * DAY_US
            for _ in range(count):
                await telemetry.send(secrets.token_bytes(size))
        await folded(log)
        # The day of now is the sixth, and some before it fit beside it.
        await until_async(metrics_dsn, f"SELECT ({BYTES}) <= {1_500 * KB}")
        await until(lambda: not log._producers.full)
        days = {record.received_at_us // DAY_US for record in await everything(log)}
        first = NOON_US // DAY_US
        assert first not in days
        assert first + 5 in days
        assert any(line.startswith("days of the event log: ") for line in log.over_budget)


class Resending:
    """A telemetry producer that sends a batch again when there was no room, as the client does."""

    def __init__(self, log: EventLog) -> None:
        self._log = log
        self._seq = 0

    async def send(self, payload: bytes) -> None:
        self._seq += 1
        append = await attach(self._log, "t", lane=TELEMETRY)
        try:
            await append(self._seq, payload)
        except FullError:
            # Not even a day is dropped before the fold has it.
            await folded(self._log)
            await until(lambda: not self._log._producers.full)
            await append(self._seq, payload)


async def test_a_day_that_is_too_large_takes_facts_and_no_telemetry(metrics_dsn: str) -> None:
    async with opened(metrics_dsn, max_bytes=1_000 * KB) as log:
        telemetry = await attach(log, "t", lane=TELEMETRY)
        facts = await attach(log, "f", lane=FACTS)
        await telemetry(1, secrets.token_bytes(1_100 * KB))
        await folded(log)
        await until(lambda: bool(log._producers.full))
        with pytest.raises(FullError):
            await telemetry(2)
        assert (await facts(1, batch(STARTED))).position == 2
        assert log.over_budget == ["batches of telemetry: 1 refused, beyond 1 MB"]


# The ids of facts.


async def test_ids_are_forgotten_and_an_old_fact_is_then_taken_for_a_repeat(
    metrics_dsn: str,
) -> None:
    clock = Clock()
    new, late = type(STARTED)(), type(STARTED)()
    new.CopyFrom(COMPLETED)
    new.time_us = NOON_US + 45 * DAY_US
    late.CopyFrom(CONFIRMED)
    async with opened(
        metrics_dsn, now_us=clock, monotonic_s=lambda: clock.us / 1e6, fact_ids_days=40
    ) as log:
        append = await attach(log)
        await append(1, batch(STARTED))
        clock.us += 45 * DAY_US
        # Until there are facts as new as the clock, nothing is forgotten.
        await asyncio.sleep(0.2)
        assert await query(metrics_dsn, "SELECT count(*) FROM fact") == 1
        await append(2, batch(new))
        await until_async(metrics_dsn, "SELECT count(*) = 1 FROM fact")
        await append(3, batch(STARTED, late, new))
        records = await everything(log)
    assert [record.repeats for record in records] == [(), (), (0, 1, 2)]
    # Another process knows it too.
    async with opened(metrics_dsn, now_us=clock) as log:
        again = await attach(log)
        await again(4, batch(STARTED))
        assert (await everything(log))[-1].repeats == (0,)


async def until_async(dsn: str, condition: str) -> None:
    async with asyncio.timeout(10):
        while not await query(dsn, condition):  # noqa: ASYNC110 - any condition
            await asyncio.sleep(0.02)


NOW = datetime(2026, 3, 29, 12, tzinfo=UTC)


@pytest.mark.parametrize("ahead", ["log", "facts"])
def test_a_clock_that_jumps_forgets_nothing(ahead: str) -> None:
    jumped = NOW + timedelta(days=400)
    clocks = (jumped, NOW) if ahead == "log" else (NOW, jumped)
    expected = datetime(2026, 2, 17, tzinfo=UTC)
    assert forgetting.first_day(*clocks, 40) == forgetting.first_day(NOW, NOW, 40) == expected


async def test_a_database_without_the_newest_migration_is_refused_at_start(
    metrics_dsn: str,
) -> None:
    await query(metrics_dsn, "DROP INDEX fact_received_on")
    with pytest.raises(LogNotReadyError, match="is not migrated: run `make migrate`"):
        await EventLog(metrics_dsn).start()


# Sessions.


async def test_sessions_are_forgotten_with_the_log(
    metrics_dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session_rows, "MAX_DELETED_SESSIONS", 2)
    await query(
        metrics_dsn,
        """
        INSERT INTO session
        SELECT n, 's', 1, 1, false, false, '', 1, 1, '{}', '{}', current_date - n * 10
        FROM generate_series(0, 9) AS old (n)
        """,
    )
    count = "SELECT count(*) FROM session"
    async with opened(metrics_dsn, now_us=wall_us, retention_days=35):
        async with asyncio.timeout(BOUND_S):
            while await query(metrics_dsn, count) > 4:  # noqa: ASYNC110 - the log tells nobody
                await asyncio.sleep(0.05)
    assert await query(metrics_dsn, "SELECT max(current_date - received_on) FROM session") == 30
