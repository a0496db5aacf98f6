"""One group of commands in one transaction: lock, read the clock, load, decide, write.

This is the only place that changes bookings. A group is committed as a whole or not at all, and its
callers are answered after the commit only.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final
from uuid import UUID

from booking_service.domain.decide import decide
from booking_service.domain.holds import Limits
from booking_service.domain.refusal import Reason, Refusal
from booking_service.domain.world import Answer, Changes, Decision, World
from booking_service.group_commit import facts, idempotency, locks, save, stored_answers
from booking_service.group_commit.idempotency import RequestKey, StoredAnswer
from booking_service.group_commit.load import load, monotonic_now, read_packages
from booking_service.group_commit.rooms import GROWING, Rooms
from booking_service.group_commit.save import Origins
from booking_service.group_commit.submission import Submission
from booking_service.storage.connection import Connection
from booking_service.storage.database import Database
from booking_service.storage.sql import QueryGroup

REUSED: Final = Refusal(
    Reason.REQUEST_ID_REUSED, "this request_id was used before with other content", {}
)

_COMMANDS: Final = QueryGroup("commands")


@dataclass(slots=True)
class Done:
    """What was committed since the start: groups, their commands, and those of the newest one."""

    groups: int = 0
    commands: int = 0
    newest_group: int = 0


@dataclass(slots=True)
class Result:
    """An outcome for each submission, but for those whose package another process has locked."""

    outcomes: dict[Submission, Answer | Refusal] = field(default_factory=dict)
    locked_out: list[Submission] = field(default_factory=list)


class GroupCommit:
    """Carries out groups of submissions against one database, and counts what is `done`.

    `on_commit` is called after a commit that wrote facts.
    """

    def __init__(
        self,
        database: Database,
        limits: Limits,
        on_commit: Callable[[], None] = lambda: None,
        rooms: Rooms | None = None,
    ) -> None:
        self._database = database
        self._limits = limits
        self._on_commit = on_commit
        self._rooms = rooms or Rooms()
        self.done = Done()

    async def run(
        self, submissions: Sequence[Submission], *, lock_timeout_s: float, skip_locked: bool = False
    ) -> Result:
        """Carry out submissions in their order, in one transaction.

        Where another process has locked a package, it waits for `lock_timeout_s` and then raises
        LockTimeout for the group; with `skip_locked` the package's submissions are left out and
        returned as `locked_out`. Raises what Database raises; then nothing was changed, unless a
        ConnectionLost came during the commit.
        """
        async with self._database.transaction() as connection:
            milliseconds = str(max(1, round(lock_timeout_s * 1000)))
            await connection.execute(_COMMANDS.set_lock_timeout, milliseconds)
            result, wrote_facts = await self._carry_out(connection, submissions, skip_locked)
        if wrote_facts:
            self._on_commit()
        self.done.groups += 1
        self.done.commands += len(result.outcomes)
        self.done.newest_group = len(result.outcomes)
        return result

    async def preview(self, submission: Submission) -> Decision:
        """Decide on a submission as of now, without locks and without writing anything."""
        async with self._database.transaction() as connection:
            packages = await read_packages(connection, submission.package_ids)
            now = await self._database.clock.now(connection)
            stored = await load(connection, [submission.command], packages, self._limits, now)
            now = monotonic_now(stored, now)
            return decide(submission.command, stored, now, self._limits)

    async def _carry_out(
        self, connection: Connection, submissions: Sequence[Submission], skip_locked: bool
    ) -> tuple[Result, bool]:
        result = Result()
        wanted = frozenset[UUID]().union(*(each.package_ids for each in submissions))
        packages, locked = await locks.lock_packages(connection, wanted, skip_locked=skip_locked)
        result.locked_out = [
            submission for submission in submissions if submission.package_ids & locked
        ]
        submissions = [
            submission for submission in submissions if not submission.package_ids & locked
        ]
        owners = locks.owners_of([each.command for each in submissions], self._limits)
        await locks.lock_owners(connection, owners)
        now = await self._database.clock.now(connection)
        kept = await idempotency.find_answers(
            connection, {each.key for each in submissions if each.key}, now
        )
        new = []
        for submission in submissions:
            known = kept.get(submission.key) if submission.key else None
            if known is None:
                growing = isinstance(submission.command, GROWING)
                refusal = self._rooms.refuse(submission.command) if growing else None
                if refusal is None:
                    new.append(submission)
                else:
                    result.outcomes[submission] = refusal
            elif known.fingerprint == submission.fingerprint:
                result.outcomes[submission] = stored_answers.decode(known.answer)
            else:
                result.outcomes[submission] = REUSED
        if not new:
            return result, False
        commands = [each.command for each in new]
        stored = await load(connection, commands, packages, self._limits, now)
        now = monotonic_now(stored, now)
        return result, await self._decide_and_write(connection, new, stored, now, result)

    async def _decide_and_write(
        self,
        connection: Connection,
        submissions: Sequence[Submission],
        stored: World,
        now: datetime,
        result: Result,
    ) -> bool:
        world = World()
        world.merge(stored)
        made = Changes()
        origins = Origins()
        to_keep: dict[RequestKey, StoredAnswer] = {}
        for submission in submissions:
            decision = decide(submission.command, world, now, self._limits)
            result.outcomes[submission] = decision.outcome
            if decision.changes:
                world.merge(decision.changes)
                made.merge(decision.changes)
                origins.add(submission.origin, decision.changes)
            refused = isinstance(decision.outcome, Refusal)
            if submission.key and (decision.changes or not refused):
                answer = stored_answers.encode(decision.outcome)
                to_keep[submission.key] = StoredAnswer(submission.fingerprint, answer)
        encoded = facts.encode(made.events, world.packages, now)
        if made:
            await save.save(connection, made, stored, origins, encoded)
            await save.save_events(connection, made, origins, encoded, now)
        await idempotency.save_answers(connection, to_keep, now)
        for count, row in facts.outbox_rows(encoded):
            await save.append_outbox(connection, count, row, now)
        return bool(encoded)
