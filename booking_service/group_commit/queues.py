"""The queues of commands: one main queue, and one queue per package that another process locked.

Commands that arrive while a transaction runs form the next group. Commands of one package keep
their order, and every command that is taken from a queue is answered or moved to another queue.
"""

from __future__ import annotations

import asyncio
import random
from collections import deque
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Final
from uuid import UUID

import structlog

from booking_service.domain.booking import Booking
from booking_service.group_commit.booking_packages import BookingPackages
from booking_service.group_commit.group import GroupCommit, Result
from booking_service.group_commit.submission import (
    PendingSubmission,
    Submission,
    count_queries_of,
    overloaded,
    package_locked,
)
from booking_service.storage.driver_errors import (
    Conflict,
    ConnectionLost,
    DatabaseUnavailable,
    DuplicateKey,
    LockTimeout,
)

log = structlog.get_logger()

MAX_ATTEMPTS: Final = 3
"""How often a group is tried."""

USER_LOCK_TIMEOUT_S: Final = 0.05
"""How long the main queue waits for a user's lock; it does not wait for a package at all."""


class CommandQueues:
    """Takes groups of commands from the queues and carries them out.

    One task serves the main queue and never waits for a locked package: it moves the commands of
    such a package to the package's queue, so that they delay no others. `package_workers` tasks
    serve the package queues, one package at a time each, and wait up to `lock_timeout_s` for its
    lock. `on_done` is called with each command that was answered or dropped.
    """

    def __init__(
        self,
        commit: GroupCommit,
        booking_packages: BookingPackages,
        *,
        max_group: int,
        lock_timeout_s: float,
        package_workers: int,
        on_done: Callable[[PendingSubmission], None],
    ) -> None:
        self.lock_timeout_s = lock_timeout_s
        self._runner = _GroupRunner(commit, booking_packages)
        self._booking_packages = booking_packages
        self._max_group = max_group
        self._package_workers = package_workers
        self._on_done = on_done
        self._main: deque[PendingSubmission] = deque()
        self._packages: dict[UUID, deque[PendingSubmission]] = {}
        # Packages of `_packages` that a worker is serving.
        self._served: set[UUID] = set()
        self._main_wakes = asyncio.Event()
        self._packages_wake = asyncio.Event()
        self._closed = False
        self._main_ended = False
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Start the tasks that serve the queues."""
        self._tasks = [
            asyncio.create_task(self._serve_main(), name="commands/main"),
            *(
                asyncio.create_task(self._serve_packages(), name=f"commands/packages-{number}")
                for number in range(1, self._package_workers + 1)
            ),
        ]

    async def stop(self) -> None:
        """Carry out what is queued, and end the tasks. Nothing may be appended any more."""
        self._closed = True
        self._main_wakes.set()
        main, *workers = self._tasks
        await main
        # Nothing moves to a package queue any more.
        self._main_ended = True
        self._packages_wake.set()
        await asyncio.gather(*workers)

    def __len__(self) -> int:
        """Return how many commands wait in all queues."""
        return len(self._main) + sum(map(len, self._packages.values()))

    @property
    def oldest_arrival_s(self) -> float | None:
        """When the oldest command of the main queue arrived; None for an empty queue."""
        return self._main[0].arrived_s if self._main else None

    def append(self, pending: PendingSubmission) -> None:
        """Put a command at the end of the main queue."""
        self._main.append(pending)
        self._main_wakes.set()

    async def _serve_main(self) -> None:
        while True:
            await self._main_wakes.wait()
            group = self._take(self._main)
            if group:
                await self._answer_always(self._run_main_group(group), group)
            elif self._closed:
                return
            else:
                self._main_wakes.clear()

    async def _serve_packages(self) -> None:
        while True:
            await self._packages_wake.wait()
            package_id = next((p for p in self._packages if p not in self._served), None)
            if package_id is not None:
                queue = self._packages[package_id]
                self._served.add(package_id)
                group = self._take(queue)
                await self._answer_always(self._run_package_group(group), group)
                self._served.discard(package_id)
                # A queue with more commands goes behind the other packages. An empty one goes
                # away: later commands of the package are carried out from the main queue again.
                del self._packages[package_id]
                if queue:
                    self._packages[package_id] = queue
                    self._packages_wake.set()
            elif self._main_ended:
                return
            else:
                self._packages_wake.clear()

    async def _run_main_group(self, group: list[PendingSubmission]) -> None:
        refusals = await self._booking_packages.resolve([each.submission for each in group])
        runnable = []
        for pending in group:
            refusal = refusals.get(pending.submission)
            queued = pending.submission.package_ids & self._packages.keys()
            if refusal is not None:
                pending.answer(refusal)
            elif queued:
                # Behind the earlier commands of the package.
                self._move(pending, min(queued))
            else:
                runnable.append(pending)
        if not runnable:
            return
        try:
            locked_out = await self._runner.run(
                runnable, lock_timeout_s=USER_LOCK_TIMEOUT_S, skip_locked=True
            )
        except LockTimeout:
            # Another process holds a user's lock.
            locked_out = runnable
        for pending in locked_out:
            self._move(pending, min(pending.submission.package_ids, default=None))

    async def _run_package_group(self, group: list[PendingSubmission]) -> None:
        if not group:
            return
        try:
            await self._runner.run(group, lock_timeout_s=self.lock_timeout_s)
        except LockTimeout:
            for pending in group:
                pending.answer(package_locked())

    async def _answer_always(
        self, work: Coroutine[Any, Any, None], group: list[PendingSubmission]
    ) -> None:
        """Run the work of a group; if it fails, answer the group with the error and go on."""
        count_queries_of(group)
        try:
            await work
        except Exception as error:
            if not isinstance(error, DatabaseUnavailable):
                log.exception("command_queue_failed")
            for pending in group:
                # One that was moved is still to be carried out, and is answered then.
                if pending.started:
                    pending.answer(error)
        finally:
            for pending in group:
                if pending.future.done():
                    self._on_done(pending)

    def _take(self, queue: deque[PendingSubmission]) -> list[PendingSubmission]:
        """Take the next group from a queue; drop commands without a waiting caller."""
        group: list[PendingSubmission] = []
        while queue and len(group) < self._max_group:
            pending = queue.popleft()
            if pending.waiters > 0:
                pending.started = True
                group.append(pending)
            else:
                self._on_done(pending)
        return group

    def _move(self, pending: PendingSubmission, package_id: UUID | None) -> None:
        """Put a command at the end of a package's queue, or refuse it if there is no room."""
        if package_id is None:
            pending.answer(overloaded("a lock was not granted in time"))
            return
        queue = self._packages.setdefault(package_id, deque())
        if len(queue) >= self._max_group:
            pending.answer(package_locked())
            return
        pending.started = False
        queue.append(pending)
        self._packages_wake.set()


