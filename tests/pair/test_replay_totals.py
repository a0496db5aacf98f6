"""After a replay through the real pair the metrics equal what the file alone says."""

from __future__ import annotations

import asyncio
import io
import re
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from google.protobuf import duration_pb2
from rich.console import Console

from booking_service.demo import expected, report
from booking_service.demo.calls import Client
from booking_service.demo.hotel import read_file
from booking_service.demo.plan import days_of
from booking_service.demo.replay import Progress
from booking_service.demo.screen import Following, Screen
from booking_service.demo.session import Order, replay_file
from protos.metrics.v1 import metrics_pb2, metrics_pb2_grpc
from tests.pair.real_pair import Pair, first_rows, input_file, running
from tests.pair.session_lists import sessions_agree
from tests.sizes import SIZE

ROWS = 120
# Read once, so that a second replay is of the same days.
TODAY = datetime.now(UTC).date()
pytestmark = [pytest.mark.processes, pytest.mark.timeout(120 if SIZE == "small" else 1200)]


@pytest.fixture
def pair(booking_dsn: str, metrics_dsn: str, tmp_path: Path) -> Iterator[Pair]:
    settings = {"METRICS_CHECKPOINT_INTERVAL_S": "1"}
    with running(Pair(booking_dsn, metrics_dsn, tmp_path, settings)) as pair:
        yield pair


@asynccontextmanager
async def clients(pair: Pair) -> AsyncIterator[tuple[Client, Client]]:
    async with Client(pair.booking) as booking, Client(pair.metrics) as metrics:
        yield booking, metrics


class Recording(Screen):
    """A screen that writes to `text` and knows how far the replay is."""

    def __init__(self) -> None:
        self.text = io.StringIO()
        self._rows_done = 0
        self._moved = asyncio.Event()
        super().__init__(Console(file=self.text, soft_wrap=True, width=120))

    def following(self, total: Progress) -> Following:
        following = super().following(total)
        update = following.update

        def watched(progress: Progress) -> None:
            self._rows_done = progress.rows_done
            self._moved.set()
            update(progress)

        following.update = watched  # type: ignore[method-assign]  # only to look on
        return following

    async def after_rows(self, more: int) -> None:
        """Returns when `more` further rows are done."""
        until = self._rows_done + more
        async with asyncio.timeout(300):
            while self._rows_done < until:
                await self._moved.wait()
                self._moved.clear()


class Pausing(Client):
    """Makes no new call while `goes_on` is not set."""

    def __init__(self, target: str) -> None:
        super().__init__(target)
        self.goes_on = asyncio.Event()
        self.goes_on.set()

    async def call(self, *args: Any, **keywords: Any) -> Any:
        await self.goes_on.wait()
        return await super().call(*args, **keywords)


async def replay(
    path: Path, booking: Client, metrics: Client, screen: Screen, *, tight: bool = False
) -> bool:
    return await replay_file(Order(path, tight=tight), booking, metrics, TODAY, screen)


def sold_out(screen: Recording) -> int:
    """How many rows of the file found no room, as the screen says."""
    found = re.search(r"SOLD_OUT: ([\d,]+) bookings of the file", screen.text.getvalue())
    return int(found[1].replace(",", "")) if found else 0


async def test_totals_equal_and_a_second_run_replays_nothing(pair: Pair, tmp_path: Path) -> None:
    path = input_file(tmp_path, ROWS)
    async with clients(pair) as (booking, metrics):
        first = Recording()
        assert await replay(path, booking, metrics, first), first.text.getvalue()
        shown = await report.get_figures(metrics)
        totals = expected.totals(path)
        assert shown["confirmed"] == totals.confirmed > 0
        assert shown["cancelled"] == totals.cancelled > 0
        assert shown["gross"] == totals.gross_minor
        assert shown["refunded"] == totals.refunded_minor > 0
        assert shown["net"] == totals.net_minor

        second = Recording()
        sent = booking.requests
        assert await replay(path, booking, metrics, second), second.text.getvalue()
        assert await report.get_figures(metrics) == shown
        # Only the catalogue and the pages of what is there: far less than a request a row.
        assert booking.requests - sent < 100
        assert f"{totals.confirmed:,} of them already there" in second.text.getvalue()


async def test_funnel_holds_every_visitor(pair: Pair, tmp_path: Path) -> None:
    path = input_file(tmp_path, ROWS)
    async with clients(pair) as (booking, metrics):
        assert await replay(path, booking, metrics, Recording())
        stub = metrics_pb2_grpc.MetricsServiceStub(metrics.channel)
        visitors = sum(
            len(party) for day in days_of(read_file(path).stays) for party in day.parties
        )
        # Views are telemetry: they arrive up to a flush interval after the facts.
        async with asyncio.timeout(30):
            while True:
                funnel = await metrics.call(stub.GetFunnel, metrics_pb2.GetFunnelRequest())
                if funnel.entered >= visitors:
                    break
                await asyncio.sleep(0.1)
        assert (await sessions_agree(metrics))[0] == visitors
    assert funnel.entered == visitors
    assert funnel.entered == funnel.converted + funnel.abandoned + funnel.open
    assert funnel.converted == expected.totals(path).confirmed
    viewed, started, completed, confirmed = (step.actors for step in funnel.steps)
    assert 0.25 < started / viewed < 0.35
    assert 0.70 < completed / started < 0.80
    assert 0.90 < confirmed / completed < 0.96


