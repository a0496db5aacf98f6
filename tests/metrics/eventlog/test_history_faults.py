"""What is added to hours of long ago is added once: whatever becomes of a save, when the state is
replaced, and when another version of the code folds the log again.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

import asyncpg
import pytest

from metrics_service import engine as engine_module
from metrics_service.eventlog import saved_history
from metrics_service.rpc import series
from metrics_service.state import fold
from metrics_service.storage.errors import LogUnavailableError
from protos.metrics.v1 import series_pb2
from protos.tracking.v1 import event_pb2
from tests.metrics.delivery_pair import Sink
from tests.metrics.eventlog.history_log import START, Days, Feeder, stored
from tests.metrics.fragile import BREAKS_ANSWERS, BREAKS_APPLY, BREAKS_ROWS, Fragile
from tests.metrics.state.log import DAY, HOUR, Fact, Log

CONFIRMED = START + 10 * HOUR
MAKE = Log(START)


def refund(now_us: int, amount: int) -> event_pb2.Event:
    event = MAKE.refund(now_us, amount, CONFIRMED)
    event.payment.package_id, event.payment.vendor_id = "p", "v"
    return event


@pytest.fixture
def feeder() -> Feeder:
    return Feeder()


@pytest.fixture
async def sink(metrics_dsn: str, feeder: Feeder) -> AsyncIterator[Sink]:
    """A process with a booking of forty days ago, which is in the history alone."""
    sink = feeder.sink(metrics_dsn)
    await sink.start()
    booked = MAKE.fact(Fact.CONFIRMED, CONFIRMED, confirm_us=CONFIRMED, amount=100)
    await feeder.folded(sink, CONFIRMED, [booked])
    await sink.engine._checkpoint()
    await feeder.folded(sink, START + 40 * DAY, [MAKE.view(START + 40 * DAY)])
    await sink.engine._checkpoint()
    yield sink
    await sink.crash()


async def refunded(dsn: str) -> tuple[int, int]:
    """What the hour and the day of the booking have of it."""
    hours, days = await stored(dsn, "history_hour"), await stored(dsn, "history_day")
    assert hours[CONFIRMED // HOUR]["gross"] == days[CONFIRMED // DAY]["gross"] == 100
    hour, day = hours[CONFIRMED // HOUR], days[CONFIRMED // DAY]
    for each in (hour, day):
        assert each.get("refunded v") == each.get("refunded p") == each.get("refunded")
    return hour.get("refunded", 0), day.get("refunded", 0)


@pytest.mark.parametrize("is_stored", [True, False])
async def test_a_save_of_unknown_outcome(
    metrics_dsn: str, sink: Sink, feeder: Feeder, is_stored: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    using = sink.log._checkpoints.using

    async def lose(query: Callable[[Any], Coroutine[Any, Any, object]]) -> object:
        if is_stored:
            await using(query)
        raise LogUnavailableError("the answer is lost")

    for amount in (7, 5):
        await feeder.folded(sink, feeder.now_us + HOUR, [refund(feeder.now_us, amount)])
        with monkeypatch.context() as patched:
            patched.setattr(sink.log._checkpoints, "using", lose)
            await sink.engine._checkpoint()
    await feeder.folded(sink, feeder.now_us + HOUR, [refund(feeder.now_us, 1)])
    await sink.engine._checkpoint()
    assert await refunded(metrics_dsn) == (13, 13)


@pytest.mark.parametrize("dropped", [BREAKS_APPLY, BREAKS_ROWS, BREAKS_ANSWERS])
async def test_a_state_that_is_replaced(
    metrics_dsn: str, sink: Sink, feeder: Feeder, dropped: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    await sink.crash()
    monkeypatch.setattr(engine_module, "State", Fragile)
    again = feeder.sink(metrics_dsn)
    await again.start()
    for amount in (7, 5):
        await feeder.folded(again, feeder.now_us + HOUR, [refund(feeder.now_us, amount)])
        loss = event_pb2.Event(telemetry_loss=event_pb2.TelemetryLoss(dropped_events=dropped))
        await feeder.folded(again, feeder.now_us + HOUR, [loss, refund(feeder.now_us, 1_000)])
    await feeder.folded(again, feeder.now_us + HOUR, [refund(feeder.now_us, 1)])
    await again.engine._checkpoint()
    assert again.engine.state.metrics().quality.quarantined_batches == 2
    assert await refunded(metrics_dsn) == (13, 13)
    await again.stop()


async def test_what_comes_in_the_same_second_as_a_checkpoint(
    metrics_dsn: str, sink: Sink, feeder: Feeder
) -> None:
    for amount in (7, 5, 1):
        await feeder.folded(sink, feeder.now_us, [refund(feeder.now_us, amount)])
        await sink.engine._checkpoint()
    assert await refunded(metrics_dsn) == (13, 13)


async def test_another_process_that_takes_over(
    metrics_dsn: str, sink: Sink, feeder: Feeder
) -> None:
    await feeder.folded(sink, feeder.now_us + HOUR, [refund(feeder.now_us, 7)])
    await sink.engine._checkpoint()
    await feeder.folded(sink, feeder.now_us + HOUR, [refund(feeder.now_us, 5)])
    await sink.crash()
    again = feeder.sink(metrics_dsn)
    await again.start()
    await again.engine._checkpoint()
    assert await refunded(metrics_dsn) == (12, 12)
    await again.stop()


def raise_version(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (fold, engine_module, saved_history, series):
        monkeypatch.setattr(module, "VERSION", module.VERSION + 1)


async def test_another_version_of_the_code_keeps_totals_and_hours(
    metrics_dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    days, feeder = Days(50), Feeder()
    running = feeder.sink(metrics_dsn, retention_days=31)
    await running.start()
    for at, (now_us, events) in enumerate(days.batches()):
        await feeder.folded(running, now_us, events)
        await running.engine._checkpoint()
        if at == 90:
            await running.log._checkpoints.using(running.log._keep_partitions)
            before = running.engine.state.metrics()
            await running.crash()
            raise_version(monkeypatch)
            running = feeder.sink(metrics_dsn, retention_days=31)
            await running.start()
            first = await first_record(metrics_dsn)
            assert first > 10
            after = running.engine.state.metrics()
            assert after.business.revenue == before.business.revenue
            assert after.funnel.entered == before.funnel.entered
            assert after.quality.events == before.quality.events
    await running.engine._checkpoint()
    request = series_pb2.GetSeriesRequest(metrics=["bookings_confirmed"])
    request.window.FromMicroseconds(50 * DAY)
    request.step.FromMicroseconds(DAY)
    answer = await series.answer(request, lambda: running.engine.state, running.log.history)
    older = [point.older_version for point in answer.series[0].points if point.value]
    assert older == sorted(older, reverse=True)
    assert {True, False} == set(older)
    await running.stop()
    assert await stored(metrics_dsn, "history_hour") == days.expected
    today = feeder.now_us // DAY
    by_day = {day: counts for day, counts in days.by_day().items() if day < today}
    assert await stored(metrics_dsn, "history_day") == by_day


async def first_record(dsn: str) -> int:
    connection = await asyncpg.connect(dsn)
    first = await connection.fetchval("SELECT min(position) FROM event_log")
    await connection.close()
    return int(first)
