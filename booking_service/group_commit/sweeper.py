"""Ends what time has ended: lapsed holds, stays that are over, answers kept long enough; and
applies the payments that came before their booking.

Hygiene, not correctness: a lapsed hold blocks no sale before the sweeper comes. It only finds the
packages; commands do the work under the package lock, so that any number of copies may sweep at
once and each hold ends once.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Final, Protocol
from zoneinfo import ZoneInfo

import structlog

from booking_service.domain.commands import Command, ExpireHolds, FulfilStays
from booking_service.domain.refusal import Reason, Refused
from booking_service.domain.world import Answer
from booking_service.group_commit import early_payments
from booking_service.group_commit.idempotency import SLOT_S, idempotency_slot
from booking_service.group_commit.load import SWEEP_LIMIT
from booking_service.storage.database import Database
from booking_service.storage.driver_errors import DatabaseError, DataRefused, LockTimeout
from booking_service.storage.sql import QueryGroup
from servicekit.errors import ApiError

PACKAGES_A_SWEEP: Final = 200
"""Packages looked after in one sweep, the longest overdue first; the others come next time."""

ROUNDS_A_PACKAGE: Final = 20
"""Commands for one package in one sweep, each ending SWEEP_LIMIT holds or stays."""

EARLY_PAYMENTS_A_SWEEP: Final = 200
"""Payments applied in one sweep that came before their booking."""

CALLER: Final = "sweeper"

# No place on earth is further ahead of UTC.
_FURTHEST_AHEAD: Final = timedelta(hours=14)

_SQL = QueryGroup("sweeper")

log = structlog.get_logger()


class Commands(Protocol):
    """Where commands are submitted: the command bus."""

    async def submit(self, command: Command, *, caller: str, rpc: str) -> Answer: ...


class Sweeper:
    """Sweeps every `interval_s`."""

    def __init__(self, database: Database, commands: Commands, *, interval_s: float = 5.0) -> None:
        self._database = database
        self._commands = commands
        self._interval_s = interval_s
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._task = asyncio.create_task(self._run(), name="sweeper")

    async def stop(self) -> None:
        """End; a command under way is finished by the bus."""
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task
            self._task = None

    async def sweep(self) -> int:
        """Sweep once and answer how many holds and stays ended. Raises what the database does."""
        async with self._database.connection() as connection:
            now = await self._database.clock.now(connection)
            lapsed = await connection.fetch(_SQL.lapsed_packages, now, PACKAGES_A_SWEEP)
            latest = (now + _FURTHEST_AHEAD).date()
            ended = await connection.fetch(_SQL.ended_packages, latest, PACKAGES_A_SWEEP)
        # Before holds end: a paid one is kept.
        await self._apply_early_payments(now)
        swept = 0
        for row in lapsed:
            swept += await self._end_all(ExpireHolds(row["package_id"]))
        for row in ended:
            if row["end_date"] <= now.astimezone(ZoneInfo(row["time_zone"])).date():
                swept += await self._end_all(FulfilStays(row["package_id"]))
        await self._empty_next_slot(now)
        return swept

    async def _end_all(self, command: ExpireHolds | FulfilStays) -> int:
        swept = 0
        for _ in range(ROUNDS_A_PACKAGE):
            try:
                ended = await self._commands.submit(
                    command, caller=CALLER, rpc=type(command).__name__
                )
            except Refused as refused:
                # Overloaded, or the package is locked: the next sweep comes anyway.
                log.info("sweep put off", reason=str(refused.refusal.reason))
                break
            if not isinstance(ended, int):
                raise TypeError(f"{command} is answered with a number")
            swept += ended
            if ended < SWEEP_LIMIT:
                break
        return swept

    async def _apply_early_payments(self, now: datetime) -> None:
        async with self._database.connection() as connection:
            matched = await early_payments.find_matched(connection, EARLY_PAYMENTS_A_SWEEP)
            await early_payments.forget(connection, now)
        for early in matched:
            refusal = ""
            try:
                await self._commands.submit(
                    early.command, caller=early.caller, rpc=type(early.command).__name__
                )
            except Refused as refused:
                if refused.refusal.reason is Reason.OVERLOADED:
                    log.info("early payments put off")
                    return
                refusal = str(refused.refusal.reason)
            except DataRefused:
                refusal = "INTERNAL"
            if refusal:
                log.warning("early payment refused", reason=refusal)
            async with self._database.connection() as connection:
                await early_payments.settle(connection, early.command, refusal)

    async def _empty_next_slot(self, now: datetime) -> None:
        """Empties the partition whose turn comes next: its answers are older than they are kept."""
        slot = idempotency_slot(now + timedelta(seconds=SLOT_S))
        async with self._database.connection() as connection:
            if await connection.fetchval(_SQL.slot_in_use, slot):
                await connection.execute(_SQL.empty_slot, slot)

    async def _run(self) -> None:
        while True:
            try:
                await self.sweep()
            except LockTimeout:
                log.info("sweep put off", reason="answers are being looked up")
            except (ApiError, DatabaseError) as error:
                log.warning("sweep failed", reason=str(error))
            except Exception:
                # The next one may do better.
                log.exception("sweep failed")
            await asyncio.sleep(self._interval_s)
