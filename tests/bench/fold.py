"""What breakdowns cost the fold: bytes for each live session, and CPU for each event.

Run with `make bench-fold`. It ends with 1 if a claim does not hold.
"""

from __future__ import annotations

import argparse
import gc
import random
import sys
import time
import tracemalloc
from collections.abc import Iterator
from dataclasses import replace
from itertools import islice
from typing import Final

from metrics_service.state.breakdown.breakdown import BreakdownFold
from metrics_service.state.fold import State
from metrics_service.state.funnel.funnel import FunnelFold
from metrics_service.state.record import LogRecord
from protos.tracking.v1 import event_pb2
from protos.tracking.v1.tracking_pb2 import LANE_FACTS
from tests.bench.fold_rate import SECOND_US, START_US, fact_events, timing_events
from tests.bench.report import verdict

MAX_SESSION_BYTES: Final = 1_000
MAX_SLOWER: Final = 0.2
PACKAGES: Final = 400
LONGER: Final = 3
"""Every so many sessions look at a second package, and every so many of them at a third."""


class WithoutBreakdown(State):
    """The same fold, but for breakdowns."""

    def __init__(self) -> None:
        super().__init__()
        tables, none = self._tables, BreakdownFold()
        none.packages.of = none.packages.known = lambda *_: ()  # type: ignore[method-assign,assignment]  # Nothing is counted.
        tables.breakdown = tables.business._breakdown = none
        tables.funnel = FunnelFold()
        tables._rings = (tables.funnel.rings, *tables._rings[1:])


def main() -> int:
    """Print each figure and whether its claim holds."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sessions", type=int, default=250_000)
    sessions = parser.parse_args().sessions
    size = session_bytes(sessions)
    held = size <= MAX_SESSION_BYTES
    print(f"{sessions:,} live sessions: {size:,.0f} bytes each, at most 1,000: {verdict(held)}")
    records = list(mix(random.Random(1)))
    spent = {kind: min(seconds(kind, records) for _ in range(3)) for kind in KINDS}
    events = sum(record.count for record in records)
    for kind, spent_s in spent.items():
        print(f"{kind.__name__}: {events / spent_s:,.0f} events/s of CPU")
    slower = spent[State] / spent[WithoutBreakdown] - 1
    fits = slower <= MAX_SLOWER
    print(f"breakdowns cost {slower:.0%} of the fold, at most {MAX_SLOWER:.0%}: {verdict(fits)}")
    return 0 if held and fits else 1


KINDS: Final[tuple[type[State], ...]] = (WithoutBreakdown, State)


def session_bytes(sessions: int) -> float:
    """Return the memory of one live session: a third of them have two packages or more. Late
    figures are added to their slots in between, as the engine does.
    """
    state, dice = State(), random.Random(1)
    tracemalloc.start()
    before, _ = tracemalloc.get_traced_memory()
    events = views(dice, sessions)
    position = 0
    while batch := list(islice(events, 500)):
        position += 1
        payload = event_pb2.EventList(events=batch).SerializeToString()
        state.apply(LogRecord(position, START_US, "batch", lane=LANE_FACTS, payload=payload))
        for _ in state.settle():
            pass
        if state.journeys.due:
            # What waits for a checkpoint is bounded by that.
            state.journeys.saved()
    # The keys that recognise duplicates are bounded, and do not grow with the sessions.
    for seen in (state._tables.seen_events, state._tables.seen_bookings):
        seen._newer, seen._older = {}, {}
    for _ in state.prepare():
        pass
    state.journeys.saved()
    gc.collect()
    after, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(state._tables.funnel) == sessions
    return (after - before) / sessions


def views(dice: random.Random, sessions: int) -> Iterator[event_pb2.Event]:
    """Yield what sessions do within a minute: views of packages, and starts and completions."""
    fact = event_pb2.BookingFact
    for number in range(sessions):
        session = f"session-{dice.getrandbits(96):024x}"
        packages = 1 + (number % LONGER == 0) + (number % (LONGER * LONGER) == 0)
        for visit in range(packages):
            at_us = START_US - dice.randrange(60) * SECOND_US
            package = f"package-{dice.randrange(PACKAGES):032d}"
            viewed = event_pb2.PackageViewed(
                package_id=package, package_type="stay", location="Lisbon", vendor_id="vendor"
            )
            yield event_pb2.Event(time_us=at_us, session_id=session, package_viewed=viewed)
            if visit == 0:
                for step, transition in enumerate((fact.STARTED, fact.COMPLETED), 1):
                    booking = fact(
                        transition=transition,
                        booking_id=f"{dice.getrandbits(128):032x}",
                        package_id=package,
                        package_type="stay",
                        location="Lisbon",
                        vendor_id="vendor",
                    )
                    time_us = at_us + step * SECOND_US
                    yield event_pb2.Event(time_us=time_us, session_id=session, booking=booking)


def mix(dice: random.Random) -> Iterator[LogRecord]:
    """Yield batches as a replay sends them: a fifth of the events are views and facts, the others
    timings of queries.
    """
    facts = fact_events(dice, 10_000)
    timings = timing_events(dice, 320, 500, START_US)
    # Four events a session: the first of each is its view, at the time of the batch.
    while batch := list(islice(facts, 124)):
        newest_us = max(event.time_us for event in batch[::4]) + SECOND_US
        columns = next(timings, None)
        for events, count in ((batch, 124), ([columns] if columns is not None else [], 500)):
            payload = event_pb2.EventList(events=events).SerializeToString()
            yield LogRecord(0, newest_us, "batch", payload=payload, count=count)


def seconds(kind: type[State], records: list[LogRecord]) -> float:
    """Return the CPU time in which a state folds the records."""
    state = kind()
    gc.collect()
    began_s = time.process_time()
    for number, record in enumerate(records, 1):
        state.apply(replace(record, position=number, lane=LANE_FACTS))
    return time.process_time() - began_s


if __name__ == "__main__":
    sys.exit(main())
