"""Loads a file of bookings at its own dates into a metrics database of its own, and serves it, so
that years of true seasons can be looked at.

Each file has its own database of the embedded PostgreSQL. The batches have fixed numbers and bytes,
so that a load that was interrupted goes on after the last batch that is stored.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import signal
import sys
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Final

from booking_service.demo.calls import Client, UnreachableError
from booking_service.demo.dated import DatedBatch, batches_of
from booking_service.demo.hotel import FileError, HotelFile, read_file
from booking_service.demo.plan import days_of
from booking_service.demo.replay import Progress
from booking_service.demo.run import Addresses
from booking_service.demo.screen import Screen
from metrics_service.client.host import LaneDrained, OutBatch, StreamClient
from protos.metrics.v1 import metrics_pb2, metrics_pb2_grpc
from protos.tracking.v1 import tracking_pb2
from servicekit import devstack, logs, start, terminal
from servicekit.migrations import MIGRATIONS, migrate
from servicekit.start import StartError
from servicekit.supervisor import Child, Supervisor

DRAIN_S: Final = 5.0
SHOWN_DAYS: Final = 700
"""The window of the example: the bookings of two years; before are those made long ahead."""

_POLL_S: Final = 0.1


class DatedSource:
    """A lane with all batches of a file."""

    lane = tracking_pb2.LANE_FACTS
    epoch = 1
    succeeds: tuple[str, ...] = ()

    def __init__(self, producer_id: str, batches: Sequence[DatedBatch]) -> None:
        self.producer_id = producer_id
        self.stored = 0
        """How many batches the server has stored."""

        self.changed = asyncio.Event()
        self.refusal = ""
        """Why the server takes none."""

        self._batches = batches
        self._sent = 0
        self._draining = asyncio.Event()

    async def open(
        self,
        resume_after: int,
        batch_hash: bytes,
        *,
        sink_id: str = "",  # noqa: ARG002 - the database is of this file alone
        events: int | None = None,  # noqa: ARG002
    ) -> None:
        """Go on after what is stored, which was made by the same rule."""
        self._sent = self.stored = resume_after
        stored = self._batches[resume_after - 1].payload if resume_after else b""
        if resume_after and hashlib.sha256(stored).digest() != batch_hash:
            self.refusal = "another version has loaded this file: `make clean-data` removes it"
        self.changed.set()

    async def next(self) -> OutBatch:
        """Return the next batch; after the last one, wait for the end."""
        if self._sent >= len(self._batches) or self.refusal:
            await self._draining.wait()
            raise LaneDrained
        self._sent += 1
        batch = self._batches[self._sent - 1]
        return OutBatch(self._sent, batch.events, batch.payload)

    async def acked(self, seq: int) -> None:
        """Note what is stored."""
        self.stored = seq
        self.changed.set()

    async def fenced(self, epoch: int, sink_id: str) -> bool:  # noqa: ARG002
        """End: another process loads the same file."""
        self.refusal = "another process loads the same file"
        self.changed.set()
        return False

    async def forked(self, fork: Exception) -> None:
        """Nothing forks: the batches are always the same."""

    def drain(self) -> None:
        """End once all are sent."""
        self._draining.set()


def dated(hotel: HotelFile) -> list[DatedBatch]:
    """Return all batches of a file."""
    return list(batches_of(hotel, days_of(hotel.stays)))


async def load(
    addresses: Addresses,
    hotel: HotelFile,
    batches: Sequence[DatedBatch],
    report: Callable[[int], None],
) -> None:
    """Send what is not stored yet, and wait until it is counted; `report` gets how many batches are
    stored. A metrics_service that restarts meanwhile is waited for. Raises StartError.
    """
    source = DatedSource(f"history-{hotel.namespace}", batches)
    stream = StreamClient(
        addresses.metrics,
        service="booking_service",
        instance="history",
        files=addresses.files,
        backfill=True,
    )
    stream.add_lane(source)
    await stream.start()
    try:
        while source.stored < len(batches):
            await source.changed.wait()
            source.changed.clear()
            if source.refusal:
                raise StartError(source.refusal)
            report(source.stored)
    finally:
        await stream.stop(DRAIN_S)
    async with Client(addresses.metrics, files=addresses.files) as client:
        stub = metrics_pb2_grpc.MetricsServiceStub(client.channel)
        while True:
            answer = await client.call(stub.GetMetrics, metrics_pb2.GetMetricsRequest())
            if answer.as_of.ToMicroseconds() >= batches[-1].newest_us:
                return
            await asyncio.sleep(_POLL_S)


def run_history(path: Path, data: Path, screen: Screen) -> int:
    """Load the file, and serve until Ctrl-C or SIGTERM; returns the exit status, which is 0 then.

    All files are under `data`. An error is one line on standard error and status 1.
    """
    # Until the event loop handles them, both signals interrupt the start.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    # The bar shows how far it is.
    logs.configure(level="warning")
    try:
        with terminal.own_interrupts(), ExitStack() as stack:
            hotel = read_file(path)
            addresses = Addresses.of(os.environ)
            stack.enter_context(devstack.sole_user(data))
            screen.say("Starting the database ...")
            names = {"METRICS_DATABASE_URL": f"history_{hotel.namespace.hex[:8]}"}
            urls = stack.enter_context(devstack.databases(data, {}, names=names))
            migrate(urls["METRICS_DATABASE_URL"], MIGRATIONS / "metrics")
            return start.run(partial(_serve, path, hotel, data, addresses, urls, screen))
    except KeyboardInterrupt:
        return 0
    except StartError as error:
        return start.fail(error)
    except FileError as error:
        return start.fail(StartError(str(error)))


async def _serve(
    path: Path,
    hotel: HotelFile,
    data: Path,
    addresses: Addresses,
    urls: dict[str, str],
    screen: Screen,
    stop: asyncio.Event,
) -> None:
    child = Child(
        "metrics_service",
        (sys.executable, "-m", "metrics_service", "serve"),
        {**urls, "METRICS_BACKFILL_ONLY": "true"},
        addresses.metrics,
    )
    async with Supervisor(data / "logs", addresses.files) as supervisor:
        screen.say("Starting metrics_service ...")
        await supervisor.start(child)
        waits = {
            asyncio.create_task(each)
            for each in (_load(path, hotel, addresses, screen), supervisor.wait(), stop.wait())
        }
        try:
            while True:
                done, waits = await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
                for each in done:
                    ended = each.result()
                    if isinstance(ended, str):
                        raise StartError(ended)
                if stop.is_set():
                    screen.say("Stopping ...")
                    return
        finally:
            for each in waits:
                each.cancel()
            await asyncio.gather(*waits, return_exceptions=True)


async def _load(path: Path, hotel: HotelFile, addresses: Addresses, screen: Screen) -> None:
    days = days_of(hotel.stays)
    batches = await asyncio.to_thread(dated, hotel)
    rows = {day.date: len(day.parties) for day in days}
    progress = Progress(len(days), len(hotel.stays))
    with screen.following(progress) as following:
        counted = 0

        def report(stored: int) -> None:
            nonlocal counted
            for batch in batches[counted:stored]:
                if batch.day != progress.today:
                    progress.today = batch.day
                    progress.days_done += 1
                    progress.rows_done += rows[batch.day]
            counted = stored
            following.update(progress)

        try:
            await load(addresses, hotel, batches, report)
        except UnreachableError as error:
            raise StartError(str(error)) from None
    first, last = days[0].date, days[-1].date
    screen.say(
        f"""
{path.name} is loaded at its own dates: {len(hotel.stays):,} bookings from {first} to {last}.
The page: http://{addresses.http}/?range=30d&span=2y

Serving:
  metrics_service  gRPC {addresses.metrics}, HTTP http://{addresses.http}

Things to try in another terminal; windows end at {last}:
  make watch
  curl -s http://{addresses.http}/api/metrics/bookings
  .venv/bin/farehold series bookings_confirmed --step 28d --window {SHOWN_DAYS}d \\
    --target {addresses.metrics}

Ctrl-C stops everything; `make history` then serves the same again, at once.
"""
    )
