"""After the file was loaded at its own dates, the figures equal an independent computation from the
file; the same when metrics_service is killed in between.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import UTC, timedelta
from pathlib import Path

import pytest

from booking_service.demo import expected, report
from booking_service.demo.calls import Client
from booking_service.demo.dated import DatedBatch
from booking_service.demo.history import dated, load
from booking_service.demo.hotel import HotelFile, read_file
from booking_service.demo.run import Addresses
from protos.metrics.v1 import metrics_pb2, metrics_pb2_grpc
from servicekit.channels import PLAINTEXT
from tests.pair.dated_figures import Figures, by_hour
from tests.pair.real_pair import DATA, Pair
from tests.pair.session_lists import sessions_agree

pytestmark = [pytest.mark.processes, pytest.mark.full, pytest.mark.timeout(600)]

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

    addresses = Addresses(pair.booking, pair.metrics, pair.http, PLAINTEXT)
    loading = asyncio.create_task(load(addresses, hotel, batches, report_))
    for share in kills:
        while stored < share * len(batches):
            moved.clear()
            await moved.wait()
        pair.kill("metrics_service")
        await asyncio.to_thread(pair.start, "metrics_service")
    await loading


@pytest.mark.parametrize("kills", [(), KILLS], ids=["at once", "killed"])
async def test_the_figures_equal_those_of_the_file(
    kills: tuple[float, ...],
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
        await load_and_kill(pair, hotel, batches, kills)
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
            await sessions_agree(client, timedelta(days=1))
            assert (await sessions_agree(client, timedelta(days=30)))[3] > 0
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
