"""The group commit: whatever arrives while one transaction runs goes into the next.

Every change to packages and bookings passes here, in the order in which it arrives for its
package. Every queue is bounded, and every way out answers every caller.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import deque
from collections.abc import Callable, Coroutine
from typing import Any, Final
from uuid import UUID

import structlog

from booking_service.domain.booking import Booking
from booking_service.domain.commands import Command, OfBooking, RecordPayment
from booking_service.domain.holds import Limits
from booking_service.domain.refusal import Reason, Refusal, Refused, not_found
from booking_service.domain.world import Answer, Decision
from booking_service.group_commit import early_payments, load
from booking_service.group_commit.early_payments import EarlyPayment
from booking_service.group_commit.group import REUSED, GroupCommit, Request, Result
from booking_service.group_commit.idempotency import RequestKey
from booking_service.storage.database import (
    Conflict,
    ConnectionLost,
    Database,
    DatabaseUnavailable,
    DuplicateKey,
    LockTimeout,
)
from metrics_service.client.host import QueryCount, count_queries, share_queries

log = structlog.get_logger()

ATTEMPTS: Final = 3
"""How often a group is carried out at most."""

USER_LOCK_TIMEOUT_S: Final = 0.05
"""How long the main lane waits for a user's lock; for a package it does not wait at all."""

KNOWN_PACKAGES: Final = 65_536
"""Bookings whose package is remembered, to save its look-up."""

Outcome = Answer | Refusal | Exception


class Entry:
    """A request on its way, with those who wait for it. `counts` has the queries that were run for
    it and others together.
    """

    __slots__ = ("arrived_s", "counts", "future", "request", "started", "waiters")

    def __init__(self, request: Request, arrived_s: float) -> None:
        self.request = request
        self.arrived_s = arrived_s
        self.future: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        self.counts: list[QueryCount] = []
        self.waiters = 0
        self.started = False

    def answer(self, outcome: Outcome) -> None:
        if not self.future.done():
            self.future.set_result(outcome)


