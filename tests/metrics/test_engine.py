"""The loop from the log to the state: once and in order, wherever it is cut."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import asyncpg
import pytest

from metrics_service import engine as engine_module
from metrics_service.engine import Engine
from metrics_service.eventlog.event_log import EventLog
from metrics_service.eventlog.producer import ProducerKey
from metrics_service.state.fold import VERSION
from metrics_service.storage.errors import CheckpointConflictError, LogUnavailableError
from tests.metrics.delivery_pair import (
    BOUND_S,
    FACTS,
    RememberingState,
    Sink,
    events,
    remember,
    running,
    until,
)
from tests.metrics.raw_client import raw_client


async def fill(log: EventLog, *names: str, start: int = 1) -> None:
    """Append one batch for each name, again where the log could not be written: on a machine that
    is busy enough a commit takes longer than the writer waits, and producers send again too.
    """
    key = ProducerKey(FACTS, "relay")
    async with asyncio.timeout(BOUND_S):
        while True:
            await log.wait_leading()
            try:
                point = await log.open_producer(
                    key, epoch=1, instance="i", service="test", backfill=False
                )
                for seq, name in enumerate(names, start=start):
                    await log.append(
                        key, token=point.token, epoch=1, seq=seq, count=1, payload=events(name)
                    )
            except LogUnavailableError:
                await asyncio.sleep(0.05)
            else:
                return


@pytest.fixture(autouse=True)
def _remember(monkeypatch: pytest.MonkeyPatch) -> None:
    remember(monkeypatch)


def remembered(engine: Engine) -> list[bytes]:
    assert isinstance(engine.state, RememberingState)
    return engine.state.payloads("relay")


async def test_records_appended_and_never_folded_are_folded_after_a_crash(
    metrics_dsn: str,
) -> None:
    log = EventLog(metrics_dsn)
    await log.start()
    await log.wait_leading()
    await fill(log, "a", "b")
    await log.stop()
    async with running(Sink(metrics_dsn)) as sink:
        assert sink.state.payloads("relay") == [events("a"), events("b")]


async def test_records_after_the_checkpoint_are_folded_again_once(
    metrics_dsn: str,
) -> None:
    first = Sink(metrics_dsn, checkpoint_interval_s=3_600)
    await first.start()
    await fill(first.log, "a", "b")
    await until(lambda: len(first.state.batches) == 2)
    await first.engine._checkpoint()
    await fill(first.log, "c", start=3)
    await until(lambda: len(first.state.batches) == 3)
    await first.crash()
    async with running(Sink(metrics_dsn)) as second:
        assert second.state.payloads("relay") == [events(name) for name in "abc"]


async def test_a_checkpoint_of_another_version_is_folded_again_from_the_log(
    metrics_dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running(Sink(metrics_dsn)) as first:
        await fill(first.log, "a", "b")
    monkeypatch.setattr(engine_module, "VERSION", VERSION + 1)
    loaded: set[str] = set()

    def load(rows: list[tuple[str, int, bytes]]) -> RememberingState:
        loaded.update(name for name, _, _ in rows)
        return RememberingState()

    monkeypatch.setattr(RememberingState, "load", staticmethod(load))
    async with running(Sink(metrics_dsn)) as second:
        # Of it no more than what its counters were.
        assert not {name for name in loaded if name.endswith((".10s", ".1m", ".1h", ".actors"))}
        assert second.state.payloads("relay") == [events("a"), events("b")]


async def test_a_checkpoint_writes_what_changed_and_removes_what_is_gone(
    metrics_dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    side = await asyncpg.connect(metrics_dsn)
    rows = {("a", 1): b"1", ("a", 2): b"2"}
    monkeypatch.setattr(
        RememberingState, "dump", lambda _: iter([(*key, data) for key, data in rows.items()])
    )

    async def written() -> dict[tuple[str, int], str]:
        found = await side.fetch("SELECT section, bucket, xmin::text FROM checkpoint_bucket")
        return {(row[0], row[1]): row[2] for row in found}

    sink = Sink(metrics_dsn, checkpoint_interval_s=3_600)
    await sink.start()
    try:
        await fill(sink.log, "a")
        await until(lambda: len(sink.state.batches) == 1)
        await sink.engine._checkpoint()
        first = await written()
        rows[("a", 2)] = b"two"
        rows[("b", 1)] = b"3"
        del rows[("a", 1)]
        await fill(sink.log, "b", start=2)
        await until(lambda: len(sink.state.batches) == 2)
        await sink.engine._checkpoint()
        second = await written()
        assert first.keys() == {("a", 1), ("a", 2)}
        assert second.keys() == {("a", 2), ("b", 1)}
        rows[("b", 1)] = b"three"
        await fill(sink.log, "c", start=3)
        await until(lambda: len(sink.state.batches) == 3)
        await sink.engine._checkpoint()
        third = await written()
        assert third[("a", 2)] == second[("a", 2)]
        assert third[("b", 1)] != second[("b", 1)]
    finally:
        await sink.crash()
        await side.close()


async def test_checkpoints_come_by_number_of_events_and_by_time(metrics_dsn: str) -> None:
    side = await asyncpg.connect(metrics_dsn)

    async def saved() -> int:
        return int(await side.fetchval("SELECT position FROM checkpoint"))

    async def reaches(position: int) -> None:
        async with asyncio.timeout(20):
            while await saved() < position:  # noqa: ASYNC110 - in the database
                await asyncio.sleep(0.01)

    by_number = Sink(metrics_dsn, checkpoint_interval_s=3_600, checkpoint_events=3)
    async with running(by_number) as sink:
        await fill(sink.log, "a", "b", "c")
        await reaches(3)
    async with running(Sink(metrics_dsn, checkpoint_interval_s=0.05, tick_s=0.05)) as sink:
        before = sink.engine.position
        await reaches(before + 3)
    await side.close()


async def test_an_outdated_process_that_writes_a_checkpoint_fails_for_good(
    metrics_dsn: str,
) -> None:
    sink = Sink(metrics_dsn, checkpoint_interval_s=0.05, tick_s=0.05)
    await sink.start()
    try:
        side = await asyncpg.connect(metrics_dsn)
        await side.execute("UPDATE checkpoint SET generation = generation + 1")
        await side.close()
        async with asyncio.timeout(20):
            with pytest.raises(CheckpointConflictError):
                await sink.engine.failure
    finally:
        await sink.crash()


async def test_records_that_do_not_fit_in_memory_are_read_from_the_log(
    metrics_dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine_module, "MAX_INBOX_BYTES", 40)
    async with running(Sink(metrics_dsn)) as sink:
        await fill(sink.log, *(f"s{number}" for number in range(30)))
        await until(lambda: len(sink.state.batches) == 30)
        assert sink.state.payloads("relay") == [events(f"s{number}") for number in range(30)]
        positions = [record.position for record in sink.state.records]
        assert positions == list(range(1, len(positions) + 1))


async def test_records_received_twice_are_folded_once(metrics_dsn: str) -> None:
    async with running(Sink(metrics_dsn)) as sink:
        await fill(sink.log, "a", "b")
        await until(lambda: len(sink.state.batches) == 2)
        sink.engine._on_records(list(sink.state.records))
        await fill(sink.log, "c", start=3)
        await until(lambda: len(sink.state.batches) == 3)
        assert sink.state.payloads("relay") == [events(name) for name in "abc"]


async def test_listeners_are_called_once_records_are_folded(metrics_dsn: str) -> None:
    positions: list[int] = []
    async with running(Sink(metrics_dsn, tick_s=3_600)) as sink:
        sink.engine.on_change(lambda: positions.append(sink.engine.position))
        seen = sink.engine.position
        await asyncio.sleep(0)
        assert positions == []
        await fill(sink.log, "a", "b")
        await until(lambda: sink.engine.position > seen)
        assert positions
        assert positions[0] > seen


async def test_an_unforeseen_error_stops_the_engine_and_is_its_failure(
    metrics_dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise ZeroDivisionError("a fault in the loop")

    sink = Sink(metrics_dsn, tick_s=3_600)
    await sink.start()
    try:
        monkeypatch.setattr(Engine, "_checkpoint_due", fail)
        async with raw_client(sink.target) as client:
            await client.welcome("relay")
            await client.batch(1, events("a"))
            await client.acked(1)
            async with asyncio.timeout(20):
                with pytest.raises(ZeroDivisionError):
                    await sink.engine.failure
    finally:
        await sink.crash()
    monkeypatch.undo()
    remember(monkeypatch)
    async with running(Sink(metrics_dsn)) as second:
        assert remembered(second.engine) == [events("a")]


async def test_reads_are_prepared_beside_the_fold_and_a_failure_of_that_ends_nothing(
    metrics_dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps = 0

    def prepare(_: RememberingState) -> Iterator[None]:
        nonlocal steps
        # Twice: to log a failure takes so long that a busy machine would do nothing else.
        while steps < 20:
            steps += 1
            if steps % 10 == 0:
                raise RuntimeError("planted")
            yield

    monkeypatch.setattr(RememberingState, "prepare", prepare)
    monkeypatch.setattr(engine_module, "PREPARE_INTERVAL_S", 0.01)
    async with running(Sink(metrics_dsn)) as sink:
        await until(lambda: steps >= 20)
        await fill(sink.log, "a")
        await until(lambda: sink.state.payloads("relay") == [events("a")])
        assert not sink.engine.failure.done()
