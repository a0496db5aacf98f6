"""After the file was loaded at its own dates, the figures equal an independent computation from the
file; the same when metrics_service is killed in between.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Sequence
from datetime import UTC, datetime, time, timedelta
from pathlib import Path
from typing import Final

import asyncpg
import pytest

from booking_service.demo import expected, report
from booking_service.demo.calls import Client
from booking_service.demo.dated import DatedBatch
from booking_service.demo.history import dated, load
from booking_service.demo.hotel import HotelFile, read_file
from booking_service.demo.run import Addresses
from protos.metrics.v1 import metrics_pb2, metrics_pb2_grpc, series_pb2
from servicekit.channels import PLAINTEXT
from tests.pair.dated_figures import Figures, by_day, by_hour
from tests.pair.real_pair import DATA, Pair
from tests.pair.session_lists import sessions_agree

pytestmark = [pytest.mark.processes, pytest.mark.full, pytest.mark.timeout(600)]

SERIES: Final = {
    "funnel_entered": "entered",
    "funnel_converted": "converted",
    "package_views": "entered",
    "bookings_started": "started",
    "bookings_confirmed": "confirmed",
    "bookings_cancelled": "cancelled",
    "revenue_gross": "gross",
    "revenue_refunded": "refunded",
}
"""The metrics of GetSeries, and the figures of the file that they are."""

POINTS: Final = 1_000
HOURS: Final = 9_000
DAYS: Final = 1_400
"""That are compared: hours are kept for 400 days, and the file has bookings of 1,321."""

KILLS = (0.2, 0.5, 0.8)
"""Of the batches that are stored when metrics_service is killed."""


@pytest.fixture(scope="module")
def hotel() -> HotelFile:
    return read_file(DATA)


@pytest.fixture(scope="module")
def batches(hotel: HotelFile) -> list[DatedBatch]:
    return dated(hotel)


@pytest.fixture(scope="module")
def figures() -> Figures:
    return by_hour(DATA)


async def load_and_kill(
    pair: Pair, hotel: HotelFile, batches: Sequence[DatedBatch], kills: Sequence[float]
) -> None:
    stored = 0
    moved = asyncio.Event()

    def report_(count: int) -> None:
        nonlocal stored
        stored = count
        moved.set()

    addresses = Addresses(pair.booking, pair.metrics, pair.http, "", PLAINTEXT)
    loading = asyncio.create_task(load(addresses, hotel, batches, report_))
    for share in kills:
        while stored < share * len(batches):
            moved.clear()
            await moved.wait()
        pair.kill("metrics_service")
        await asyncio.to_thread(pair.start, "metrics_service")
    await loading


async def test_the_figures_equal_those_of_the_file_however_often_it_is_killed(
    metrics_dsn: str,
    tmp_path: Path,
    hotel: HotelFile,
    batches: list[DatedBatch],
    figures: Figures,
) -> None:
    settings = {"METRICS_BACKFILL_ONLY": "true", "METRICS_CHECKPOINT_INTERVAL_S": "5"}
    pair = Pair(metrics_dsn, metrics_dsn, tmp_path, settings)
    try:
        pair.start("metrics_service")
        await load_and_kill(pair, hotel, batches, KILLS)
        async with Client(pair.metrics) as client:
            totals = expected.totals(DATA)
            lines = report.compare(
                hotel,
                totals,
                report.figures_of_file(hotel, totals),
                await report.get_figures(client),
            )
            assert [line for line in lines if not line.equal] == []
            await compare_windows(client, figures)
            await compare_breakdowns(client, hotel, figures)
            await sessions_agree(client, timedelta(days=1))
            assert (await sessions_agree(client, timedelta(days=30)))[3] > 0
        # What has left the rings is in the history from the next checkpoint on.
        await asyncio.to_thread(pair.stop_one, "metrics_service")
        await asyncio.to_thread(pair.start, "metrics_service")
        async with Client(pair.metrics) as client:
            await compare_windows(client, figures)
            await compare_series(client, figures)
        await compare_rows(metrics_dsn, figures)
    finally:
        pair.stop()


async def compare_windows(client: Client, figures: Figures) -> None:
    """The windows that end at the last event, from the rings."""
    stub = metrics_pb2_grpc.MetricsServiceStub(client.channel)
    for hours in (1, 24, 30 * 24):
        request = metrics_pb2.GetMetricsRequest()
        request.window.FromTimedelta(timedelta(hours=hours))
        answer = await client.call(stub.GetMetrics, request)
        end = answer.as_of.ToDatetime(UTC)
        if hours == 30 * 24:
            begin = end.replace(minute=0, second=0, microsecond=0) - timedelta(hours=hours - 1)
            assert shown(answer) == {
                name: sum(count for hour, count in figures[name].items() if begin <= hour <= end)
                for name in shown(answer)
            }


def shown(answer: metrics_pb2.MetricsSnapshot) -> dict[str, int]:
    (revenue,) = answer.business.revenue
    return {
        "entered": answer.funnel.entered,
        "converted": answer.funnel.converted,
        "started": answer.funnel.bookings_started,
        "confirmed": answer.business.confirmed,
        "cancelled": answer.business.cancelled,
        "gross": revenue.gross_minor,
        "refunded": revenue.refunded_minor,
    }


async def compare_series(client: Client, figures: Figures) -> None:
    """Charts by the hour and by the day, of memory and of the history, are what was counted."""
    stub = metrics_pb2_grpc.MetricsServiceStub(client.channel)
    kinds = series_pb2.SeriesPoint
    for step, expected_, steps, kept in (
        (timedelta(hours=1), figures, HOURS, kinds.HOUR),
        (timedelta(days=1), by_day(figures), DAYS, kinds.DAY),
    ):
        sources = set()
        for ago in range(0, steps, POINTS):
            points = min(POINTS, steps - ago)
            request = series_pb2.GetSeriesRequest(metrics=SERIES)
            request.window.FromTimedelta(points * step)
            request.ended.FromTimedelta(ago * step)
            request.step.FromTimedelta(step)
            answer = await client.call(stub.GetSeries, request)
            assert [each.metric for each in answer.series] == [*SERIES]
            for each in answer.series:
                assert len(each.points) == points
                counts = expected_[SERIES[each.metric]]
                for point in each.points:
                    assert int(point.value) == counts[point.time.ToDatetime(UTC)], each.metric
                    sources |= {point.source} if point.HasField("value") else set()
        kept = (
            series_pb2.SeriesPoint.HOUR if step < timedelta(days=1) else series_pb2.SeriesPoint.DAY
        )
        assert sources == {series_pb2.SeriesPoint.RING, kept}


async def compare_rows(dsn: str, figures: Figures) -> None:
    """The plain figures of the days that are over; those of a split add up to the whole."""
    connection = await asyncpg.connect(dsn)
    try:
        rows = await connection.fetch(
            "SELECT day, metric, dimension, sum(value) AS value FROM history_day_figures"
            " WHERE metric = ANY($1) GROUP BY day, metric, dimension",
            [*SERIES],
        )
    finally:
        await connection.close()
    found: dict[tuple[str, str], dict[datetime, int]] = defaultdict(dict)
    for row in rows:
        day = datetime.combine(row["day"], time(), UTC)
        if row["value"]:
            found[row["metric"], row["dimension"]][day] = int(row["value"])
    last = max(max(days) for days in found.values())
    of_days = by_day(figures)
    for (metric, _), days in found.items():
        counts = of_days[SERIES[metric]]
        assert days == {day: count for day, count in counts.items() if count and day <= last}
    assert {metric for metric, _ in found} == SERIES.keys()
    assert {("bookings_confirmed", "package"), ("package_views", "vendor")} <= found.keys()
    assert last >= max(of_days["entered"]) - timedelta(days=1)


async def compare_breakdowns(client: Client, hotel: HotelFile, figures: Figures) -> None:
    """Groups add up to the whole, packages and days of entry are what was counted."""
    stub = metrics_pb2_grpc.MetricsServiceStub(client.channel)
    request = metrics_pb2.GetFunnelRequest(entry_days=30)
    request.window.FromTimedelta(timedelta(days=30))
    for by in set(series_pb2.Dimension.values()) - {series_pb2.DIMENSION_UNSPECIFIED}:
        request.by = by
        answer = await client.call(stub.GetFunnel, request)
        whole = [step.actors for step in answer.steps]
        groups = [*answer.groups, answer.other_groups]
        parts = [list(each.actors) for each in groups if each.actors]
        assert [sum(column) for column in zip(*parts, strict=True)] == whole
        assert list(answer.all_groups.actors) == whole
        assert (
            answer.all_groups.package_views
            == whole[0]
            == sum(each.package_views for each in groups)
        )
        if by == series_pb2.DIMENSION_PACKAGE:
            end = answer.as_of.ToDatetime(UTC)
            begin = end.replace(minute=0, second=0, microsecond=0) - timedelta(hours=719)

            def within(name: str, begin: datetime = begin) -> int:
                return sum(count for hour, count in figures[name].items() if hour >= begin)

            rooms = {stay.offer for stay in hotel.stays}
            assert {each.key: (each.actors[0], each.actors[-1]) for each in answer.groups} == {
                str(hotel.package_id(room)): (
                    within(f"entered {tuple(room)}"),
                    within(f"converted {tuple(room)}"),
                )
                for room in rooms
                if within(f"entered {tuple(room)}")
            }
    days = by_day(figures)
    assert len(answer.days) == 30
    for each in answer.days:
        day = datetime.strptime(each.key, "%Y-%m-%d").replace(tzinfo=UTC)
        assert (each.actors[0], each.actors[-1]) == (days["entered"][day], days["converted"][day])
