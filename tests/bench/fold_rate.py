"""The cost of the fold on one core: facts, timings in columns, memory of a live session, answers
and a checkpoint.

Run with `python -m tests.bench.fold_rate`.
"""

from __future__ import annotations

import gc
import random
import time
import tracemalloc
from collections.abc import Iterator
from dataclasses import replace
from itertools import islice
from typing import Final

from metrics_service.state.fold import State
from metrics_service.state.record import LogRecord
from protos.tracking.v1 import event_pb2
from protos.tracking.v1.tracking_pb2 import LANE_FACTS, LANE_TELEMETRY

SECOND_US: Final = 1_000_000
START_US: Final = 1_800_000_000 * SECOND_US
SESSIONS: Final = 20_000
SESSION_US: Final = 20_000
TIMINGS_BATCHES: Final = 400
TIMINGS_PER_EVENT: Final = 500
OPERATIONS: Final = 12


def main() -> None:
    """Print each figure on a line."""
    dice = random.Random(1)
    records = list(_fact_records(dice))
    state = State()
    facts_s = _seconds(state, records)
    events = 4 * SESSIONS
    print(
        f"facts and views: {events / facts_s:,.0f} events/s ({facts_s / events * 1e6:.1f} us each)"
    )

    records = list(_timing_records(dice))
    timings = TIMINGS_BATCHES * TIMINGS_PER_EVENT
    timings_s = _seconds(state, records, state.position)
    print(f"timings as columns: {timings / timings_s:,.0f} timings/s")
    mixed_s = 0.2 * facts_s / events + 0.8 * timings_s / timings
    print(f"20% facts, 80% timings: {1 / mixed_s:,.0f} events/s")
    print(f"one live session: {_bytes_per_session(dice):,.0f} bytes")
    for name, window_us in (("all", None), ("1 h", 3600 * SECOND_US)):
        print(f"GetMetrics, {name}: {_answer_ms(state, window_us):.2f} ms")
    began = time.process_time()
    rows = list(state.dump())
    spent_ms = (time.process_time() - began) * 1e3
    size = sum(len(data) for _, _, data in rows)
    print(f"checkpoint: {len(rows)} rows, {size / 1e6:.1f} MB, {spent_ms:.0f} ms")
    began = time.process_time()
    State.load(rows)
    print(f"load: {(time.process_time() - began) * 1e3:.0f} ms")


def _seconds(state: State, records: list[LogRecord], after: int = 0) -> float:
    gc.collect()
    began = time.process_time()
    for number, record in enumerate(records, start=after + 1):
        state.apply(
            LogRecord(
                number,
                record.received_at_us,
                "batch",
                instance="bench",
                lane=record.lane,
                payload=record.payload,
            )
        )
    return time.process_time() - began


def _answer_ms(state: State, window_us: int | None) -> float:
    """The median, each time at a new revision."""
    spent = []
    for _ in range(21):
        state.apply(LogRecord(state.position + 1, state.as_of_us + 1, "tick"))
        began = time.process_time()
        state.metrics(window_us)
        spent.append(time.process_time() - began)
    return sorted(spent)[10] * 1e3


def _bytes_per_session(dice: random.Random) -> float:
    state = State()
    tracemalloc.start()
    records = _fact_records(dice)
    before, _ = tracemalloc.get_traced_memory()
    for number, record in enumerate(records, start=1):
        state.apply(replace(record, position=number))
    # As a checkpoint leaves it.
    state.journeys.saved()
    # The keys that recognise duplicates are bounded, and do not grow with the sessions.
    for seen in (state._tables.seen_events, state._tables.seen_bookings):
        seen._newer, seen._older = {}, {}
    del records
    gc.collect()
    after, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return (after - before) / SESSIONS


