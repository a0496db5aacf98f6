"""One group of commands in one transaction: lock, read the clock, load, decide, write.

This is the only place that changes bookings. All of a group is committed or nothing; an entry is
answered after the commit alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final
from uuid import UUID

from booking_service.domain.booking import BookingEvent
from booking_service.domain.commands import (
    ClaimPayments,
    Command,
    CreatePackage,
    OfPackage,
    StartBatch,
)
from booking_service.domain.decide import decide
from booking_service.domain.holds import Limits
from booking_service.domain.refusal import Reason, Refusal
from booking_service.domain.world import Answer, Changes, Decision, World
from booking_service.group_commit import facts, idempotency, load, save, stored_answers
from booking_service.group_commit.idempotency import RequestKey, StoredAnswer
from booking_service.group_commit.save import Origin
from booking_service.storage.database import Connection, Database
from booking_service.storage.sql import QueryGroup

REUSED: Final = Refusal(
    Reason.REQUEST_ID_REUSED, "this request_id came before with other content", {}
)

_commands = QueryGroup("commands")


@dataclass(slots=True, eq=False)
class Request:
    """A command, who asks, and what identifies a repeat.

    `key` is None for our own commands. `package_ids` are the packages to lock: unknown at first
    where the command names only a booking, empty for one that has no package.
    """

    command: Command
    caller: str
    key: RequestKey | None
    fingerprint: bytes
    package_ids: frozenset[UUID] = frozenset()

    def __post_init__(self) -> None:
        match self.command:
            case CreatePackage():
                self.package_ids = frozenset({self.command.package.id})
            case StartBatch():
                self.package_ids = frozenset(start.package_id for start in self.command.starts)
            case ClaimPayments():
                claimed = self.command.payments
                self.package_ids = frozenset(payment.package_id for payment in claimed)
            case command if isinstance(command, OfPackage):
                self.package_ids = frozenset({command.package_id})

    @property
    def origin(self) -> Origin:
        return Origin(self.caller, self.key.request_id if self.key else None)


@dataclass(slots=True)
class Result:
    """What a group came to: an outcome for each request but those whose package was locked."""

    outcomes: dict[Request, Answer | Refusal] = field(default_factory=dict)
    locked_out: list[Request] = field(default_factory=list)


class GroupCommit:
    """Carries out groups of requests against one database.

    `on_commit` is called after a commit that wrote facts.
    """

    def __init__(
        self, database: Database, limits: Limits, on_commit: Callable[[], None] = lambda: None
    ) -> None:
        self._database = database
        self._limits = limits
        self._on_commit = on_commit

    async def run(
        self, requests: Sequence[Request], *, lock_timeout_s: float, skip_locked: bool = False
    ) -> Result:
        """Carry out requests in their order, in one transaction.

        A request of a package that somebody else has locked waits for `lock_timeout_s` and then
        raises LockTimeout for all; with `skip_locked` it is left out and named in the result.
        Raises what Database raises; then nothing of the group has an answer, and nothing of it
        happened unless it was a ConnectionLost during the commit.
        """
        async with self._database.transaction() as connection:
            milliseconds = str(max(1, round(lock_timeout_s * 1000)))
            await connection.execute(_commands.set_lock_timeout, milliseconds)
            result, wrote_facts = await self._carry_out(connection, requests, skip_locked)
        if wrote_facts:
            self._on_commit()
        return result

    async def preview(self, request: Request) -> Decision:
        """What a request would come to now. Locks nothing, writes nothing and promises nothing."""
        async with self._database.transaction() as connection:
            packages = await load.read_packages(connection, request.package_ids)
            now = await self._database.clock.now(connection)
            stored = await load.load(connection, [request.command], packages, self._limits, now)
            now = load.after_all(stored, now)
            return decide(request.command, stored, now, self._limits)

    async def _carry_out(
        self, connection: Connection, requests: Sequence[Request], skip_locked: bool
    ) -> tuple[Result, bool]:
        result = Result()
        wanted = frozenset[UUID]().union(*(request.package_ids for request in requests))
        packages, locked = await load.lock_packages(connection, wanted, skip_locked=skip_locked)
        result.locked_out = [request for request in requests if request.package_ids & locked]
        requests = [request for request in requests if not request.package_ids & locked]
        users = load.users_of([request.command for request in requests], self._limits)
        await load.lock_users(connection, users)
        now = await self._database.clock.now(connection)
        kept = await idempotency.find_answers(
            connection, {request.key for request in requests if request.key}, now
        )
        new = []
        for request in requests:
            known = kept.get(request.key) if request.key else None
            if known is None:
                new.append(request)
            elif known.fingerprint == request.fingerprint:
                result.outcomes[request] = stored_answers.decode(known.answer)
            else:
                result.outcomes[request] = REUSED
        if not new:
            return result, False
        commands = [request.command for request in new]
        stored = await load.load(connection, commands, packages, self._limits, now)
        now = load.after_all(stored, now)
        return result, await self._decide_and_write(connection, new, stored, now, result)

    async def _decide_and_write(
        self,
        connection: Connection,
        requests: Sequence[Request],
        stored: World,
        now: datetime,
        result: Result,
    ) -> bool:
        world = World()
        world.merge(stored)
        made = Changes()
        audit: list[tuple[BookingEvent, Origin]] = []
        to_keep: dict[RequestKey, StoredAnswer] = {}
        for request in requests:
            decision = decide(request.command, world, now, self._limits)
            result.outcomes[request] = decision.outcome
            if decision.changes:
                world.merge(decision.changes)
                made.merge(decision.changes)
                audit += [
                    (event, request.origin)
                    for event in decision.changes.events
                    if isinstance(event, BookingEvent)
                ]
            refused = isinstance(decision.outcome, Refusal)
            if request.key and (decision.changes or not refused):
                answer = stored_answers.encode(decision.outcome)
                to_keep[request.key] = StoredAnswer(request.fingerprint, answer)
        if made:
            await save.save(connection, made, stored)
            await save.save_events(connection, audit, now)
        await idempotency.save_answers(connection, to_keep, now)
        if made.events:
            encoded = facts.encode(made.events, world.packages, now)
            await save.append_outbox(connection, len(made.events), encoded)
        return bool(made.events)