class _GroupRunner:
    """Carries out a group, again after a conflict, and answers its commands."""

    def __init__(self, commit: GroupCommit, booking_packages: BookingPackages) -> None:
        self._commit = commit
        self._booking_packages = booking_packages

    async def run(
        self,
        group: Sequence[PendingSubmission],
        *,
        lock_timeout_s: float,
        skip_locked: bool = False,
    ) -> list[PendingSubmission]:
        """Answer the commands of a group, and return those that were locked out.

        Raises LockTimeout, and then none is answered.
        """
        count_queries_of(group)
        by_submission = {pending.submission: pending for pending in group}
        attempt = 1
        while True:
            try:
                result = await self._commit.run(
                    list(by_submission), lock_timeout_s=lock_timeout_s, skip_locked=skip_locked
                )
            except LockTimeout:
                raise
            except (Conflict, DuplicateKey, ConnectionLost) as error:
                if attempt == MAX_ATTEMPTS:
                    return await self._failed(group, error, lock_timeout_s, skip_locked)
                await asyncio.sleep(random.uniform(0, 0.01 * attempt))  # noqa: S311 - no secret
                attempt += 1
            except Exception as error:
                return await self._failed(group, error, lock_timeout_s, skip_locked)
            else:
                self._answer(by_submission, result)
                return [by_submission[submission] for submission in result.locked_out]

    async def _failed(
        self,
        group: Sequence[PendingSubmission],
        error: Exception,
        lock_timeout_s: float,
        skip_locked: bool,
    ) -> list[PendingSubmission]:
        """Answer a group that failed, and return the commands that were locked out.

        If one command may be the cause, each is carried out alone, so that the others succeed.
        """
        if len(group) == 1 or isinstance(error, DatabaseUnavailable | Conflict):
            for pending in group:
                pending.answer(error)
            return []
        log.warning("group_failed", commands=len(group), error=str(error))
        locked_out = []
        for pending in group:
            try:
                locked_out += await self.run(
                    [pending], lock_timeout_s=lock_timeout_s, skip_locked=skip_locked
                )
            except LockTimeout:
                pending.answer(package_locked())
        return locked_out

    def _answer(self, by_submission: dict[Submission, PendingSubmission], result: Result) -> None:
        for submission, outcome in result.outcomes.items():
            by_submission[submission].answer(outcome)
        self._booking_packages.remember(
            {
                outcome.id: outcome.package_id
                for outcome in result.outcomes.values()
                if isinstance(outcome, Booking)
            }
        )
