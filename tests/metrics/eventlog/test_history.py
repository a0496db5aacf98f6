"""The history of a log of sixty days, with refunds of up to 45 days later, killed and restored in
between: by hour and by day it equals what plain Python counts, and charts are of it.
"""

from __future__ import annotations

import asyncpg

from metrics_service.rpc import series
from protos.metrics.v1 import series_pb2
from tests.metrics.delivery_pair import Sink
from tests.metrics.eventlog.history_log import Days, Feeder, number_of, stored
from tests.metrics.state.log import DAY, HOUR
from tests.metrics.state.visits import keys_of

PACKAGES = [f"p{number}" for number in range(6)]


async def test_history_equals_an_independent_computation(metrics_dsn: str) -> None:
    days, feeder = Days(60), Feeder()
    running = feeder.sink(metrics_dsn)
    await running.start()
    for at, (now_us, events) in enumerate(days.batches()):
        await feeder.folded(running, now_us, events)
        if at % 7 == 0:
            await running.engine._checkpoint()
        if at in (30, 90, 100):
            # At 90 refunds of 40 days ago are folded, and in no checkpoint.
            await running.crash()
            running = feeder.sink(metrics_dsn)
            await running.start()
    await running.engine._checkpoint()
    await charts_show_it(running, days)
    await running.stop()
    assert await stored(metrics_dsn, "history_hour") == days.expected
    today = feeder.now_us // DAY
    by_day = {day: counts for day, counts in days.by_day().items() if day < today}
    assert await stored(metrics_dsn, "history_day") == by_day
    connection = await asyncpg.connect(metrics_dsn)
    for metric, dimension, name in (
        ("bookings_confirmed", "", "confirmed"),
        ("revenue_gross", "currency", "gross"),
        ("revenue_refunded", "currency", "refunded"),
        ("queries", "", "queries"),
    ):
        rows = await connection.fetch(
            "SELECT day, value FROM history_day_figures WHERE metric = $1 AND dimension = $2",
            *(metric, dimension),
        )
        figures = {number_of(day): int(value) for day, value in rows if value}
        assert figures == {day: counts[name] for day, counts in by_day.items() if name in counts}
    rows = await connection.fetch(
        "SELECT day, sum(value) AS value FROM history_day_figures"
        " WHERE metric = 'bookings_confirmed' AND dimension = 'package' GROUP BY day"
    )
    by_package = {number_of(day): int(value) for day, value in rows}
    assert by_package == {
        day: counts["confirmed"] for day, counts in by_day.items() if "confirmed" in counts
    }
    for dimension, number in (("package", 0), ("vendor", 3)):
        for metric, name in (("package_views", "entered"), ("view_to_start", "reached start")):
            rows = await connection.fetch(
                "SELECT day, key, coalesce(numerator, value) AS value FROM history_day_figures"
                " WHERE metric = $1 AND dimension = $2",
                *(metric, dimension),
            )
            figures_of = {
                (number_of(day), f"{name} {key}"): int(value) for day, key, value in rows if value
            }
            keys = {f"{name} {keys_of(package)[number]}" for package in PACKAGES}
            assert figures_of == {
                (day, key): count
                for day, counts in by_day.items()
                for key, count in counts.items()
                if key in keys
            }
    await connection.close()


async def charts_show_it(running: Sink, days: Days) -> None:
    """Series by day and by hour, of memory and of the history, are what was counted."""
    by_day = days.by_day()
    await splits_show_it(running, days)
    for step, count, older in ((DAY, 61, "DAY"), (HOUR, 1_000, "HOUR")):
        request = series_pb2.GetSeriesRequest(metrics=["revenue_refunded", "funnel_entered"])
        request.window.FromMicroseconds(count * step)
        request.step.FromMicroseconds(step)
        answer = await series.answer(request, lambda: running.engine.state, running.log.history)
        for each, name in zip(answer.series, ("refunded", "entered"), strict=True):
            expected = by_day if step == DAY else days.expected
            for point in each.points:
                counts = expected.get(point.time.ToMicroseconds() // step, {})
                assert int(point.value) == counts.get(name, 0)
                assert not point.older_version
        border_us = running.engine.state.border.from_us
        sources = {
            (point.time.ToMicroseconds() >= border_us, point.source)
            for each in answer.series
            for point in each.points
            if point.HasField("value")
        }
        kept = series_pb2.SeriesPoint.Source.Value(older)
        assert sources == {(True, series_pb2.SeriesPoint.RING), (False, kept)}


async def splits_show_it(running: Sink, days: Days) -> None:
    """The same of a figure by vendor and by type."""
    for by, number in ((series_pb2.DIMENSION_VENDOR, 3), (series_pb2.DIMENSION_PACKAGE_TYPE, 1)):
        keys = {keys_of(package)[number] for package in PACKAGES}
        for step, count, expected in ((DAY, 61, days.by_day()), (HOUR, 900, days.expected)):
            request = series_pb2.GetSeriesRequest(metrics=["view_to_start_matured"], by=by)
            request.window.FromMicroseconds(count * step)
            request.step.FromMicroseconds(step)
            answer = await series.answer(request, lambda: running.engine.state, running.log.history)
            assert {each.key for each in answer.series} == keys
            for each in answer.series:
                for point in each.points:
                    counts = expected.get(point.time.ToMicroseconds() // step, {})
                    entered = counts.get(f"entered {each.key}", 0)
                    started = counts.get(f"reached start {each.key}", 0)
                    assert (point.numerator, point.denominator) == (started, entered)
                    assert point.HasField("value") == (entered > 0)
            sources = {point.source for each in answer.series for point in each.points}
            assert len(sources) == 3  # Of memory, of the history, and of neither.
