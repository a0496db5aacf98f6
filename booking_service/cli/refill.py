"""Sends facts to the metrics again, from the audit trail.

They go by way of the outbox, so that the lane sends and numbers them as any others, and the sink
gives no second effect to those that it has. Each step is a short transaction of bounded size that
also records how far it has come: what interrupts a refill loses nothing.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final
from uuid import UUID, uuid4

from booking_service.cli.rebuild import rebuilt_bookings, rebuilt_payments
from booking_service.domain.instants import microseconds
from booking_service.group_commit import facts
from booking_service.storage.connection import OwnConnection, Record
from booking_service.storage.database import Database
from booking_service.storage.driver_errors import translate_driver_errors
from booking_service.storage.sql import QueryGroup
from protos.tracking.v1.event_pb2 import Event, EventList, FactsRefill

MAX_STEP_ROWS: Final = 400
"""Rows of the audit trail that one transaction reads."""

MAX_PENDING_FACTS: Final = 5_000
"""While more facts than this are not acknowledged, no step is taken."""

PAUSE_SHARE: Final = 3
"""A step is followed by a pause of so many times its own length."""

POLL_S: Final = 0.2
REPORT_S: Final = 5.0

_NO_BOOKING: Final = (UUID(int=0), 0)
_NO_PAYMENT: Final = ("", "", "", "")

_REFILL: Final = QueryGroup("refill")
_OUTBOX: Final = QueryGroup("outbox")


@dataclass(frozen=True, slots=True)
class Progress:
    """Rows of the audit trail that were read, and what became of their facts.

    `rebuilt` is part of `sent`; `not_kept` are of before the audit trail kept facts, and were not
    sent.
    """

    part: str
    seen: int
    sent: int
    rebuilt: int
    not_kept: int


class LaneTroubleError(Exception):
    """No fact would be sent; one line."""


class Refill:
    """Carries out one refill on a connection of its own; `say` gets a line for people."""

    def __init__(
        self,
        database: Database,
        say: Callable[[str], None],
        *,
        step_rows: int = MAX_STEP_ROWS,
        monotonic_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._database = database
        self._say = say
        self._step_rows = step_rows
        self._monotonic_s = monotonic_s
        self._said_s = -REPORT_S

    async def run(self, from_time: datetime | None, *, rebuild: bool) -> Progress:
        """Send the facts since `from_time`, all for None, and wait for their acknowledgement.

        Goes on with a refill of the same kind that was interrupted. Raises LaneTroubleError where
        the lane is forked or fenced, and what Database raises.
        """
        connection = await self._database.connect("refill")
        try:
            with translate_driver_errors():
                await _check(connection)
                if await connection.fetchval(_REFILL.withholding):
                    await self._wait_for_room(connection, Progress("bookings", 0, 0, 0, 0))
                await self._begin(connection, from_time, rebuild)
                progress = await self._step(connection)
                while progress.part != "done":
                    await self._wait_for_room(connection, progress)
                    started_s = self._monotonic_s()
                    progress = await self._step(connection)
                    await asyncio.sleep(PAUSE_SHARE * (self._monotonic_s() - started_s))
                await self._wait_for_delivery(connection, progress)
                return progress
        finally:
            connection.terminate()

    async def _begin(
        self, connection: OwnConnection, from_time: datetime | None, rebuild: bool
    ) -> None:
        async with connection.transaction():
            row = await connection.fetchrow(_REFILL.lock)
            if row is not None and row["part"] != "done":
                if (row["from_time"], row["rebuild"]) == (from_time, rebuild):
                    self._say(f"goes on with the refill of {row['begin_time']:%F %T} UTC")
                    return
                self._say("begins anew, since the interrupted refill was of another kind")
            now = await self._database.clock.now(connection)
            await connection.execute(_OUTBOX.count_withheld)
            await connection.execute(_REFILL.begin, from_time, now, rebuild)

    async def _step(self, connection: OwnConnection) -> Progress:
        """Send the facts of the next rows and record it, in one transaction."""
        async with connection.transaction():
            [state] = await connection.fetch(_REFILL.lock)
            if state["part"] == "done":
                return _progress(state)
            page = await self._read(connection, state)
            wanted = [
                row
                for row in page
                if state["from_time"] is None or row["event_time"] >= state["from_time"]
            ]
            found = {_key(row): row["fact"] for row in wanted if row["fact"]}
            missing = [row for row in wanted if row["fact"] is None]
            made = await _rebuilt(connection, state["part"], missing) if state["rebuild"] else {}
            # In the order of the page: versions of one booking follow each other.
            sent = [fact for row in wanted if (fact := (found | made).get(_key(row)))]
            now = await self._database.clock.now(connection)
            since = min((row["event_time"] for row in wanted), default=now)
            for count, row in facts.outbox_rows(sent):
                await _append(connection, now, FactsRefill(facts=count), row, since=since)
            part, after = state["part"], [str(each) for each in _key(page[-1])] if page else []
            if len(page) < self._step_rows:
                part, after = ("payments" if part == "bookings" else "done"), []
            await connection.execute(
                _REFILL.advance,
                *(part, after, len(wanted), len(sent), len(made), len(missing) - len(made)),
            )
            if part == "done":
                await connection.execute(_REFILL.settle)
            [changed] = await connection.fetch(_REFILL.lock)
            if part == "done" and state["from_time"] is None:
                [lane] = await connection.fetch(_REFILL.producer)
                end = FactsRefill(
                    producer_id=str(lane["producer_id"]), not_kept=changed["not_kept"]
                )
                await _append(connection, now, end)
            return _progress(changed)

    async def _read(self, connection: OwnConnection, state: Record) -> Sequence[Record]:
        after = state["after"]
        if state["part"] == "bookings":
            last = (UUID(after[0]), int(after[1])) if after else _NO_BOOKING
            return await connection.fetch(_REFILL.read_bookings, *last, self._step_rows)
        last_payment = after or _NO_PAYMENT
        return await connection.fetch(_REFILL.read_payments, *last_payment, self._step_rows)

    async def _wait_for_room(self, connection: OwnConnection, progress: Progress) -> None:
        while True:
            room = await self._report(connection, progress) <= MAX_PENDING_FACTS
            if room and not await connection.fetchval(_REFILL.withholding):
                return
            await asyncio.sleep(POLL_S)

    async def _wait_for_delivery(self, connection: OwnConnection, progress: Progress) -> None:
        """Wait until the sink has stored everything that is in the outbox now."""
        [newest] = await connection.fetch(_REFILL.newest)
        seq = None
        while True:
            [row] = await connection.fetch(_REFILL.delivery, newest["id"])
            if seq is None and row["sealed"]:
                seq = row["seq"]
            if seq is not None and row["acked_seq"] >= seq:
                return
            await self._report(connection, progress)
            await asyncio.sleep(POLL_S)

    async def _report(self, connection: OwnConnection, progress: Progress) -> int:
        """Say how far it is, now and then; return how many facts are not acknowledged."""
        [row] = await connection.fetch(_OUTBOX.pending)
        pending: int = row["facts"]
        if self._monotonic_s() - self._said_s >= REPORT_S:
            await _check(connection)
            self._said_s = self._monotonic_s()
            self._say(
                f"{progress.seen} rows read, {progress.sent} facts sent, "
                f"{pending} facts wait for metrics_service"
            )
        return pending


async def _check(connection: OwnConnection) -> None:
    """Raise LaneTroubleError where facts would wait for a person."""
    for row in await connection.fetch(_REFILL.trouble):
        raise LaneTroubleError(f"the lane is {row['state']}, see lane show: {row['reason']}")


async def _append(
    connection: OwnConnection,
    now: datetime,
    refill: FactsRefill,
    facts_row: bytes = b"",
    *,
    since: datetime | None = None,
) -> None:
    """Write an outbox row of facts that are sent again, which says so; `since` is their oldest."""
    event = Event(event_id=uuid4().bytes, time_us=microseconds(now), facts_refill=refill)
    row = EventList(events=[event]).SerializeToString() + facts_row
    await connection.execute(_OUTBOX.append, 1 + refill.facts, row, since or now)


async def _rebuilt(
    connection: OwnConnection, part: str, missing: Sequence[Record]
) -> dict[tuple[object, ...], bytes]:
    if not missing:
        return {}
    rebuild = rebuilt_bookings if part == "bookings" else rebuilt_payments
    made = await rebuild(connection, missing)
    return {_key(row): fact for row, fact in zip(missing, made, strict=True) if fact}


def _key(row: Record) -> tuple[object, ...]:
    """Return the primary key of a row of the audit trail."""
    if "version" in row:
        return row["booking_id"], row["version"]
    return row["provider"], row["payment_id"], row["kind"], row["refund_id"]


def _progress(row: Record) -> Progress:
    return Progress(row["part"], row["seen"], row["sent"], row["rebuilt"], row["not_kept"])