class CommandBus:
    """Takes commands, carries them out in groups, and answers each.

    The *main* lane takes everything and waits for no package; commands of one that somebody else
    has locked go to a *waiting* lane, so that nobody else waits for it. Each of the
    `waiting_lanes` waits for one package at a time, and needs a connection for it.
    `lock_timeout_s` is how long a command waits there; `max_wait_s` how old the oldest command of
    the main lane may be before new ones are refused. Refusals raise Refused; an unreachable
    database raises DatabaseUnavailable.
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
        waiting_lanes: int = 2,
        on_commit: Callable[[], None] = lambda: None,
        monotonic_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._database = database
        self._commit = GroupCommit(database, limits or Limits(), on_commit)
        self._max_group = max_group
        self._max_queued = max_queued
        self._max_wait_s = max_wait_s
        self._lock_timeout_s = lock_timeout_s
        self._waiting_lanes = waiting_lanes
        self._monotonic_s = monotonic_s
        self._main: deque[Entry] = deque()
        self._waiting: dict[UUID, deque[Entry]] = {}
        # Those of `_waiting` that a lane has in hand.
        self._waited_for: set[UUID] = set()
        self._inflight: dict[RequestKey, Entry] = {}
        self._packages: dict[UUID, UUID] = {}
        self._main_wakes = asyncio.Event()
        self._waiting_wakes = asyncio.Event()
        self._closed = False
        self._main_ended = False
        self._lanes: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Start the lanes."""
        self._lanes = [
            asyncio.create_task(self._run_main(), name="commands/main"),
            *(
                asyncio.create_task(self._run_waiting(), name=f"commands/waiting-{number}")
                for number in range(1, self._waiting_lanes + 1)
            ),
        ]

    async def stop(self) -> None:
        """Refuse new commands, carry out those that are queued, and end the lanes."""
        self._closed = True
        self._main_wakes.set()
        main, *waiting = self._lanes
        await main
        # Nothing can be handed over any more.
        self._main_ended = True
        self._waiting_wakes.set()
        await asyncio.gather(*waiting)

    @property
    def queued(self) -> int:
        """Commands that have not been answered."""
        return len(self._main) + sum(map(len, self._waiting.values()))

    async def submit(
        self,
        command: Command,
        *,
        caller: str,
        rpc: str,
        request_id: UUID | None = None,
        fingerprint: bytes = b"",
    ) -> Answer:
        """Carry out a command and answer once it is committed.

        A repeat - same caller, rpc and request_id - waits for the first or gets its answer;
        another `fingerprint` then is REQUEST_ID_REUSED. Cancelling ends the caller's waiting; the
        command is dropped only if its group has not begun.
        """
        key = RequestKey(caller, rpc, request_id) if request_id is not None else None
        entry = self._inflight.get(key) if key is not None else None
        if entry is None:
            entry = self._admit(Request(command, caller, key, fingerprint))
        elif entry.request.fingerprint != fingerprint:
            raise Refused(REUSED)
        entry.waiters += 1
        try:
            outcome = await asyncio.shield(entry.future)
        finally:
            share_queries(entry.counts)
            entry.waiters -= 1
            if entry.waiters == 0 and not entry.started:
                self._forget(entry)
        if isinstance(outcome, Refusal):
            raise Refused(outcome)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    async def preview(self, command: Command) -> Decision:
        """What a command would come to now, with the changes it would make: its outcome is an
        answer. Nothing is taken or written. Raises as submit.
        """
        request = Request(command, "", None, b"")
        entry = Entry(request, self._monotonic_s())
        outcome: Outcome
        if await self._with_packages([entry]):
            decision = await self._commit.preview(request)
            outcome = decision.outcome
        else:
            outcome = entry.future.result()
        if isinstance(outcome, Refusal):
            raise Refused(outcome)
        if isinstance(outcome, Exception):
            raise outcome
        return decision

    def _admit(self, request: Request) -> Entry:
        now_s = self._monotonic_s()
        oldest_s = now_s - self._main[0].arrived_s if self._main else 0.0
        if self._closed or self.queued >= self._max_queued or oldest_s > self._max_wait_s:
            raise Refused(_overloaded("the service has more to do than it can"))
        entry = Entry(request, now_s)
        if request.key is not None:
            self._inflight[request.key] = entry
        self._main.append(entry)
        self._main_wakes.set()
        return entry

    async def _run_main(self) -> None:
        while True:
            await self._main_wakes.wait()
            group = self._take(self._main)
            if group:
                await self._guarded(self._main_group(group), group)
            elif self._closed:
                return
            else:
                self._main_wakes.clear()

    async def _run_waiting(self) -> None:
        while True:
            await self._waiting_wakes.wait()
            package_id = next((p for p in self._waiting if p not in self._waited_for), None)
            if package_id is not None:
                entries = self._waiting[package_id]
                self._waited_for.add(package_id)
                group = self._take(entries)
                await self._guarded(self._waiting_group(group), group)
                self._waited_for.discard(package_id)
                # Behind the other packages, or gone: then its commands go to the main lane again.
                del self._waiting[package_id]
                if entries:
                    self._waiting[package_id] = entries
                    self._waiting_wakes.set()
            elif self._main_ended:
                return
            else:
                self._waiting_wakes.clear()

    async def _main_group(self, entries: list[Entry]) -> None:
        entries = await self._with_packages(entries)
        here = []
        for entry in entries:
            held_up = entry.request.package_ids & self._waiting.keys()
            if held_up:
                self._wait(entry, min(held_up))
            else:
                here.append(entry)
        if not here:
            return
        try:
            left = await self._attempts(here, lock_timeout_s=USER_LOCK_TIMEOUT_S, skip_locked=True)
        except LockTimeout:
            # A user's lock, held by another copy of the service.
            left = here
        for entry in left:
            self._wait(entry, min(entry.request.package_ids, default=None))

    async def _waiting_group(self, entries: list[Entry]) -> None:
        if not entries:
            return
        try:
            await self._attempts(entries, lock_timeout_s=self._lock_timeout_s)
        except LockTimeout:
            for entry in entries:
                entry.answer(_overloaded("the package is locked by somebody else"))

    async def _attempts(
        self, entries: list[Entry], *, lock_timeout_s: float, skip_locked: bool = False
    ) -> list[Entry]:
        """Carry out a group and answer it; gives back what was locked out. Raises LockTimeout."""
        _count_queries_of(entries)
        requests = {entry.request: entry for entry in entries}
        attempt = 1
        while True:
            try:
                result = await self._commit.run(
                    list(requests), lock_timeout_s=lock_timeout_s, skip_locked=skip_locked
                )
            except LockTimeout:
                raise
            except (Conflict, DuplicateKey, ConnectionLost) as error:
                if attempt == ATTEMPTS:
                    return await self._failed(entries, error, lock_timeout_s, skip_locked)
                await asyncio.sleep(random.uniform(0, 0.01 * attempt))  # noqa: S311 - no secret
                attempt += 1
            except Exception as error:  # Whatever it is, every caller gets an answer.
                return await self._failed(entries, error, lock_timeout_s, skip_locked)
            else:
                self._answered(requests, result)
                return [requests[request] for request in result.locked_out]

    async def _failed(
        self, entries: list[Entry], error: Exception, lock_timeout_s: float, skip_locked: bool
    ) -> list[Entry]:
        """Answers a group that failed for good; a bad command must hurt nobody else. Gives back
        what was locked out.
        """
        if len(entries) == 1 or isinstance(error, DatabaseUnavailable | Conflict):
            for entry in entries:
                entry.answer(error)
            return []
        log.warning("group_failed", commands=len(entries), error=str(error))
        left = []
        for entry in entries:
            try:
                left += await self._attempts(
                    [entry], lock_timeout_s=lock_timeout_s, skip_locked=skip_locked
                )
            except LockTimeout:
                entry.answer(_overloaded("the package is locked by somebody else"))
        return left

    async def _with_packages(self, entries: list[Entry]) -> list[Entry]:
        """Finds the packages of commands that name only a booking; answers those without one.

        What a provider said of a booking that is not known yet is kept before it is answered.
        """
        of_bookings = [
            (entry, entry.request.command)
            for entry in entries
            if isinstance(entry.request.command, OfBooking)
        ]
        unknown = {command.booking_id for _, command in of_bookings} - self._packages.keys()
        if unknown:
            async with self._database.connection() as connection:
                self._remember(await load.packages_of(connection, sorted(unknown)))
        early = [
            EarlyPayment(command, entry.request.caller)
            for entry, command in of_bookings
            if isinstance(command, RecordPayment) and command.booking_id not in self._packages
        ]
        if early:
            await early_payments.keep(self._database, early)
        for entry, command in of_bookings:
            package_id = self._packages.get(command.booking_id)
            if package_id is None:
                entry.answer(not_found("booking", command.booking_id))
            else:
                entry.request.package_ids = frozenset({package_id})
        return [entry for entry in entries if not entry.future.done()]

    async def _guarded(self, work: Coroutine[Any, Any, None], entries: list[Entry]) -> None:
        """Whatever happens in a lane, its callers are answered and the lane goes on."""
        _count_queries_of(entries)
        try:
            await work
        except Exception as error:
            if not isinstance(error, DatabaseUnavailable):
                log.exception("lane_failed")
            for entry in entries:
                entry.answer(error)
        finally:
            for entry in entries:
                if entry.future.done():
                    self._forget(entry)

    def _take(self, queue: deque[Entry]) -> list[Entry]:
        """The next group: its entries are no longer dropped, whoever gives up, but where they come
        to wait for a locked package.
        """
        group: list[Entry] = []
        while queue and len(group) < self._max_group:
            entry = queue.popleft()
            if entry.waiters > 0:
                entry.started = True
                group.append(entry)
            else:
                self._forget(entry)
        return group

    def _wait(self, entry: Entry, package_id: UUID | None) -> None:
        if package_id is None:
            entry.answer(_overloaded("a lock was not granted in time"))
            return
        queue = self._waiting.setdefault(package_id, deque())
        if len(queue) >= self._max_group:
            entry.answer(_overloaded("the package is locked by somebody else"))
            return
        queue.append(entry)
        self._waiting_wakes.set()

    def _answered(self, requests: dict[Request, Entry], result: Result) -> None:
        for request, outcome in result.outcomes.items():
            requests[request].answer(outcome)
            if isinstance(outcome, Booking):
                self._packages[outcome.id] = outcome.package_id
        self._remember({})

    def _remember(self, packages: dict[UUID, UUID]) -> None:
        self._packages |= packages
        while len(self._packages) > KNOWN_PACKAGES:
            del self._packages[next(iter(self._packages))]

    def _forget(self, entry: Entry) -> None:
        key = entry.request.key
        if key is not None and self._inflight.get(key) is entry:
            del self._inflight[key]


def _count_queries_of(entries: list[Entry]) -> None:
    """What this lane runs from now on is run for these."""
    queries = count_queries()
    for entry in entries:
        entry.counts.append(queries)


def _overloaded(message: str) -> Refusal:
    return Refusal(Reason.OVERLOADED, message, {})
