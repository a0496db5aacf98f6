"""Row 10: a leader that is frozen, and thawed when another one leads or may lead."""

from __future__ import annotations

import asyncio
import os
import signal
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

from tests.attacks.processes import World
from tests.attacks.strike import Tally
from tests.attacks.trade import Trade, comes_true, metrics_of
from tests.metrics.delivery_proxy import Proxy
from tests.pair.real_pair import ROOT, Pair

BOOKINGS: Final = 10
SHORT_S: Final = 2.0
DRAINED_S: Final = 5.0
FACTS: Final = (
    "SELECT (SELECT count(*) FROM booking_events)"
    " + (SELECT count(*) FROM payment_events WHERE fact <> '')"
)


class Stage:
    """A metrics_service behind a proxy, and a booking_service that sends to it, on new databases;
    others may be started on the same ones.
    """

    def __init__(self, world: World, folder: Path, proxy: Proxy, tally: Tally) -> None:
        self.tally = tally
        self.proxy = proxy
        self.name = folder.name.replace("-", "_")
        self._world = world
        self._folder = folder
        self._settings = {"BOOKING_METRICS_TARGET": proxy.target, "METRICS_HEARTBEAT_MS": "500"}
        self._pairs: list[Pair] = []
        self.dsns: dict[str, str] = {}

    async def start(self) -> None:
        await asyncio.to_thread(self._create)
        self.first = self.pair()
        await asyncio.to_thread(self.first.start, "metrics_service")
        self.proxy.forward_to(port_of(self.first))
        await asyncio.to_thread(self.first.start, "booking_service")
        self.trade = Trade(self.first.booking, self.tally)
        await asyncio.to_thread(self.trade.open)
        await self.book()

    def pair(self) -> Pair:
        """Another pair on the same databases, of which nothing runs yet."""
        folder = self._folder / str(len(self._pairs))
        folder.mkdir()
        made = Pair(self.dsns["booking"], self.dsns["metrics"], folder, self._settings)
        self._pairs.append(made)
        return made

    async def book(self, trade: Trade | None = None) -> None:
        await asyncio.to_thread((trade or self.trade).book, BOOKINGS)

    async def all_counted(self, by: Pair, what: str, within_s: float) -> None:
        """Check that the metrics get every fact once."""
        await asyncio.to_thread(self._all_counted, by, what, within_s)

    def _all_counted(self, by: Pair, what: str, within_s: float) -> None:
        wanted = int(self._world.server.psql(f"{self.name}_booking", FACTS))
        comes_true(lambda: metrics_of(by.metrics).quality.facts >= wanted, within_s)
        quality = metrics_of(by.metrics).quality
        counted = (quality.facts, quality.duplicates)
        self.tally.check(
            counted == (wanted, 0), f"{what}: {counted[0]} facts of {wanted}, {counted[1]} twice"
        )

    def _create(self) -> None:
        server = self._world.server
        for kind in ("booking", "metrics"):
            self.dsns[kind] = server.create_database(f"{self.name}_{kind}")
            server.migrate(f"{self.name}_{kind}", ROOT / "migrations" / kind)

    def end(self) -> None:
        for pair in self._pairs:
            pair.stop()
        for kind in self.dsns:
            self._world.server.drop_database(f"{self.name}_{kind}")


def port_of(pair: Pair) -> int:
    return int(pair.metrics.rpartition(":")[2])


@asynccontextmanager
async def frozen(pair: Pair, service: str) -> AsyncIterator[None]:
    """A process stands still until the end of the block."""
    pid = pair.pid(service)
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


async def metrics_replaced(stage: Stage) -> None:
    """Another metrics_service takes over from one that is frozen."""
    second = stage.pair()
    async with frozen(stage.first, "metrics_service"):
        # It serves once the database has ended the session of the frozen one.
        await asyncio.to_thread(second.start, "metrics_service")
        await stage.book()
    # Its address leads to the one that leads, and its streams are still its own.
    stage.proxy.forward_to(port_of(second))
    await stage.all_counted(second, "after another one has taken over", DRAINED_S + SETTLES_S)
    await stage.book()
    await stage.all_counted(second, "and on", SETTLES_S)
    leads = stage.first.log("metrics_service").count("log_lead_taken")
    stage.tally.check(leads == 1, f"the thawed one has taken the lead {leads} times")


async def metrics_frozen_shortly(stage: Stage) -> None:
    """Nobody takes over, and it goes on."""
    for _ in range(2):
        async with frozen(stage.first, "metrics_service"):
            await stage.book()
            await asyncio.sleep(SHORT_S)
        await stage.all_counted(stage.first, "after a short freeze", SETTLES_S)


async def relay_replaced(stage: Stage) -> None:
    """Another booking_service takes over the delivery from one that is frozen."""
    second = stage.pair()
    await asyncio.to_thread(second.start, "booking_service")
    other = Trade(second.booking, stage.tally)
    await asyncio.to_thread(other.open)
    async with frozen(stage.first, "booking_service"):
        await stage.book(other)
        await stage.all_counted(stage.first, "while the relay stands still", RELAY_AWAY_S)
    await stage.book()
    await stage.book(other)
    await stage.all_counted(stage.first, "after the thaw", SETTLES_S)


SETTLES_S: Final = 10.0
RELAY_AWAY_S: Final = 25.0
"""The database ends the session of a leader that stands still after ten seconds."""


def leader(act: Callable[[Stage], Awaitable[None]]) -> Callable[[World], Tally]:
    """A scenario on a stage of its own."""

    def scenario(world: World) -> Tally:
        tally = Tally()
        with tempfile.TemporaryDirectory(prefix="leaders-") as folder:
            asyncio.run(_play(world, Path(folder), tally, act))
        return tally

    return scenario


async def _play(
    world: World, folder: Path, tally: Tally, act: Callable[[Stage], Awaitable[None]]
) -> None:
    async with Proxy(0) as proxy:
        stage = Stage(world, folder, proxy, tally)
        try:
            await stage.start()
            await act(stage)
        except Exception as error:
            tally.check(False, f"{type(error).__name__}: {error}")
        finally:
            await asyncio.to_thread(stage.end)
