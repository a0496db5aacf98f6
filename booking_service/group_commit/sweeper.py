"""Expires lapsed holds, fulfils ended stays, drops old answers, applies early payments, goes on
with erasures, and keeps the ratings and the popularity of packages.

Nothing depends on it: a lapsed hold does not block a sale before it is swept. The sweeper only
finds packages; commands do the work under the package lock, so any number of processes may sweep at
once and each hold ends once.
"""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta
from typing import Final, Protocol
from zoneinfo import ZoneInfo

import structlog

from booking_service.domain.commands import Command, ExpireHolds, FulfilStays
from booking_service.domain.refusal import Reason, Refused
from booking_service.domain.world import Answer
from booking_service.group_commit import early_payments, scores
from booking_service.group_commit.erasure import Eraser
from booking_service.group_commit.idempotency import SLOT_S, idempotency_slot
from booking_service.group_commit.rooms import Rooms
from booking_service.storage.database import Database
from booking_service.storage.driver_errors import DatabaseError, DataRefused, LockTimeout
from booking_service.storage.sql import QueryGroup
from servicekit.background import BackgroundTask
from servicekit.errors import ApiError

MAX_PACKAGES: Final = 200
"""Packages in one sweep, the longest overdue first; the others follow in the next one."""

MAX_ROUNDS: Final = 50
"""Commands for one package in one sweep, each of which ends a bounded number of holds or stays."""

MAX_EARLY_PAYMENTS: Final = 200
"""Payments applied in one sweep that arrived before their booking."""

ERASING_S: Final = 1.0
"""The time in one sweep for erasures whose caller has gone away."""

CALLER: Final = "sweeper"

# No time zone is further ahead of UTC.
_MAX_UTC_OFFSET: Final = timedelta(hours=14)

_SWEEPER: Final = QueryGroup("sweeper")

log = structlog.get_logger()


class Commands(Protocol):
    """Submits commands: the command bus."""

    async def submit(self, command: Command, *, caller: str, rpc: str) -> Answer: ...


class Sweeper:
    """Sweeps every `interval_s`."""

    def __init__(
        self,
        database: Database,
        commands: Commands,
        rooms: Rooms | None = None,
        *,
        interval_s: float = 5.0,
    ) -> None:
        self._database = database
        self._commands = commands
        self._rooms = rooms or Rooms()
        self._interval_s = interval_s
        self._task = BackgroundTask("sweeper")
        # The package whose rating and popularity were brought up to date last.
        self._scored = scores.FIRST
        self._eraser = Eraser(database)

    def start(self) -> None:
        self._task.start(self._run())

    async def stop(self) -> None:
        """Stop sweeping; the bus still carries out a command that was submitted."""
        await self._task.stop()

    async def sweep(self) -> int:
        """Sweep once and return how many holds and stays ended. Raises what Database raises."""
        async with self._database.connection() as connection:
            now = await self._database.clock.now(connection)
            lapsed = await connection.fetch(_SWEEPER.lapsed_packages, now, MAX_PACKAGES)
            latest = (now + _MAX_UTC_OFFSET).date()
            ended = await connection.fetch(_SWEEPER.ended_packages, latest, MAX_PACKAGES)
            await self._rooms.measure(connection, now)
        # Before holds expire, since a paid hold is kept.
        await self._apply_early_payments(now)
        swept = 0
        for row in lapsed:
            swept += await self._end_all(ExpireHolds(row["package_id"]), row["due"])
        for row in ended:
            if row["end_date"] <= now.astimezone(ZoneInfo(row["time_zone"])).date():
                swept += await self._end_all(FulfilStays(row["package_id"]), row["due"])
        await self._eraser.go_on_with_all(ERASING_S)
        await self._empty_next_slot(now)
        async with self._database.connection() as connection:
            self._scored = await scores.refresh(connection, self._scored, now)
        return swept

    async def _end_all(self, command: ExpireHolds | FulfilStays, due: int) -> int:
        """End holds or stays of a package, of which so many are due, and return how many."""
        swept = 0
        for _ in range(MAX_ROUNDS):
            try:
                ended = await self._commands.submit(
                    command, caller=CALLER, rpc=type(command).__name__
                )
            except Refused as refused:
                # Overloaded, or the package is locked: the next sweep tries again.
                log.info("sweep_postponed", reason=str(refused.refusal.reason))
                break
            if not isinstance(ended, int):
                raise TypeError(f"{command} must be answered with a number")
            swept += ended
            if swept >= due or ended == 0:
                break
        return swept

    async def _apply_early_payments(self, now: datetime) -> None:
        async with self._database.connection() as connection:
            matched = await early_payments.find_matched(connection, MAX_EARLY_PAYMENTS)
            await early_payments.forget(connection, now)
        for early in matched:
            refusal = ""
            try:
                await self._commands.submit(
                    early.command, caller=early.caller, rpc=type(early.command).__name__
                )
            except Refused as refused:
                if refused.refusal.reason is Reason.OVERLOADED:
                    log.info("early_payments_postponed")
                    return
                refusal = str(refused.refusal.reason)
            except DataRefused:
                refusal = "INTERNAL"
            if refusal:
                log.warning("early_payment_refused", reason=refusal)
            async with self._database.connection() as connection:
                await early_payments.settle(connection, early.command, refusal)

    async def _empty_next_slot(self, now: datetime) -> None:
        """Empty the partition that is used next; its answers are all past their retention."""
        slot = idempotency_slot(now + timedelta(seconds=SLOT_S))
        async with self._database.connection() as connection:
            if await connection.fetchval(_SWEEPER.slot_in_use, slot):
                await connection.execute(_SWEEPER.empty_slot, slot)

    async def _run(self) -> None:
        while True:
            try:
                await self.sweep()
            except LockTimeout:
                log.info("sweep_postponed", reason="stored answers are being read")
            except (ApiError, DatabaseError) as error:
                log.warning("sweep_failed", reason=str(error))
            except Exception:
                # The next sweep tries again.
                log.exception("sweep_failed")
            await asyncio.sleep(self._interval_s)
