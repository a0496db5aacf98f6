"""The queues of commands: the main one, one for heavy commands, and one per package that is locked.

Commands that arrive while a transaction runs form the next group, which is bounded by their number
and by the days that they cost. Light commands of one package keep their order, and so do those of
one request. Every command that is taken from a queue is answered or moved to another queue.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Final
from uuid import UUID

import structlog

from booking_service.domain.booking import Booking
from booking_service.group_commit.booking_packages import BookingPackages, Place
from booking_service.group_commit.command_queue import CommandQueue, turns
from booking_service.group_commit.group import GroupCommit, Result
from booking_service.group_commit.submission import (
    PendingSubmission,
    Submission,
    count_queries_of,
    overloaded,
    package_locked,
    traced,
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

TURN_LOCK_TIMEOUT_S: Final = 0.05
"""How long the main queue waits for a user, not at all for a package, and heavy turns for both."""


class CommandQueues:
    """Takes groups of commands from the queues and carries them out.

    One task serves the main queue and never waits for a locked package: it moves the commands of
    such a package to the package's queue, so that they delay no others. Another one serves the
    heavy commands, whose transactions run beside those of the main queue. `package_workers` tasks
    serve the package queues, one package at a time each, and wait up to `lock_timeout_s` for its
    lock. `on_done` is called with each command that was answered or dropped.
    """

    def __init__(
        self,
        commit: GroupCommit,
        booking_packages: BookingPackages,
        *,
        max_group: int,
        max_queued: int,
        max_wait_s: float,
        lock_timeout_s: float,
        package_workers: int,
        on_done: Callable[[PendingSubmission], None],
    ) -> None:
        self.lock_timeout_s = lock_timeout_s
        self._runner = _GroupRunner(commit, booking_packages)
        self._booking_packages = booking_packages
        self._max_group = max_group
        self._max_queued, self._max_wait_s = max_queued, max_wait_s
        self._package_workers = package_workers
        self._on_done = on_done
        self._main, self._heavy = CommandQueue(max_group, on_done), CommandQueue(max_group, on_done)
        self._packages: dict[UUID, CommandQueue] = {}
        # Packages of `_packages` that a worker is serving.
        self._served: set[UUID] = set()
        self._packages_wake, self._ended = asyncio.Event(), False
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Start the tasks that serve the queues."""
        self._tasks = [
            asyncio.create_task(self._serve(self._main), name="commands/main"),
            asyncio.create_task(self._serve(self._heavy), name="commands/heavy"),
            *(
                asyncio.create_task(self._serve_packages(), name=f"commands/packages-{number}")
                for number in range(1, self._package_workers + 1)
            ),
        ]

    async def stop(self) -> None:
        """Carry out what is queued, and end the tasks. Nothing may be appended any more."""
        main, heavy, *workers = self._tasks
        self._main.close()
        await main
        # Nothing moves to the heavy queue any more, and then nothing to that of a package.
        self._heavy.close()
        await heavy
        self._ended = True
        self._packages_wake.set()
        await asyncio.gather(*workers)

    @property
    def waiting(self) -> dict[str, int]:
        """How many commands wait in each kind of queue."""
        packages = sum(map(len, self._packages.values()))
        return {"main": len(self._main), "heavy": len(self._heavy), "package": packages}

    def admits(self, pending: PendingSubmission) -> bool:
        """Whether a new command may wait too; heavy ones take no place of light ones."""
        if pending.is_heavy:
            return len(self._heavy) < self._max_queued and self._heavy.has_room(pending.cost)
        oldest_s = self._main.oldest_arrival_s
        waited_s = 0.0 if oldest_s is None else pending.arrived_s - oldest_s
        light = len(self._main) + sum(map(len, self._packages.values()))
        return (
            light < self._max_queued
            and waited_s <= self._max_wait_s
            and self._main.has_room(pending.cost)
        )

    def append(self, pending: PendingSubmission) -> None:
        """Put a new command at the end of the main or of the heavy queue."""
        (self._heavy if pending.is_heavy else self._main).append(pending)

    async def _serve(self, queue: CommandQueue) -> None:
        while group := await queue.next_turn():
            await self._answer_always(self._run_group(group, queue), group)

    async def _serve_packages(self) -> None:
        while True:
            await self._packages_wake.wait()
            package_id = next((p for p in self._packages if p not in self._served), None)
            if package_id is not None:
                queue = self._packages[package_id]
                self._served.add(package_id)
                group = queue.take()
                await self._answer_always(self._run_package_group(group), group)
                self._served.discard(package_id)
                # A queue with more commands goes behind the other packages. An empty one goes
                # away: later commands of the package are carried out from the main queue again.
                del self._packages[package_id]
                if queue:
                    self._packages[package_id] = queue
                    self._packages_wake.set()
            elif self._ended:
                return
            else:
                self._packages_wake.clear()

    async def _run_group(self, group: list[PendingSubmission], queue: CommandQueue) -> None:
        """Carry out commands of the main or of the heavy queue."""
        refusals = await self._booking_packages.resolve([each.submission for each in group])
        known = []
        for pending in group:
            refusal = refusals.get(pending.submission)
            if refusal is not None:
                pending.answer(refusal)
            elif pending.is_heavy and queue is not self._heavy:
                # Its booking has many days.
                self._heavy.append(pending)
            else:
                known.append(pending)
        for turn in turns(known):
            await self._run_turn(turn, skip_locked=queue is self._main)

    async def _run_turn(self, turn: list[PendingSubmission], *, skip_locked: bool) -> None:
        runnable = []
        for pending in turn:
            if queued := pending.submission.package_ids & self._packages.keys():
                # Behind the earlier commands of the package.
                self._move(pending, min(queued))
            else:
                runnable.append(pending)
        try:
            locked_out = await self._runner.run(
                runnable, lock_timeout_s=TURN_LOCK_TIMEOUT_S, skip_locked=skip_locked
            )
        except LockTimeout:
            locked_out = runnable
        for pending in locked_out:
            self._move(pending, min(pending.submission.package_ids, default=None))

    async def _run_package_group(self, group: list[PendingSubmission]) -> None:
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
            await traced(group, work)
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

    def _move(self, pending: PendingSubmission, package_id: UUID | None) -> None:
        """Put a command at the end of a package's queue, or refuse it if there is no room."""
        if package_id is None:
            pending.answer(overloaded("a lock was not granted in time"))
            return
        new = CommandQueue(self._max_group, self._on_done)
        queue = self._packages.setdefault(package_id, new)
        if len(queue) >= self._max_group or not queue.has_room(pending.cost):
            pending.answer(package_locked())
            return
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
        if not group:
            return []
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
        booked = (each for each in result.outcomes.values() if isinstance(each, Booking))
        self._booking_packages.remember(
            {b.id: Place(b.package_id, (b.end_date - b.start_date).days) for b in booked}
        )
