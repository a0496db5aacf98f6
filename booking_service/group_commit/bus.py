"""The command bus: admits commands, joins repeats of one request, and returns each outcome.

Every change to packages and bookings passes here. The number of commands that wait is bounded.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from uuid import UUID

from booking_service.domain.commands import Command
from booking_service.domain.holds import Limits
from booking_service.domain.refusal import Refusal, Refused
from booking_service.domain.world import Answer, Decision
from booking_service.group_commit.booking_packages import BookingPackages
from booking_service.group_commit.group import REUSED, GroupCommit
from booking_service.group_commit.idempotency import RequestKey
from booking_service.group_commit.queues import CommandQueues
from booking_service.group_commit.rooms import Rooms
from booking_service.group_commit.submission import PendingSubmission, Submission, overloaded
from booking_service.storage.database import Database
from metrics_service.client.host import share_queries
from servicekit.tracing.joint import waiting


class CommandBus:
    """Carries out commands in groups, and returns the outcome of each once it is committed.

    A command waits at most `lock_timeout_s` for a package that another process has locked;
    `package_workers` such packages are waited for at once, each on a connection. New light commands
    are refused with OVERLOADED when `max_queued` of them wait, or when the oldest one in the main
    queue has waited for `max_wait_s`; heavy ones when as many of them wait, and both by the days
    that they cost. `on_commit` is called after a commit that wrote facts.

    Refusals raise Refused; an unreachable database raises DatabaseUnavailable.
    """

    def __init__(
        self,
        database: Database,
        *,
        limits: Limits | None = None,
        max_group: int = 256,
        max_queued: int = 2048,
        max_wait_s: float = 0.5,
        lock_timeout_s: float = 2.0,
        package_workers: int = 2,
        on_commit: Callable[[], None] = lambda: None,
        rooms: Rooms | None = None,
        monotonic_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self.rooms = rooms or Rooms()
        self._commit = GroupCommit(database, limits or Limits(), on_commit, self.rooms)
        self.done = self._commit.done
        self._booking_packages = BookingPackages(database, self.rooms)
        self.queues = CommandQueues(
            self._commit,
            self._booking_packages,
            max_group=max_group,
            max_queued=max_queued,
            max_wait_s=max_wait_s,
            lock_timeout_s=lock_timeout_s,
            package_workers=package_workers,
            on_done=self._forget,
        )
        self._monotonic_s = monotonic_s
        self._inflight: dict[RequestKey, PendingSubmission] = {}
        self._closed = False

    def start(self) -> None:
        """Start to carry out commands."""
        self.queues.start()

    async def stop(self) -> None:
        """Refuse new commands, and carry out those that are queued."""
        self._closed = True
        await self.queues.stop()

    async def submit(
        self,
        command: Command,
        *,
        caller: str,
        rpc: str,
        request_id: UUID | None = None,
        fingerprint: bytes = b"",
        batch_cost: int = 0,
    ) -> Answer:
        """Carry out a command and return its answer once it is committed.

        A repeat - same caller, rpc and request_id - waits for the first or gets its answer; one
        with another `fingerprint` is refused with REQUEST_ID_REUSED. `batch_cost` is the cost of
        all commands of the caller's request, where it has several. Cancelling only stops the caller
        waiting; the command is dropped if its group has not begun and no caller is left.
        """
        key = RequestKey(caller, rpc, request_id) if request_id is not None else None
        pending = self._inflight.get(key) if key is not None else None
        if pending is None:
            pending = self._admit(Submission(command, caller, key, fingerprint), batch_cost)
        elif pending.submission.fingerprint != fingerprint:
            raise Refused(REUSED)
        pending.waiters += 1
        pending.spans += waiting()
        try:
            outcome = await asyncio.shield(pending.future)
        finally:
            share_queries(pending.counts)
            pending.waiters -= 1
            if pending.waiters == 0 and not pending.started:
                self._forget(pending)
        if isinstance(outcome, Refusal):
            raise Refused(outcome)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    async def preview(self, command: Command) -> Decision:
        """Decide on a command without locking or changing anything; the outcome is an answer.

        Raises as `submit` does.
        """
        submission = Submission(command, "", None, b"")
        refusals = await self._booking_packages.resolve([submission])
        if submission in refusals:
            raise Refused(refusals[submission])
        decision = await self._commit.preview(submission)
        if isinstance(decision.outcome, Refusal):
            raise Refused(decision.outcome)
        return decision

    def _admit(self, submission: Submission, batch_cost: int) -> PendingSubmission:
        pending = PendingSubmission(submission, self._monotonic_s(), batch_cost=batch_cost)
        if self._closed or not self.queues.admits(pending):
            raise Refused(overloaded("the service has more to do than it can"))
        if self.rooms.answers_full and submission.key is not None:
            raise Refused(self.rooms.refuse_answer())
        if submission.key is not None:
            self._inflight[submission.key] = pending
        self.queues.append(pending)
        return pending

    def _forget(self, pending: PendingSubmission) -> None:
        key = pending.submission.key
        if key is not None and self._inflight.get(key) is pending:
            del self._inflight[key]
