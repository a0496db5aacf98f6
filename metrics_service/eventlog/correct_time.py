"""Corrects the times of records that a wrong clock has dated ahead, in a log that nobody writes.

The log never goes back by itself, so that such records would hold its time ahead for as long as the
clock was wrong by.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import asyncpg

from metrics_service.eventlog import partitions, rows
from metrics_service.eventlog.writer import WRITER_LOCK
from metrics_service.storage.connections import check_ready, connect
from metrics_service.storage.sql import QueryGroup
from servicekit.clock import MAX_SKEW_US, MAX_STEP_US, wall_us

_LOG: Final = QueryGroup("log")
_CORRECT: Final = QueryGroup("correct")

TIMEOUT_S: Final = 3_600.0
"""For one statement: it may move every record of the log."""


class NotCorrectedError(Exception):
    """The times are left as they are; the text says why, in one line."""


@dataclass(frozen=True, slots=True)
class Correction:
    """What was done: how many records were dated ahead, by how much the newest one was, and whether
    the next start folds the whole log again.
    """

    records: int
    ahead: timedelta
    refold: bool


async def correct_time(dsn: str) -> Correction:
    """Date the records that are ahead of now up to now, with the time between them kept where it
    fits, all or none. The database's clock must be right.

    The state is folded again where the log still has its first record. Else the state goes back
    with the next record, and only the windows of the time before are lost. Raises
    NotCorrectedError, LogNotReadyError, and what the driver raises.
    """
    await check_ready(dsn)
    connection = await connect(dsn)
    try:
        if not await connection.fetchval(_LOG.try_lock, WRITER_LOCK):
            raise NotCorrectedError("a metrics_service writes the log: stop it first")
        async with connection.transaction():
            return await _correct(connection)
    finally:
        await connection.close()


async def _correct(connection: asyncpg.Connection[Any]) -> Correction:
    [(newest, now)] = await connection.fetch(_CORRECT.head)
    skew = timedelta(microseconds=rows.microseconds(now) - wall_us())
    if abs(skew) > timedelta(microseconds=MAX_SKEW_US):
        raise NotCorrectedError(
            f"the database's clock is {skew} from this machine's: set the wrong one right first"
        )
    ahead = newest - now
    if ahead <= timedelta(microseconds=MAX_STEP_US):
        raise NotCorrectedError("the log is not ahead of the database's clock")
    first = await connection.fetchval(_CORRECT.first_ahead, now)
    records = 0
    refold = False
    if first is not None:
        before = await connection.fetchval(_CORRECT.time_before, first)
        shift = (now, ahead, before or rows.EPOCH)
        for row in await connection.fetch(_CORRECT.days, *shift, timeout=TIMEOUT_S):
            await partitions.create(connection, row["day"].replace(tzinfo=UTC))
        moved = await connection.execute(_CORRECT.move, *shift, timeout=TIMEOUT_S)
        records = int(moved.rpartition(" ")[2])
        refold = await connection.fetchval(_CORRECT.forget_state, first) is not None
    await connection.execute(_CORRECT.date_head, now)
    await connection.execute(_CORRECT.date_producers, now)
    await _drop_empty(connection, now)
    return Correction(records, ahead, refold)


async def _drop_empty(connection: asyncpg.Connection[Any], now: datetime) -> None:
    last = partitions.days_from(now, partitions.DAYS_AHEAD)[-1]
    for day in await partitions.existing(connection):
        if day > last:
            await partitions.drop_empty(connection, day)
