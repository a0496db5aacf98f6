"""A log of sessions that view, book, fail, come back and pay late, and the table that its states
are stored in.
"""

from __future__ import annotations

import random
from collections.abc import Iterable
from functools import partial
from typing import Any

import asyncpg

from metrics_service.state.fold import VERSION, State
from metrics_service.state.record import LogRecord
from metrics_service.storage import session_rows
from metrics_service.storage.checkpoints import CheckpointStore
from protos.tracking.v1 import event_pb2
from tests.metrics.state.log import MINUTE, SECOND, Fact, Flow, Log

ROWS = """
SELECT number, name, entry_us, steps, abandoned, ahead, package_id, last_us, events, parts,
    ARRAY(SELECT booking_id FROM session_booking WHERE session_booking.number = session.number
        ORDER BY booking_id) AS bookings
FROM session ORDER BY number
"""


_STEPS = (Fact.STARTED, Fact.COMPLETED, Fact.CONFIRMED, Fact.CANCELLED)


def busy_log(dice: random.Random, batches: int = 60, sessions: int = 25) -> Log:
    """A log of some hours, in which sessions begin, end and return."""
    log = Log(seed=dice.randrange(1 << 30))
    steps = [0] * sessions
    for _ in range(batches):
        log.now_us += dice.choice([1, SECOND, 20 * SECOND, MINUTE, 3 * MINUTE])
        log.append(*(_event(log, dice, steps) for _ in range(dice.randrange(1, 12))))
        if dice.random() < 0.2:
            log.jump(log.now_us + dice.choice([SECOND, 10 * SECOND, 45 * MINUTE]))
    return log


def _event(log: Log, dice: random.Random, steps: list[int]) -> event_pb2.Event:
    number = dice.randrange(len(steps))
    session = f"session-{number}" if number % 3 else ""
    user = f"CANARY-user-{number}" if number % 6 else ""
    # Also late, and some further ahead than the rings take.
    ahead = 40 * MINUTE if number % 7 == 0 else 0
    time_us = log.now_us + dice.choice([0, 0, 0, -SECOND, -2 * MINUTE, ahead])
    kind = dice.randrange(8)
    if kind < 2:
        return log.view(time_us, session, user)
    if kind == 2:
        step = dice.choice([Flow.ERROR, Flow.ABANDON])
        return log.flow(step, time_us, session, user=user, reason="DECLINED")
    steps[number] += 1
    transition = _STEPS[steps[number] % 4 - 1]
    booking = f"booking-{number}-{steps[number] // 4}"
    return log.fact(transition, time_us, session, booking=booking, user=user)


class Table:
    """The checkpoint and the sessions of a database."""

    def __init__(self, dsn: str) -> None:
        self.store = CheckpointStore(dsn)
        self.state = State()
        self._replace = True

    async def restore(self) -> None:
        """Go on as a process that starts: from the newest checkpoint."""
        checkpoint = await self.store.load()
        self.state = State.load(checkpoint.rows) if checkpoint.position else State()
        self._replace = True

    def fold(self, records: Iterable[LogRecord]) -> None:
        for record in records:
            self.state.apply(record)

    async def save(self, *, noted: bool = True) -> None:
        """Store the state; without `noted` the answer to the commit is lost."""
        await self.store.save(
            self.state.position,
            VERSION,
            list(self.state.dump()),
            [],
            replace=True,
            writer_epoch=0,
            also=[partial(session_rows.write, changes=self.state.journeys.changes)],
        )
        if noted:
            self.state.journeys.saved()


async def stored(dsn: str) -> list[dict[str, Any]]:
    """The rows of the table, with the events of a session in one part."""
    connection = await asyncpg.connect(dsn)
    try:
        rows = [dict(row) for row in await connection.fetch(ROWS)]
    finally:
        await connection.close()
    return [row | {"parts": "".join(row["parts"])} for row in rows]
