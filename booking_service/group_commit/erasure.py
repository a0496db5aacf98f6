"""Erases users from the booking database, in steps that are transactions of bounded work.

A step over bookings holds the locks of their packages, as each group of commands does: what a group
writes of a booking afterwards has the pseudonym. So when no booking of the user is left, stored
answers and facts get the user by new bookings only, and are erased after them. If there are new
bookings at the end, all of it begins again with these; so each booking is erased with its answers
and facts, or is one of a new user with all of them.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple
from uuid import UUID, uuid4

import structlog

from booking_service.group_commit import erased, locks
from booking_service.storage.connection import Connection, Record
from booking_service.storage.database import Database
from booking_service.storage.driver_errors import Conflict, LockTimeout
from booking_service.storage.sql import QueryGroup

MAX_BOOKINGS: Final = 100
MAX_ANSWERS: Final = 1_000
MAX_OUTBOX_ROWS: Final = 100
MAX_SEGMENTS: Final = 16
"""Rows that one step reads."""

LOCK_TIMEOUT_S: Final = 1.0

MAX_ERASURES: Final = 10
"""Erasures that go on in one sweep."""

_ERASURE: Final = QueryGroup("erasure")
_COMMANDS: Final = QueryGroup("commands")
_NO_KEY: Final = UUID(int=0)
# How facts are read and written, and how many rows of them at a time.
_FACTS: Final = {
    "outbox": (_ERASURE.read_outbox, _ERASURE.outbox, MAX_OUTBOX_ROWS),
    "segments": (_ERASURE.read_segments, _ERASURE.segment, MAX_SEGMENTS),
}

log = structlog.get_logger()


class Progress(NamedTuple):
    """How far an erasure is, and of how many bookings it has been so far."""

    id: UUID
    done: bool
    bookings: int


class _User(NamedTuple):
    id: str
    pseudonym: str


class Eraser:
    """Erases users; any number of processes may do so at once, and each step has one effect."""

    def __init__(
        self, database: Database, *, monotonic_s: Callable[[], float] = time.monotonic
    ) -> None:
        self._database = database
        self._monotonic_s = monotonic_s

    async def erase(self, user_id: str, caller: str, within_s: float) -> Progress:
        """Delete the profile of a user and begin the erasure, or go on with the one under way, and
        take steps for within_s. Raises what Database raises.
        """
        async with self._database.transaction() as connection:
            await _limit_waits(connection)
            now = await self._database.clock.now(connection)
            made, pseudonym = uuid4(), f"erased-{uuid4().hex}"
            # Its last look for bookings either follows this transaction, or it has ended.
            erasure_id = await connection.fetchval(
                _ERASURE.begin, made, user_id, pseudonym, caller, now
            )
            # A profile that is being saved is seen here, and one that is saved later is a new one.
            await locks.lock_owners(connection, [f"user:{user_id}"])
            await connection.execute(_ERASURE.delete_profile, user_id)
        return await self.go_on(erasure_id, within_s)

    async def go_on(self, erasure_id: UUID, within_s: float) -> Progress:
        """Take at least one step, and further ones for within_s; one that has to wait for a lock
        is left for later.
        """
        until_s = self._monotonic_s() + within_s
        progress = Progress(erasure_id, done=False, bookings=0)
        while not progress.done:
            try:
                progress = await self._step(erasure_id)
            except (Conflict, LockTimeout):
                log.info("erasure_postponed", erasure_id=str(erasure_id))
                return progress
            if self._monotonic_s() >= until_s:
                break
        return progress

    async def go_on_with_all(self, within_s: float) -> None:
        """Go on with the erasures that are under way, oldest first, for within_s altogether."""
        found = await self._database.fetch(_ERASURE.under_way, MAX_ERASURES)
        for row in found:
            await self.go_on(row["id"], within_s / len(found))

    async def _step(self, erasure_id: UUID) -> Progress:
        async with self._database.transaction() as connection:
            await _limit_waits(connection)
            [state] = await connection.fetch(_ERASURE.lock, erasure_id)
            part, user = state["part"], _User(state["user_id"], state["pseudonym"])
            bookings = 0
            match part:
                case "bookings":
                    bookings = await _erase_bookings(connection, erasure_id, user)
                    after = [""] if bookings else []
                case "answers":
                    after = await _erase_answers(connection, state["after"], user)
                case "outbox" | "segments":
                    after = await _erase_facts(connection, part, state["after"], user)
                case _:
                    return Progress(erasure_id, done=True, bookings=state["bookings"])
            total = state["bookings"] + bookings
            if not after and part == "segments":
                await connection.execute(_ERASURE.delete_profile, user.id)
                if await connection.fetch(_ERASURE.find_bookings, user.id, 1):
                    part, after = "bookings", [""]
            if not after and part == "segments":
                now = await self._database.clock.now(connection)
                await connection.execute(_ERASURE.end, erasure_id, now)
                log.info("user_erased", erasure_id=str(erasure_id), bookings=total)
                return Progress(erasure_id, done=True, bookings=total)
            if not after:
                part = {"bookings": "answers", "answers": "outbox", "outbox": "segments"}[part]
            await connection.execute(_ERASURE.advance, erasure_id, part, after, bookings)
            return Progress(erasure_id, done=False, bookings=total)


async def _limit_waits(connection: Connection) -> None:
    await connection.execute(_COMMANDS.set_lock_timeout, f"{LOCK_TIMEOUT_S * 1000:.0f}")


async def _erase_bookings(connection: Connection, erasure_id: UUID, user: _User) -> int:
    """Erase the user in the next bookings and all that belongs to them; returns how many."""
    found = await connection.fetch(_ERASURE.find_bookings, user.id, MAX_BOOKINGS)
    if not found:
        return 0
    ids = [row["id"] for row in found]
    await locks.lock_packages(connection, {row["package_id"] for row in found}, skip_locked=False)
    reasons = sorted(erased.KEPT_REASONS)
    await connection.execute(_ERASURE.bookings, ids, user.pseudonym, reasons)
    await connection.execute(_ERASURE.reviews, ids, user.pseudonym)
    await connection.execute(_ERASURE.refunds, ids, reasons)
    await connection.execute(_ERASURE.payments, ids, erased.FAILURE_CODE)
    await connection.execute(_ERASURE.early_payments, ids, erased.FAILURE_CODE)
    await connection.execute(_ERASURE.name_it, str(erasure_id))
    trail = await connection.fetch(_ERASURE.read_events, ids)
    facts = [_without(row["fact"], user) for row in trail]
    keys = [row["booking_id"] for row in trail], [row["version"] for row in trail]
    await connection.execute(_ERASURE.events, *keys, facts, reasons)
    paid = await connection.fetch(_ERASURE.read_payment_events, ids)
    await connection.execute(
        _ERASURE.payment_events,
        *([row[name] for row in paid] for name in ("provider", "payment_id", "kind", "refund_id")),
        [_without(row["fact"], user) for row in paid],
    )
    return len(ids)


def _without(fact: bytes | None, user: _User) -> bytes | None:
    return erased.fact(fact, *user) if fact else fact


async def _erase_answers(connection: Connection, after: Sequence[str], user: _User) -> list[str]:
    last = (after[0], after[1], UUID(after[2]), int(after[3])) if after else ("", "", _NO_KEY, -1)
    page = await connection.fetch(
        _ERASURE.read_answers, *last, MAX_ANSWERS, erased.in_answer(user.id)
    )
    answers = {index: row["answer"] for index, row in enumerate(page) if row["answer"]}
    texts = frozenset[UUID]().union(*(erased.texts_of(each) for each in answers.values()))
    own: set[UUID] = set()
    if texts:
        rows = await connection.fetch(_ERASURE.bookings_of, sorted(texts), user.pseudonym)
        own = {row["id"] for row in rows}
    left = {
        index: made
        for index, stored in answers.items()
        if (made := erased.answer(stored, *user, own)) != stored
    }
    names = ("slot", "caller", "rpc", "request_id")
    await connection.execute(
        _ERASURE.answers,
        *([page[index][name] for index in left] for name in names),
        list(left.values()),
    )
    return _key(page, MAX_ANSWERS, "caller", "rpc", "request_id", "slot")


async def _erase_facts(
    connection: Connection, part: str, after: Sequence[str], user: _User
) -> list[str]:
    """Erase the user in the next facts of the outbox or the segments."""
    read, write, limit = _FACTS[part]
    last = int(after[0]) if after else 0
    await connection.execute(_ERASURE.lock_relay)
    page = await connection.fetch(read, last, limit, user.id.encode())
    for row in page:
        if row["facts"] is not None:
            left = erased.facts(row["facts"], *user)
            if left != row["facts"]:
                await connection.execute(write, row["number"], left)
    return _key(page, limit, "number")


def _key(page: Sequence[Record], limit: int, *names: str) -> list[str]:
    """Return the key of the last row of a page; empty where no rows can follow."""
    return [str(page[-1][name]) for name in names] if len(page) == limit else []