async def test_subscriber_sees_it_grow_and_ends_with_what_get_metrics_says(
    pair: Pair, tmp_path: Path
) -> None:
    path = input_file(tmp_path, ROWS)
    snapshots: list[metrics_pb2.MetricsSnapshot] = []
    async with clients(pair) as (booking, metrics):
        stub = metrics_pb2_grpc.MetricsServiceStub(metrics.channel)
        stream = stub.StreamMetrics(
            metrics_pb2.StreamMetricsRequest(interval=duration_pb2.Duration(nanos=200_000_000))
        )

        async def subscribe() -> None:
            async for update in stream:
                snapshots.append(update.snapshot)  # noqa: PERF401 - looked at meanwhile

        reader = asyncio.create_task(subscribe())
        async with asyncio.timeout(30):
            while not snapshots:  # noqa: ASYNC110 - no event tells
                await asyncio.sleep(0.01)
        assert await replay(path, booking, metrics, Recording())
        # Telemetry goes on changing the state: ask until it is what was streamed last.
        async with asyncio.timeout(30):
            while True:
                answer = await metrics.call(stub.GetMetrics, metrics_pb2.GetMetricsRequest())
                last = snapshots[-1]
                if last.revision == answer.revision and len(snapshots) >= 3:
                    break
                await asyncio.sleep(0.05)
        reader.cancel()
    confirmed = [snapshot.business.confirmed for snapshot in snapshots]
    assert confirmed == sorted(confirmed)
    assert confirmed[0] < confirmed[-1] == expected.totals(path).confirmed
    assert last == answer


async def some_session_confirmed(metrics: Client) -> None:
    """Wait until the funnel has a session from its view to its confirmed booking."""
    stub = metrics_pb2_grpc.MetricsServiceStub(metrics.channel)
    async with asyncio.timeout(30):
        while True:
            funnel = await metrics.call(stub.GetFunnel, metrics_pb2.GetFunnelRequest())
            if funnel.converted:
                return
            await asyncio.sleep(0.05)


async def test_killed_services_lose_and_double_nothing(pair: Pair, tmp_path: Path) -> None:
    path = input_file(tmp_path, ROWS)
    some = expected.totals(path).confirmed // 10
    booking = Pausing(pair.booking)
    async with booking, Client(pair.metrics) as metrics:
        screen = Recording()
        work = asyncio.create_task(replay(path, booking, metrics, screen))
        await screen.after_rows(some)
        # Views may be lost with a process; those of the first bookings are not.
        booking.goes_on.clear()
        await some_session_confirmed(metrics)
        booking.goes_on.set()
        await asyncio.to_thread(pair.kill, "metrics_service")
        # Bookings go on without their metrics.
        await screen.after_rows(some)
        # But not to the end of the file, however long a start takes.
        booking.goes_on.clear()
        await asyncio.to_thread(pair.start, "metrics_service")
        booking.goes_on.set()
        await screen.after_rows(some)
        await asyncio.to_thread(pair.kill, "booking_service")
        await asyncio.to_thread(pair.start, "booking_service")
        assert not work.done()
        assert await work, screen.text.getvalue()
        assert booking.retries > 0
        assert (await sessions_agree(metrics))[3] > 0
        assert (await report.get_figures(metrics)) == report.figures_of_file(
            read_file(path), expected.totals(path)
        )


async def test_tight_capacity_shows_sold_out_and_still_adds_up(pair: Pair, tmp_path: Path) -> None:
    path = input_file(tmp_path, ROWS)
    every = expected.totals(path).confirmed
    async with clients(pair) as (booking, metrics):
        tight = Recording()
        assert await replay(path, booking, metrics, tight, tight=True), tight.text.getvalue()
        refused = sold_out(tight)
        assert 0 < refused < every
        assert (await report.get_figures(metrics))["confirmed"] == every - refused

        # With the full capacity the refused rows find room, and nothing else is done again; but for
        # a few that are cancelled in the end, whose days rows that come after them have by now.
        full = Recording()
        assert await replay(path, booking, metrics, full), full.text.getvalue()
        still = sold_out(full)
        assert still < refused / 10
        assert (await report.get_figures(metrics))["confirmed"] == every - still


async def test_file_is_compared_apart_from_other_bookings(pair: Pair, tmp_path: Path) -> None:
    async with clients(pair) as (booking, metrics):
        assert await replay(first_rows(tmp_path, 20), booking, metrics, Recording())
        second = Recording()
        assert await replay(first_rows(tmp_path, 40), booking, metrics, second)
        assert "20 bookings that are not of this file" in second.text.getvalue()
