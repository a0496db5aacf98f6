"""Reads and writes segments on the one connection whose session lock is the right to lead.

If the connection is lost, so is the right to lead, and every statement fails.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, NamedTuple

from booking_service.storage.connection import OwnConnection, Record
from booking_service.storage.database import Database
from booking_service.storage.driver_errors import translate_driver_errors
from booking_service.storage.sql import QueryGroup
from metrics_service.client import NamedQuery
from metrics_service.client.host import ForkError, OutBatch

ADVISORY_LOCK: Final = 0x66_61_72_65_68_6F_6C_64
"""The session lock that makes a process lead; its bytes spell "farehold"."""

MAX_BATCH_BYTES: Final = 256 * 1024
"""The size of a segment, unless a single outbox row is larger."""

MAX_SEAL_ROWS: Final = 2_000
"""Outbox rows that one segment is made of."""

MAX_DROP_ROWS: Final = 500
"""Segments dropped at a time."""

# A leader sends statements several times a second. If one sends none for so long it is frozen: the
# server ends its session, and with it its lock.
SESSION_SETTINGS: Final = {"idle_session_timeout": "10000"}

_OUTBOX: Final = QueryGroup("outbox")


@dataclass(frozen=True, slots=True)
class Epoch:
    """One leadership: its number, the producer that numbers the segments, and the producers whose
    place that has taken after forks.
    """

    number: int
    producer_id: str
    succeeds: tuple[str, ...] = ()


class Kept(NamedTuple):
    """The number of the oldest kept segment, None if there is none, that of the next one, the sink
    that takes them, None before the first, and how many facts that one has.
    """

    first_seq: int | None
    next_seq: int
    sink_id: str | None
    acked_facts: int


class Trouble(NamedTuple):
    """Why no fact is sent: "forked" or "fenced", and one line for people."""

    state: str
    reason: str


class Weight(NamedTuple):
    """The bytes of the facts that are not acknowledged; whether new ones are withheld meanwhile;
    and how many are, until a refill, and from what time on.
    """

    bytes: int
    withholding: bool
    withheld: int
    withheld_from: datetime | None


class Segments:
    """Seals outbox rows into segments, and reads, acknowledges and drops segments.

    Statements take turns on the one connection. Errors are those of `storage.driver_errors`.
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
        """Connect; leaving closes the connection and ends the leadership."""
        connection = await database.connect("relay", settings=SESSION_SETTINGS)
        try:
            yield cls(database, connection)
        finally:
            connection.terminate()

    async def try_lead(self) -> bool:
        """Try to lead with this connection, and return whether it does from now on."""
        rows = await self._run(_OUTBOX.try_lead, ADVISORY_LOCK)
        return bool(rows[0]["leads"])

    async def raise_epoch(self) -> Epoch:
        """Begin a new epoch; to be called once, after `try_lead` succeeded."""
        [row] = await self._run(_OUTBOX.raise_epoch)
        self._epoch = row["epoch"]
        self._low_water = LowWater(row["low_water_id"])
        return Epoch(row["epoch"], str(row["producer_id"]), tuple(map(str, row["succeeds"])))

    async def raise_above(self, epoch: int) -> int | None:
        """Begin an epoch above this one and return it; None if another process leads."""
        async with self._turn:
            with translate_driver_errors():
                rows = await self._connection.fetch(_OUTBOX.raise_above, self._epoch, epoch)
            if not rows:
                return None
            self._epoch = rows[0]["epoch"]
            return self._epoch

    async def seal(self) -> Sealed:
        """Move outbox rows into the next segment, if there are any."""
        async with self._turn:
            with translate_driver_errors():
                now = await self._database.clock.now(self._connection)
                [row] = await self._connection.fetch(
                    _OUTBOX.seal,
                    self._epoch,
                    self._low_water.id,
                    MAX_BATCH_BYTES,
                    MAX_SEAL_ROWS,
                    now,
                )
        self._low_water.learn(
            highest_id=row["highest_id"],
            drained=not row["more"],
            oldest_running=row["oldest_running"],
            next_to_run=row["next_to_run"],
        )
        return Sealed(row["leading"], row["seq"], row["more"])

    async def kept(self) -> Kept | None:
        """Return what is kept; None if the epoch is not the current one any more."""
        rows = await self._run(_OUTBOX.kept, self._epoch)
        if not rows:
            return None
        [row] = rows
        sink_id = None if row["sink_id"] is None else str(row["sink_id"])
        return Kept(row["first_seq"], row["next_seq"], sink_id, row["acked_facts"])

    async def agree(self, resume_after: int, sink_id: str | None, events: int | None) -> None:
        """Record that the lane goes on with this sink after that batch; its trouble is over."""
        await self.acknowledge(resume_after)
        await self._run(_OUTBOX.agree, self._epoch, sink_id, resume_after, events)

    async def report(self, trouble: Trouble, fork: ForkError) -> None:
        """Record why no fact is sent, and what the sink said of itself."""
        async with self._turn:
            with translate_driver_errors():
                now = await self._database.clock.now(self._connection)
                said = (fork.sink_id, fork.resume_after, fork.events)
                await self._connection.execute(
                    _OUTBOX.report_trouble, self._epoch, *trouble, now, *said
                )

    async def batch_hashes(self, seq: int) -> list[bytes]:
        """Return the SHA-256 of a segment's batch; None if it is not kept."""
        rows = await self._run(_OUTBOX.batch_hashes, seq)
        return list(rows[0]["hashes"]) if rows else []

    async def read(self, after_seq: int, limit: int) -> list[OutBatch]:
        """Return the segments that follow `after_seq`, in order."""
        rows = await self._run(_OUTBOX.read_segments, self._epoch, after_seq, limit)
        return [OutBatch(row["seq"], row["count"], row["batch"]) for row in rows]

    async def acknowledge(self, seq: int) -> None:
        """Record that the sink has stored every segment up to `seq`."""
        async with self._turn:
            with translate_driver_errors():
                now = await self._database.clock.now(self._connection)
                await self._connection.execute(_OUTBOX.acknowledge, self._epoch, seq, now)

    async def pending(self) -> int:
        """Count the facts committed and not acknowledged."""
        [row] = await self._run(_OUTBOX.pending)
        return int(row["facts"])

    async def keep_within(self, max_bytes: int) -> Weight:
        """Withhold new facts while those that wait take more than `max_bytes`, until half of that
        is left.
        """
        [row] = await self._run(_OUTBOX.weigh)
        waiting, withholding = int(row["bytes"]), row["withholding"]
        if row["uncounted"]:
            await self._run(_OUTBOX.count_withheld)
        wanted = waiting > (max_bytes // 2 if withholding else max_bytes)
        if wanted != withholding:
            await self._run(_OUTBOX.withhold, self._epoch, wanted)
        return Weight(waiting, wanted, int(row["withheld_facts"]), row["withheld_from"])

    async def withhold_beyond(self, max_bytes: int) -> None:
        """Withhold new facts if the outbox takes more than `max_bytes`: nobody seals it."""
        await self._run(_OUTBOX.withhold_beyond, max_bytes)

    async def drop_acknowledged(self, retention: timedelta, max_bytes: int) -> None:
        """Drop segments acknowledged longer ago than `retention`, and the oldest acknowledged ones
        while all segments take more than `max_bytes`; MAX_DROP_ROWS at most.
        """
        async with self._turn:
            with translate_driver_errors():
                now = await self._database.clock.now(self._connection)
                await self._connection.execute(
                    _OUTBOX.drop_acknowledged,
                    self._epoch,
                    now - retention,
                    MAX_DROP_ROWS,
                    max_bytes,
                )

    async def _run(self, query: NamedQuery, *args: object) -> Sequence[Record]:
        async with self._turn:
            with translate_driver_errors():
                return await self._connection.fetch(query, *args)


class Sealed(NamedTuple):
    """The result of a seal.

    `leading` says whether the epoch is still the current one; `seq` is the number of the new
    segment, if any; `more` says whether more rows wait.
    """

    leading: bool
    seq: int | None
    more: bool


class LowWater:
    """The id up to which no outbox row exists or can still appear.

    A read of the outbox starts above it, and so does not scan the dead rows of earlier seals.

    Transactions take ids in one order and commit in another. When an id was seen, every smaller
    one had been taken, by a transaction that was already writing and held its package locks. Once
    all transactions that ran at that time have ended, and a later seal has moved their rows, no
    row at or below that id can appear any more.
    """

    def __init__(self, id: int) -> None:
        self.id = id
        self._mark: tuple[int, int] | None = None

    def learn(
        self, *, highest_id: int | None, drained: bool, oldest_running: int, next_to_run: int
    ) -> None:
        """Advance after a seal.

        Takes the highest id that the seal moved, whether it left none of the rows it saw, and the
        transaction horizon (xmin, xmax) of its snapshot.
        """
        if self._mark is not None:
            mark_id, horizon = self._mark
            reached = drained or (highest_id is not None and highest_id >= mark_id)
            if oldest_running >= horizon and reached:
                self.id, self._mark = mark_id, None
        if self._mark is None and highest_id is not None and highest_id > self.id:
            self._mark = highest_id, next_to_run
