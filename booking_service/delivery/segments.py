"""The relay's statements, on one connection that holds the right to lead: when the connection is
gone so is the right, and every statement fails.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Final, NamedTuple

from booking_service.storage.connection import OwnConnection, Record
from booking_service.storage.database import Database
from booking_service.storage.driver_errors import translate_driver_errors
from booking_service.storage.sql import QueryGroup
from metrics_service.client import NamedQuery
from metrics_service.client.host import OutBatch

ADVISORY_LOCK: Final = 0x66_61_72_65_68_6F_6C_64
"""Whoever holds this session lock leads; it spells "farehold"."""

BATCH_BYTES: Final = 256 * 1024
"""A segment is not larger, unless a single outbox row is."""

SEAL_ROWS: Final = 2_000
"""Outbox rows looked at for one segment."""

DROP_ROWS: Final = 500
"""Segments dropped at a time."""

# A leader asks several times a second: one that is silent for so long is frozen, and the server
# ends its session, and with it its lock.
SESSION_SETTINGS: Final = {"idle_session_timeout": "10000"}

_SQL = QueryGroup("outbox")


@dataclass(frozen=True, slots=True)
class Epoch:
    """One leadership: its number, and whom the numbers of the segments belong to."""

    number: int
    producer_id: str


class Kept(NamedTuple):
    """The oldest segment there is, None for none, and the number of the next one."""

    first_seq: int | None
    next_seq: int


class Segments:
    """Outbox rows become segments, and segments are read, acknowledged and dropped.

    Statements take turns on the one connection. Everything raised is of storage.database.
    """

    def __init__(self, database: Database, connection: OwnConnection) -> None:
        self._database = database
        self._connection = connection
        self._turn = asyncio.Lock()
        self._epoch = 0
        self._low_water = LowWater(0)

    @classmethod
    @asynccontextmanager
    async def connected(cls, database: Database) -> AsyncIterator[Segments]:
        """Connect; leaving closes the connection and ends its leadership."""
        connection = await database.connect("relay", settings=SESSION_SETTINGS)
        try:
            yield cls(database, connection)
        finally:
            connection.terminate()

    async def try_lead(self) -> bool:
        """Whether this connection leads from now on."""
        rows = await self._run(_SQL.try_lead, ADVISORY_LOCK)
        return bool(rows[0]["leads"])

    async def raise_epoch(self) -> Epoch:
        """Begin a new epoch; only for who has just begun to lead."""
        [row] = await self._run(_SQL.raise_epoch)
        self._epoch = row["epoch"]
        self._low_water = LowWater(row["low_water_id"])
        return Epoch(row["epoch"], str(row["producer_id"]))

    async def seal(self) -> Sealed:
        """Move outbox rows, BATCH_BYTES at most, into the next segment, if there are any."""
        async with self._turn:
            with translate_driver_errors():
                now = await self._database.clock.now(self._connection)
                [row] = await self._connection.fetch(
                    _SQL.seal, self._epoch, self._low_water.id, BATCH_BYTES, SEAL_ROWS, now
                )
        self._low_water.learn(
            highest_id=row["highest_id"],
            drained=not row["more"],
            oldest_running=row["oldest_running"],
            next_to_run=row["next_to_run"],
        )
        return Sealed(row["leading"], row["seq"], row["more"])

    async def kept(self) -> Kept:
        [row] = await self._run(_SQL.kept)
        return Kept(row["first_seq"], row["next_seq"])

    async def batch_hash(self, seq: int) -> bytes | None:
        """SHA-256 of a segment's batch; None where it is not kept."""
        rows = await self._run(_SQL.batch_hash, seq)
        return rows[0]["batch_hash"] if rows else None

    async def read(self, after_seq: int, limit: int) -> list[OutBatch]:
        """The segments that follow `after_seq`, in order."""
        rows = await self._run(_SQL.read_segments, after_seq, limit)
        return [OutBatch(row["seq"], row["count"], row["batch"]) for row in rows]

    async def acknowledge(self, seq: int) -> None:
        """The sink has stored every segment up to `seq`."""
        async with self._turn:
            with translate_driver_errors():
                now = await self._database.clock.now(self._connection)
                await self._connection.execute(_SQL.acknowledge, self._epoch, seq, now)

    async def pending(self) -> int:
        """Facts committed and not acknowledged."""
        [row] = await self._run(_SQL.pending)
        return int(row["facts"])

    async def drop_acknowledged(self, retention: timedelta) -> None:
        """Drop segments acknowledged longer ago than `retention`, DROP_ROWS at most."""
        async with self._turn:
            with translate_driver_errors():
                now = await self._database.clock.now(self._connection)
                await self._connection.execute(
                    _SQL.drop_acknowledged, self._epoch, now - retention, DROP_ROWS
                )

    async def _run(self, query: NamedQuery, *args: object) -> Sequence[Record]:
        async with self._turn:
            with translate_driver_errors():
                return await self._connection.fetch(query, *args)


class Sealed(NamedTuple):
    """What a seal came to: whether the epoch is still the current one, the number of the new
    segment if there is one, and whether more rows wait.
    """

    leading: bool
    seq: int | None
    more: bool


class LowWater:
    """An id that no outbox row has or will have, nor any smaller one, so that a look at the outbox
    need not wade through the remains of what was sealed.

    Ids are taken under way and committed in any order. When an id was seen, every smaller one had
    been taken, by a transaction that had begun to write (it holds the lock of its package by
    then). Once all transactions that ran at that time are over, and a later seal has taken what
    they left, nothing at or below that id can appear any more.
    """

    def __init__(self, id: int) -> None:
        self.id = id
        self._mark: tuple[int, int] | None = None

    def learn(
        self, *, highest_id: int | None, drained: bool, oldest_running: int, next_to_run: int
    ) -> None:
        """Take in a seal: the highest id it moved, whether it left nothing that it saw, and the
        transaction horizon (xmin, xmax) of its snapshot.
        """
        if self._mark is not None:
            mark_id, horizon = self._mark
            reached = drained or (highest_id is not None and highest_id >= mark_id)
            if oldest_running >= horizon and reached:
                self.id, self._mark = mark_id, None
        if self._mark is None and highest_id is not None and highest_id > self.id:
            self._mark = highest_id, next_to_run