def _fact_records(dice: random.Random) -> Iterator[LogRecord]:
    """Sessions of a view, a start, a completion and a confirmation, 200 events per batch."""
    events = fact_events(dice, SESSIONS)
    while batch := list(islice(events, 200)):
        newest_us = max(event.time_us for event in batch[::4])
        yield _record(batch, newest_us + SECOND_US, LANE_FACTS)


def fact_events(
    dice: random.Random, sessions: int, start_us: int = START_US
) -> Iterator[event_pb2.Event]:
    """Yield a view, a start, a completion and a confirmation of each session, one in 20 ms."""
    steps = event_pb2.BookingFact
    for number in range(sessions):
        at_us = start_us + number * SESSION_US
        session = f"session-{dice.getrandbits(96):024x}"
        booking = f"{dice.getrandbits(128):032x}"
        package = f"package-{number % 40}"
        yield event_pb2.Event(
            event_id=dice.randbytes(16),
            time_us=at_us,
            session_id=session,
            package_viewed=event_pb2.PackageViewed(package_id=package, user_id="user"),
        )
        for step, transition in enumerate((steps.STARTED, steps.COMPLETED, steps.CONFIRMED), 1):
            time_us = at_us + step * dice.randint(1, 60) * SECOND_US
            fact = steps(
                transition=transition,
                booking_id=booking,
                version=step,
                package_id=package,
                vendor_id="vendor",
                package_type="stay",
                location="Lisbon",
                user_id="user",
                quantity=1,
                hold_time_us=at_us + SECOND_US,
                complete_time_us=at_us + 2 * SECOND_US,
                confirm_time_us=time_us if step == 3 else 0,
                amount_minor=12_345,
                currency="EUR",
            )
            yield event_pb2.Event(
                event_id=dice.randbytes(16), time_us=time_us, session_id=session, booking=fact
            )


def _timing_records(dice: random.Random) -> Iterator[LogRecord]:
    start_us = START_US + SESSIONS * SESSION_US
    for event in timing_events(dice, TIMINGS_BATCHES, TIMINGS_PER_EVENT, start_us):
        yield _record([event], event.time_us + SECOND_US, LANE_TELEMETRY)


def timing_events(
    dice: random.Random, events: int, count: int, start_us: int
) -> Iterator[event_pb2.Event]:
    """Yield the definitions of OPERATIONS statements, then events of `count` timings each."""
    fingerprints = [dice.getrandbits(64) for _ in range(OPERATIONS)]
    definitions = event_pb2.QueryDefinitions(
        definitions=[
            event_pb2.QueryDefinition(fingerprint=f, model="bookings", operation=f"op{n}")
            for n, f in enumerate(fingerprints)
        ]
    )
    yield event_pb2.Event(time_us=start_us, query_definitions=definitions)
    for number in range(events):
        base_us = start_us + number * SECOND_US // 100
        timings = event_pb2.QueryTimings(
            fingerprints=fingerprints,
            query=[min(int(dice.expovariate(0.4)), OPERATIONS - 1) for _ in range(count)],
            base_time_us=base_us,
            start_delta_us=[dice.randint(0, 900) for _ in range(count)],
            pool_wait_us=[dice.choice((0, 3, 40, dice.randint(1, 900))) for _ in range(count)],
            connect_us=[0] * count,
            cancel_wait_us=[0] * count,
            execute_us=[int(dice.lognormvariate(7, 0.8)) for _ in range(count)],
            rows=[1] * count,
            batch_size=[0] * count,
            outcome=[event_pb2.QUERY_OUTCOME_OK] * count,
            sqlstate=[0] * count,
            internal=[dice.random() < 0.3 for _ in range(count)],
        )
        yield event_pb2.Event(event_id=dice.randbytes(16), time_us=base_us, query_timings=timings)


def _record(events: list[event_pb2.Event], received_at_us: int, lane: int) -> LogRecord:
    payload = event_pb2.EventList(events=events).SerializeToString()
    return LogRecord(0, received_at_us, "batch", lane=lane, payload=payload, count=len(events))


if __name__ == "__main__":
    main()
