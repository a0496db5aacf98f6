"""Row 19: a sink that lies to a booking_service, which goes on and loses no fact."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Final

from protos.tracking.v1 import event_pb2
from tests.allowance import Stopwatch
from tests.attacks.leaders import FACTS
from tests.attacks.processes import World
from tests.attacks.strike import Tally
from tests.attacks.trade import Trade, comes_true
from tests.booking.delivery.lying_sink import CASES, LyingSink
from tests.pair.real_pair import ROOT, Pair

BOOKINGS: Final = 3
TRIES: Final = 3
LIE_S: Final = 8.0
"""The most that one lie takes: a forked lane is opened again every five seconds."""

MAX_OPENINGS_PER_S: Final = 25.0
"""Connections and Hellos. The shortest pauses, of up to 0.1, 0.2, 0.4 s ..., leave fewer."""

MAX_LINES: Final = 6
"""What one lie may write: that streams end, when it begins and ends, the lie, and the recovery."""

FALSE_ACKS: Final = (
    "an ack beyond what was sent",
    "an ack of all that there could be",
    "acks that go back",
    "an ack below nothing",
)
FALSE_WELCOMES: Final = (
    "a Welcome of 1 MB",
    "a sink id that is none",
    "a position before the first",
    "another sink",
    "a position in the future",
    "facts that were never sent",
)
REFUSALS: Final = (
    "a forked lane",
    "an epoch that nobody begins",
    "a fence for each Hello",
    "a gap for each batch",
    "a log that is never available",
)
ENDS: Final = ("no answer but the end", "a Welcome and the end")

_SAID: Final = ("stream_lost", "lane_")


def liar(*names: str) -> Callable[[World], Tally]:
    """A scenario in which a sink tells these lies, one after the other, and is honest between."""

    def scenario(world: World) -> Tally:
        tally = Tally()
        with tempfile.TemporaryDirectory(prefix="liars-") as folder:
            asyncio.run(_play(world, Path(folder), tally, names))
        return tally

    return scenario


async def _play(world: World, folder: Path, tally: Tally, names: tuple[str, ...]) -> None:
    database = folder.name.replace("-", "_")
    async with LyingSink() as sink:
        dsn = await asyncio.to_thread(_create, world, database)
        pair = Pair(dsn, "", folder, {"BOOKING_METRICS_TARGET": sink.target})
        try:
            await asyncio.to_thread(pair.start, "booking_service")
            trade = Trade(pair.booking, tally)
            await asyncio.to_thread(trade.open)
            for name in names:
                await _all_stored(world, database, sink, tally, f"before {name}")
                lines = len(_said(pair))
                openings = sink.openings
                with Stopwatch() as passed:
                    sink.lie(CASES[name].lie)
                    await asyncio.to_thread(trade.book, BOOKINGS)
                    await asyncio.to_thread(comes_true, lambda: sink.lies >= TRIES, LIE_S)
                    lasted_s = passed.s
                opened = sink.openings - openings
                tally.check(
                    opened <= TRIES + MAX_OPENINGS_PER_S * lasted_s,
                    f"{name}: {opened} openings in {lasted_s:.1f} s",
                )
                sink.repent()
                await _all_stored(world, database, sink, tally, f"after {name}")
                written = len(_said(pair)) - lines
                tally.check(written <= MAX_LINES, f"{name}: {written} lines of log")
        except Exception as error:
            tally.check(False, f"{type(error).__name__}: {error}")
        finally:
            await asyncio.to_thread(pair.stop)
            await asyncio.to_thread(world.server.drop_database, database)


def _create(world: World, database: str) -> str:
    dsn = world.server.create_database(database)
    world.server.migrate(database, ROOT / "migrations/booking")
    return dsn


async def _all_stored(
    world: World, database: str, sink: LyingSink, tally: Tally, when: str
) -> None:
    """Check that the sink gets each fact of the audit trail, and none of another number."""
    wanted = int(await asyncio.to_thread(world.server.psql, database, FACTS))
    await asyncio.to_thread(comes_true, lambda: _facts(sink) >= wanted)
    tally.check(_facts(sink) == wanted, f"{when}: {_facts(sink)} facts of {wanted}")


def _facts(sink: LyingSink) -> int:
    ids = {
        event.event_id
        for batch in sink.stored
        for event in event_pb2.EventList.FromString(batch.payload).events
    }
    return len(ids)


def _said(pair: Pair) -> list[str]:
    return [line for line in pair.lines("booking_service") if any(event in line for event in _SAID)]
