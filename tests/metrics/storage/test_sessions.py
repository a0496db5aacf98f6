"""The table of sessions is that of the position of the checkpoint, however it came there."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator
from functools import partial

import asyncpg
import pytest

from metrics_service.state.fold import VERSION, State
from metrics_service.state.series.rings import RESOLUTIONS
from metrics_service.storage import session_reader, session_rows
from metrics_service.storage.errors import BusyError, LogUnavailableError
from metrics_service.storage.session_reader import MAX_WAITING, Filter, SessionReader
from metrics_service.storage.session_rows import name_of
from tests.metrics.state.log import HOUR, NOW, Fact, Log
from tests.metrics.storage.sessions_log import ROWS, Table, busy_log, stored

KEY = b"k" * 16
ALL = Filter(0, 1 << 62, (1, 4), None, 0, True)


@pytest.fixture
async def table(metrics_dsn: str) -> AsyncIterator[Table]:
    table = Table(metrics_dsn)
    await table.store.load()
    yield table
    await table.store.close()


@pytest.mark.parametrize("seed", range(4))
async def test_the_same_however_often_it_was_saved_lost_and_folded_again(
    table: Table, metrics_dsn: str, seed: int
) -> None:
    dice = random.Random(seed)
    records = busy_log(dice).records
    while table.state.position < len(records):
        begin = table.state.position
        table.fold(records[begin : begin + dice.randrange(1, 12)])
        how = dice.randrange(5)
        if how == 0:
            # Killed before it was saved.
            await table.restore()
        elif how == 1:
            # The answer to the commit is lost.
            await table.save(noted=False)
        elif how == 2:
            # As a repair, whose rows are in memory.
            rows = [*table.state.dump(), *table.state.journeys.unsaved()]
            table.state = State.load(rows)
        else:
            await table.save()
    await table.save()
    whole = await stored(metrics_dsn)
    assert len(whole) == table.state.journeys.last_number > 30
    assert sum(row["steps"] == 4 for row in whole) > 0
    # As after a version of the state that is not this one: all is folded again.
    table.state = State()
    table.fold(records)
    await table.save()
    assert await stored(metrics_dsn) == whole


async def test_a_repair_takes_out_what_a_broken_record_did(table: Table, metrics_dsn: str) -> None:
    records = busy_log(random.Random(9)).records
    table.fold(records[:20])
    await table.save()
    rows = list(table.state.dump())
    table.fold(records[20:40])
    # Committed, but the process does not know.
    await table.save(noted=False)
    table.state = State.load(rows)
    table.state.quarantine(records[20])
    table.fold(records[21:40])
    await table.save()
    repaired = await stored(metrics_dsn)
    table.state = State()
    table.fold(records[:20])
    table.state.quarantine(records[20])
    table.fold(records[21:40])
    await table.save()
    assert [row["number"] for row in repaired] == [
        row["number"] for row in await stored(metrics_dsn)
    ]


async def test_a_count_is_what_the_funnel_says_of_every_window(
    table: Table, metrics_dsn: str
) -> None:
    log = busy_log(random.Random(5), batches=120)
    reader = SessionReader(metrics_dsn)
    windows = [None, *(resolution.span_us for resolution in RESOLUTIONS), HOUR // 2]
    compared = 0
    for cut in range(30, len(log.records), 30):
        table.fold(log.records[table.state.position : cut])
        await table.save()
        now_us, conversion_us = table.state.as_of_us, 30 * 60 * 10**6
        for window_us in windows:
            funnel = table.state.funnel(window_us)
            low_us, high_us = _span(window_us, now_us)
            wanted = ALL._replace(
                low_us=low_us,
                high_us=high_us,
                open_since_us=now_us - conversion_us,
                ahead=window_us is None,
            )
            for number, step in enumerate(funnel.steps):
                reached = wanted._replace(steps=(number + 1, 4))
                page = await reader.page(partial(_always, reached), None, 10_000)
                assert (page.total, len(page.sessions)) == (step.actors, step.actors)
                compared += step.actors
            for abandoned, count in ((True, funnel.abandoned), (False, funnel.open)):
                ended = wanted._replace(steps=(1, 3), abandoned=abandoned)
                page = await reader.page(partial(_always, ended), None, 1)
                assert page.total == count
        assert page.head.revision == table.state.revision
    assert compared > 200
    await reader.close()


def _always(wanted: Filter, _: object) -> Filter:
    return wanted


def _span(window_us: int | None, now_us: int) -> tuple[int, int]:
    if window_us is None:
        return 0, 1 << 62
    step_us = next(each.step_us for each in RESOLUTIONS if window_us <= each.span_us)
    end_us = (now_us // step_us + 1) * step_us
    return end_us - window_us, end_us


async def test_no_row_names_a_user(table: Table, metrics_dsn: str) -> None:
    table.fold(busy_log(random.Random(3)).records)
    assert any("CANARY" in change.key for change in table.state.journeys.changes)
    await table.save()
    connection = await asyncpg.connect(metrics_dsn)
    rows = repr([tuple(row) for row in await connection.fetch(ROWS)])
    await connection.close()
    assert "session-1" in rows
    assert "booking-1" in rows
    assert "CANARY" not in rows


def test_the_name_of_a_user_needs_the_key() -> None:
    named = name_of("\x00user", KEY)
    assert named == name_of("\x00user", KEY) != name_of("\x00user", b"o" * 16)
    assert "user" not in named
    assert named.startswith("~")
    assert name_of("\x017", KEY) == "~anonymous-7"
    assert name_of("s\u00e9", KEY) == "s\u00e9"
    assert "\x00" not in name_of("s\x00x", KEY)


async def test_texts_that_the_database_cannot_hold_stop_no_checkpoint(
    table: Table, metrics_dsn: str
) -> None:
    log = Log()
    event = log.fact(Fact.STARTED, NOW, "a\x00b", booking="b\x00", package="p\x00")
    log.append(log.view(NOW, "a\x00b", user="u\x00"), event)
    table.fold(log.records)
    await table.save()
    (row,) = await stored(metrics_dsn)
    assert (row["steps"], row["bookings"], row["events"]) == (2, ["b"], 2)


async def test_sessions_are_forgotten_in_steps(
    table: Table, metrics_dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session_rows, "MAX_DELETED_SESSIONS", 2)
    log = Log()
    log.append(*(log.fact(Fact.CANCELLED, NOW, f"s{n}", booking=f"b{n}") for n in range(5)))
    table.fold(log.records)
    await table.save()
    log.tick(NOW + 24 * HOUR)
    log.append(log.fact(Fact.CANCELLED, log.now_us, "s0", booking="b0"))
    table.fold(log.records[table.state.position :])
    await table.save()
    connection = await asyncpg.connect(metrics_dsn)
    first = (await connection.fetchval("SELECT max(received_on) FROM session")).replace()
    steps = [await session_rows.forget(connection, first) for _ in range(3)]
    await connection.close()
    assert steps == [2, 2, 0]
    assert [row["bookings"] for row in await stored(metrics_dsn)] == [["b0"]]


async def test_a_reader_says_when_the_database_is_lost_and_comes_back(
    table: Table, metrics_dsn: str
) -> None:
    await table.save()
    reader = SessionReader(metrics_dsn)
    page = await reader.page(lambda _: ALL, None, 10)
    assert page.total == 0
    connection = await asyncpg.connect(metrics_dsn)
    await connection.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        " WHERE datname = current_database() AND pid <> pg_backend_pid()"
    )
    await connection.close()
    # Whether the end of the connection is known yet or not.
    with contextlib.suppress(LogUnavailableError):
        await reader.page(lambda _: ALL, None, 10)
    assert (await reader.page(lambda _: ALL, None, 10)).total == 0
    await reader.close()
    away = SessionReader("postgresql://nobody@127.0.0.1:1/none")
    with pytest.raises(LogUnavailableError):
        await away.journey(name="s")


async def test_a_read_that_takes_too_long_ends_and_holds_nobody_up(
    table: Table, metrics_dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session_reader, "READ_TIMEOUT_S", 0.3)
    reader = SessionReader(metrics_dsn)
    blocker = await asyncpg.connect(metrics_dsn)
    async with blocker.transaction():
        await blocker.execute("LOCK TABLE session IN ACCESS EXCLUSIVE MODE")
        reading = asyncio.create_task(reader.journey(name="s"))
        # The log and the checkpoint are on other connections.
        await table.store.load()
        with pytest.raises(LogUnavailableError, match="not read within"):
            await reading
    await blocker.close()
    monkeypatch.undo()
    assert (await reader.journey(name="s"))[1] is None
    await reader.close()


async def test_reads_wait_for_each_other_within_a_bound(metrics_dsn: str) -> None:
    reader = SessionReader(metrics_dsn)
    reader._waiting = MAX_WAITING + 1
    with pytest.raises(BusyError):
        await reader.journey(name="s")


async def test_nothing_is_written_without_the_checkpoint(table: Table, metrics_dsn: str) -> None:
    table.fold(busy_log(random.Random(1)).records)

    async def fails(_: object) -> None:
        raise ValueError("as a write that follows")

    write = partial(session_rows.write, changes=table.state.journeys.changes)
    with pytest.raises(ValueError, match="as a write"):
        await table.store.save(
            1, VERSION, [], [], replace=True, writer_epoch=0, also=[write, fails]
        )
    assert await stored(metrics_dsn) == []
    assert (await table.store.load()).position == 0
